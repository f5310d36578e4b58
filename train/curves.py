"""A picture of a training run's curves."""

import io
from collections.abc import Sequence

Row = dict[str, float | None]  # one row of a run's log: values by their names, at one step

_BLUE, _ORANGE = "#3a6ea5", "#d9772b"


def draw_curves(rows: Sequence[Row]) -> bytes:
    """Draw the losses of training and validation and, below, the mean average precision over steps.

    Returns:
        the content of a PNG file.
    """
    from matplotlib.figure import Figure

    precision = points(rows, "mean_ap")
    panels = {"losses": 2, "precision": 1} if precision[0] else {"losses": 1}
    figure = Figure(figsize=(8, 3.5 + 2 * (len(panels) - 1)), dpi=120, layout="constrained")
    axes = figure.subplots(len(panels), sharex=True, squeeze=False, height_ratios=list(panels.values()))[:, 0]
    for panel in axes:
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    steps, losses = points(rows, "loss")
    axes[0].plot(steps, losses, ".-", color=_BLUE, alpha=0.35, linewidth=1, markersize=2)
    marker = "o" if len(steps) < 10 else ""  # a single point is no line
    axes[0].plot(
        _smooth(steps), _smooth(losses), marker + "-", color=_BLUE, linewidth=2, markersize=4, label="training"
    )
    steps, losses = points(rows, "validation_loss")
    if steps:
        axes[0].plot(steps, losses, "o-", color=_ORANGE, linewidth=2, markersize=5, label="validation")
    axes[0].set_ylabel("loss per photo,\nsummed over tags")
    axes[0].legend(frameon=False, loc="upper right")
    if precision[0]:
        axes[1].plot(*precision, "o-", color=_ORANGE, linewidth=2, markersize=5)
        axes[1].set_ylim(0, 1.15 * max(precision[1]) or 1)
        axes[1].set_ylabel("mean average\nprecision")
        last = f"{precision[1][-1]:.3g}"
        axes[1].annotate(last, (precision[0][-1], precision[1][-1]), (0, 6), textcoords="offset points", ha="center")
    axes[-1].set_xlabel("step")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def points(rows: Sequence[Row], name: str) -> tuple[list[float], list[float]]:
    """The steps at which a value was measured, and the values."""
    measured = [
        (step, value) for row in rows if (step := row["step"]) is not None and (value := row.get(name)) is not None
    ]
    return [step for step, _ in measured], [value for _, value in measured]


def _smooth(values: Sequence[float]) -> list[float]:
    """Running means over a twentieth of the values."""
    window = max(1, len(values) // 20)
    return [sum(values[start : start + window]) / window for start in range(len(values) - window + 1)]
