"""The paper's tables and figures on named regions, each with our results beside it, as a section of a page.

A section stands on the pages of results, and beside the results of ``python -m eval.regions``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.regions.paper_tables import dominant_tables, game_tables, published_table, published_tables
from eval.regions.result import RegionResult
from eval.regions.tables import check_distinct, commands, notes
from eval.tables.cells import Table
from eval.tables.section import Part, Section
from grounding.names import METHODS

GAME = (
    "The pointing game of the paper (6.1): a photo is asked for each category of its objects. A hit is counted if the "
    "greatest attention, enlarged to the photo's size, lies less than 15 pixels from a pixel of an object of this "
    "category: of its box in VOC, of its mask in COCO. The score is the mean over categories of their accuracies. "
    "Difficult pairs are those whose objects cover less than a quarter of a photo that has another category, too. As "
    "in torchray's benchmark, difficult objects of VOC and crowds of COCO can be hit as others can, and a category "
    "whose objects in a photo are all difficult is not asked for there. A category without a known word, and a map "
    "with NaN, count as missed."
)
SAME_GAME = "Measured by the pointing game of Table 1: mean accuracy over categories, of all and of difficult pairs."
NETWORKS = (
    "The paper's networks were trained with the labels of VOC07 or COCO themselves, and measured on VOC07's test split "
    "and COCO's val2014. A row of ours that names no model is the packaged EfficientNet-Lite2, which was not: it is "
    "asked for a phrase for each category (`grounding/vocabularies/categories.json`), on other photos. The rows below "
    "are for reference."
)
TORCHRAY = (
    "torchray's numbers and the paper's differ by at most 1.5 for VGG16, a plain chain of layers, and by up to 4.4 for "
    "ResNet50. What torchray does otherwise: it shares the signal of a residual sum in proportion to the sum before "
    "its activation, without a guard where that is zero; it takes a NaN for the greatest value of a map; and it "
    "enlarges maps by bilinear interpolation."
)
DOMINANT = (
    "One box for a category (paper, 6.2): photos are squeezed to squares for the network, and the answer is the "
    "tightest box around the pixels whose attention is greater than α times its mean. The error is the share of pairs "
    "whose box has an IoU below .5 with every box of the category. α was chosen among 0, .5 … 10 on other photos, "
    "where a number of them is given: that is supervision by their boxes."
)
SINGLE_OBJECTS = (
    "The paper measured GoogLeNet, trained with ImageNet's labels, on ImageNet's validation set. Photos of single "
    "objects stand in for it here, and a row of ours that names no model is the packaged EfficientNet-Lite2."
)


@dataclass(frozen=True)
class Comparison:
    """A table or figure of the paper, and how our results are shown beside it."""

    title: str
    about: str  # what is measured
    differs: str  # in what our results differ from the published ones
    published: tuple[tuple[str, str], ...]  # names in ``published_tables.json``, with their titles
    tables: Callable[[Sequence[RegionResult]], list[Table]] = game_tables
    last: tuple[str, ...] = ()  # what is to be said about the published tables


COMPARISONS = {
    "table1": Comparison(
        title="Pointing game",
        about=GAME,
        differs=NETWORKS,
        published=(
            ("table_1", "For reference, Table 1 of Zhang et al. 2018, all/difficult"),
            ("torchray", "For reference, torchray's benchmark, all/difficult"),
        ),
        last=(TORCHRAY,),
    ),
    "table2": Comparison(
        title="CAM and c-MWP at the last map",
        about="c-MWP* is c-MWP at the map to which CAM applies the classifier, below the global average pooling. The "
        "paper finds that it points where CAM does, and that c-MWP gains by its finer layer where the network has no "
        f"strided convolutions (6.1.3). {SAME_GAME}",
        differs=NETWORKS,
        published=(("table_2", "For reference, Table 2 of Zhang et al. 2018, all/difficult"),),
    ),
    "table3": Comparison(
        title="Contrastive attention",
        about="Variants of c-MWP, and contrast for other methods (paper, 6.1.3): w/o norm leaves the normalisation Z_i "
        "out of Eq. 6; post-norm computes the maps of the unit and of its reverse unit like that, one after the other, "
        "and subtracts them after each was scaled to sum 1; c-Grad is zero everywhere, so that it misses every pair. "
        f"{SAME_GAME}",
        differs=NETWORKS,
        published=(("table_3", "For reference, Table 3 of Zhang et al. 2018, difficult pairs alone"),),
        last=(
            "The paper's Table 3 has 70.6 for c-MWP where its Tables 1, 2 and 4 have 72.3, and calls c-Grad not "
            "applicable.",
        ),
    ),
    "table4": Comparison(
        title="Deterministic winner-take-all",
        about="d-WTA follows one path of winners from the unit to a neuron, where MWP and c-MWP share probability "
        f"(paper, 6.1.3). {SAME_GAME}",
        differs=NETWORKS,
        published=(("table_4", "For reference, Table 4 of Zhang et al. 2018, all/difficult"),),
    ),
    "figure6": Comparison(
        title="Attention at different layers",
        about="Grad and Deconv at the pixels and at layers, and c-MWP at the same layers; a row names its layer. c-MWP "
        f"is not defined at pixels (paper, 3.2). {SAME_GAME}",
        differs=NETWORKS,
        published=(("figure_6", "For reference, what Zhang et al. 2018 say of Fig. 6, VOC07, GoogLeNet, difficult"),),
    ),
    "figure7": Comparison(
        title="Residual connections",
        about="Treatments of residual sums in c-MWP: carry shares by the branches' values (Eq. 19), clamp by their "
        "positive parts, and skip_ignored sends nothing through the connections that skip layers, which removes the "
        f"strided pattern of Fig. 7. {SAME_GAME}",
        differs=NETWORKS,
        published=(("figure_7", "For reference, Zhang et al. 2018 on ResNet50, all/difficult"),),
    ),
    "table5": Comparison(
        title="Dominant objects",
        about=DOMINANT,
        differs=SINGLE_OBJECTS,
        published=(("table_5", "For reference, Table 5 of Zhang et al. 2018, ImageNet val, GoogLeNet"),),
        tables=dominant_tables,
    ),
}


def comparison_section(table: str, results: Sequence[RegionResult]) -> Section:
    """The section of a table of the paper, beside which our results stand, at least one.

    Raises:
        ValueError: two results have the same name and photos.
    """
    check_distinct(results)
    comparison, ours = COMPARISONS[table], in_paper_order(table, results)
    published = [published_table(name, title) for name, title in comparison.published]
    measured: tuple[Part, ...] = (comparison.about, notes(ours), *comparison.tables(ours))
    reference: tuple[Part, ...] = (comparison.differs, *published, *comparison.last)
    return Section(comparison.title, (*measured, *reference, "Commands:", commands(ours)))


def comparison_sections(results: Sequence[RegionResult]) -> list[Section]:
    """The sections of all tables that results belong to, in the paper's order but for the dominant objects at the end.

    Raises:
        ValueError: two results of a section have the same name and photos.
    """
    by_table = {table: [result for result in results if result.table == table] for table in COMPARISONS}
    return [comparison_section(table, found) for table, found in by_table.items() if found]


def in_paper_order(table: str, results: Sequence[RegionResult]) -> list[RegionResult]:
    """Sort results as the paper's table sorts its methods; other methods follow, all in the order of their names."""
    published = list(published_tables()[COMPARISONS[table].published[0][0]].rows)

    def key(result: RegionResult) -> tuple[int, str]:
        name = METHODS.get(result.manifest.attention, "").removesuffix(" at layer")  # which Fig. 6 has in Grad's row
        return published.index(name) if name in published else len(published), result.name

    return sorted(results, key=key)
