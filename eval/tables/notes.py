"""Notes that belong to our numbers wherever they stand: the photos, the training data, and how settings were chosen."""

from collections.abc import Mapping, Sequence

from eval.names import DEFAULT_MODEL
from eval.result import Result
from eval.splits import saved_statistics
from eval.tables.cells import count, percent
from eval.tables.rows import PhotoSet

MEASURES = (
    "R@K is the share of phrases with a correct box (IoU of .5 or more) among the first K boxes, and the bound is "
    'the share with one among all boxes. "R@1, IoU .75" asks for the stricter overlap, and mean IoU is that of the '
    "first box. Reached is the share of the winning probability that arrives at the layer where attention is read, "
    "averaged over phrases; most of the rest is lost at neurons that only their bias keeps active."
)
ERRORS_NOTE = (
    "Errors of the first box: where it is not correct, it is a wrong instance if its IoU with a box of another entity "
    "of the same photo and type is .5 or more; otherwise too small if it is smaller than the true box and at least "
    "half of it lies in the true one; otherwise too large if it is larger and at least half of the true box lies in "
    "it; and elsewhere in all other cases."
)
SCORES = (
    "mAP depends on how scores of different phrases compare. Raw scores S_R / A_R^γ are those that can be compared "
    "with the paper. Calibrated scores are divided by the sum of the attention map (mass), or replaced by one over "
    "the rank (rank)."
)
TRAINING = (
    "Training: the default classifier learned its words over places from the captions of 7,555 photos of Flickr30k's "
    "train split and from tags of clothing, of scenes and of Corel's photos; rows of efficientnet_lite2_tags, from "
    "the mean of frozen features, those captions and Corel's keywords; average_pooling and phrase_contrast, as the "
    "default but with task.training.pooling=average, or task.training.contrast=5. None saw a box, and the paper's "
    "network used no data of Flickr30k. The ranker of MCG's proposals learned from outlines in COCO and BSDS500, the "
    "edge network from BSDS500."
)
FEW_SHOT = "Settings chosen on boxed photos are few-shot supervision (Choe et al. 2020, wsolevaluation)."
PAPER = (
    "The paper's rows were measured on 1,000 test photos with a network trained on tags of six million stock "
    "photos. Its γ was optimised for each method among 0, .25, .5, .75 and 1; the paper does not say on which "
    "photos."
)


def notes(found: PhotoSet) -> list[str]:
    """Return the notes on a set of photos and the methods that were measured on it."""
    ours = [result for result in found.results if result.is_ours]
    lines = [photos_note(found)]
    if any(result.manifest.model == DEFAULT_MODEL for result in ours):
        lines.append(TRAINING)
    if ours:
        lines += gamma_notes(ours)
        lines.append(f"{_chosen_on(found)} {FEW_SHOT}")
    return lines


def photos_note(found: PhotoSet) -> str:
    """Say which photos were used, and how they differ from the rest of their split and from the test split."""
    composition, saved = found.data.composition, saved_statistics()
    rest = (found.data.split or "").replace("part of", "rest of") if found.label in saved else ""
    others = [
        split for name, split in saved.items() if name != found.label and name.startswith(("test", rest or "test"))
    ]
    animals = _comparison({split.name: split.share("animals") for split in others})
    centre = _comparison({split.name: split.phrases_at_centre / split.phrases for split in others})
    flickr8k = found.data.flickr8k
    share = "all" if flickr8k == 1 else f"{percent(flickr8k)} %"
    source = f", {share} of them in Flickr8k" if flickr8k else ""
    beginning = "They are no random sample of their split: animals" if len(others) > 1 else "Animals"
    return (
        f"Photos: Flickr30k Entities, {found.label}{source}. {beginning} are {percent(composition.animals)} % of the "
        f"phrases{animals}, and the photo's centre lies in a box of {percent(composition.centre_in_box)} % of "
        f"them{centre}."
    )


def pointing_note() -> str:
    """Say how the two presets for entities differ, and which of them meets the published accuracy of the centre."""
    test = next(split for name, split in saved_statistics().items() if name.startswith("test"))
    kept, large = (
        f"{100 * hits / number:.2f} % of {count(number)}"
        for hits, number in (
            (test.entities_at_centre, test.entities),
            (test.large_entities_at_centre, test.large_entities),
        )
    )
    return (
        "Pointing at entities: `pointing_entity` follows the released loader of WWbL, which drops entities whose first "
        "box covers 5 % of the photo or less, and `pointing_entity_all` keeps them. The published accuracy of the "
        f"photo's centre on the test split, 47.40 %, is met only by keeping them: {kept} entities, against {large}. "
        "Which entities the other published rows count is not settled."
    )


def gamma_notes(results: Sequence[Result]) -> list[str]:
    """Say how γ was chosen; where methods differ in that, a line for each way, with their names."""
    lines = []
    for result in results:
        if (gamma := result.manifest.gamma) is None:
            continue
        grid = ", ".join(f"{value:g}" for value in gamma.grid)
        chosen = f"was chosen from {grid} on {gamma.chosen_on}" if grid else f"was given by {gamma.chosen_on}"
        lines.append((f"γ of each method {chosen}. {result.manifest.supervision}", result))
    return _labelled(lines)


def _chosen_on(found: PhotoSet) -> str:
    is_same = found.label.startswith("part of val") and found.label in saved_statistics()
    photos = "these very photos" if is_same else "the 247 val photos of docs/results.md"
    return (
        "The image sizes of `best`, what kinds of things add to its γ, and the window of the default model were also "
        f"chosen with the boxes of {photos}."
    )


def _comparison(shares: Mapping[str, float]) -> str:
    """Shares of other sets of photos, in parentheses."""
    return f" ({'; '.join(f'{name}: {percent(share)} %' for name, share in shares.items())})" if shares else ""


def _labelled(lines: Sequence[tuple[str, Result]]) -> list[str]:
    """Return the different lines, each once, with the names of its results where there are several lines."""
    names: dict[str, list[str]] = {}
    for line, result in lines:
        names.setdefault(line, []).append(result.name)
    if len(names) < 2:
        return list(names)
    return [f"{line} ({'; '.join(methods)})" for line, methods in names.items()]
