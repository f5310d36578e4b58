"""Results of evaluations for tests."""

from dataclasses import replace

from eval.flickr30k import TYPES
from eval.protocols import BoxProtocol, PointingProtocol
from eval.result import (
    BoxScores,
    Composition,
    Coverage,
    Gamma,
    Manifest,
    MeanPrecision,
    Measured,
    MeasuredPhotos,
    PointingScores,
    Reached,
    Recall,
    Result,
    Subset,
    Timing,
    TriedGamma,
    TypeAccuracy,
    TypeScores,
)

ZHANG18 = BoxProtocol(truth="union", iou="inclusive", suppression=0.5, parsed_only=False, per_type=True, small=0.25)
MDETR_ANY = BoxProtocol(truth="any", iou="continuous", suppression=None, parsed_only=False, per_type=False, small=0.25)
POINTING_MG = PointingProtocol(unit="phrase", target="any", point="map", least_area=0.05, least_area_of="union")


def measured(share):
    return Measured(share, (share - 0.02, share + 0.02))


def example_subset(share, instances=3239):
    one_type = TypeScores(
        instances=9,
        recall=Recall(at_1=Measured(0.1), at_5=Measured(0.222), at_10=Measured(0.3), bound=Measured(0.4)),
        precision=0.05,
        raw_precision=0.04,
    )
    return Subset(
        instances=instances,
        photos=247,
        recall=Recall(
            at_1=measured(share), at_5=measured(share + 0.2), at_10=measured(share + 0.3), bound=measured(0.95)
        ),
        recall_at_1_iou_75=measured(0.125),
        mean_iou=measured(0.375),
        types=dict.fromkeys(TYPES, one_type),
        type_mean_recall_5=0.541,
        precision=MeanPrecision(group=0.152, phrase=None),
        raw_precision=MeanPrecision(group=0.119, phrase=None),
        labels=1800,
    )


def example_boxes(share, protocol=ZHANG18):
    return BoxScores(
        protocol=protocol,
        all=example_subset(share),
        small=example_subset(share / 2, 1700),
        large=example_subset(share + 0.1, 1539),
    )


def example_pointing():
    return PointingScores(
        protocol=POINTING_MG,
        instances=3100,
        photos=247,
        accuracy=Measured(0.701, (0.68, 0.72)),
        centre=0.608,
        types={"people": TypeAccuracy(instances=5, accuracy=0.8)},
    )


DATA = MeasuredPhotos(
    name="flickr30k",
    split=None,
    flickr8k=None,
    photos=247,
    captions=1235,
    phrases=3239,
    digest="d24d0c2336905f57",
    composition=Composition(animals=0.105, centre_in_box=0.552),
)
MANIFEST = Manifest(
    command="python -m eval attention=cmwp",
    commit="abc1234",
    date="2026-11-23",
    versions={"torch": "2.15"},
    identity="0123456789abcdef",
    data=DATA,
    model="tags",
    settings={"attention": {"contrastive": True}},
    gamma=Gamma(value=0.25, chosen_on="247 photos", grid=(0.0, 0.25)),
    calibration="mass",
    supervision="γ was chosen with the boxes of these photos.",
)


def example_result(name="c-MWP (MCG)", share=0.4, *, split=None, photos=247, **manifest):
    """A result in which R@1 of all phrases by zhang18 is ``share``; other fields of its manifest can be given."""
    data = replace(DATA, split=split, photos=photos)
    return Result(
        name=name,
        manifest=replace(MANIFEST, **{"data": data, **manifest}),
        presets={
            "mdetr_any": example_boxes(share + 0.1, MDETR_ANY),
            "zhang18": example_boxes(share),
            "pointing_mg": example_pointing(),
        },
        gammas=(
            TriedGamma(value=0.0, at_1=0.31, at_5=0.5, at_10=0.6),
            TriedGamma(value=0.25, at_1=0.4, at_5=0.6, at_10=0.7),
        ),
        coverage=Coverage(phrases=3239, known=3183),
        reached=Reached(phrases=3183, mean=0.14, least=0.1, greatest=0.17),
        timing=Timing(photos=247, attended=247, attention=120.5, proposals=30.1, scoring=9.5),
    )
