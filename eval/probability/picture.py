"""The reliability plot: how often best boxes are right, by how probable that was said to be."""

from typing import TYPE_CHECKING, Any

import numpy as np

from grounding.draw import INK

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from eval.probability.measuring import HeldOut

BLUE, ORANGE = "#0072b2", "#d55e00"  # colours of Okabe and Ito, which colour-blind people can tell apart


def draw_reliability(figures: dict[str, Any], is_own: "NDArray[np.bool_]", found: "HeldOut") -> "Image":
    """Draw the share of right boxes by probability, and the presence of phrases of the photo and of another one.

    Args:
        figures: those of `eval.probability.measuring.measure`.
        is_own: (N,), whether each phrase is of the photo's own captions.
        found: the probabilities of all phrases.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=(10, 4.6), dpi=110, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    bins = figures["reliability"]
    said, shares = [each["probability"] for each in bins], [each["right"] for each in bins]
    left.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="as probable as said")
    for each in bins:
        spread = 1.96 * (each["right"] * (1 - each["right"]) / each["count"]) ** 0.5
        left.plot([each["probability"]] * 2, [each["right"] - spread, each["right"] + spread], color=BLUE, linewidth=1)
        place = (each["probability"], each["right"])
        left.annotate(f"{each['count']:.0f}", place, (6, -12), textcoords="offset points", fontsize=8, color=INK)
    left.plot(said, shares, color=BLUE, marker="o", label="phrases of the photo, with their number")
    left.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="probability", ylabel="share of right boxes")
    left.set_title(f"Calibration error {100 * figures['calibration_error']['probability']:.1f} %")
    left.legend(loc="upper left", fontsize=9)
    edges = np.linspace(0, 1, 21)
    for values, colour, name in (
        (found.present[is_own], BLUE, "of the photo"),
        (found.present[~is_own], ORANGE, "of another photo"),
    ):
        weights = np.full(len(values), 1 / len(values))
        right.hist(values, edges, weights=weights, histtype="step", color=colour, linewidth=2, label=f"phrases {name}")
    right.set(xlim=(0, 1), xlabel="presence", ylabel="share of phrases")
    right.set_title(f"AUROC {figures['auroc_own']['presence'][0]:.3f}")
    right.legend(fontsize=9)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
