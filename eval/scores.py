"""The scores of predictions by every preset, and what else a result counts over phrases."""

from collections.abc import Sequence
from dataclasses import dataclass

from eval.judging import Judged, judge_all
from eval.metrics import score_judged
from eval.pointing import score_pointing
from eval.protocols import BoxProtocol, PointingProtocol, Rules
from eval.records import Instance, Prediction, Predictions, group_entities
from eval.result import BoxScores, Coverage, PointingScores, Reached


@dataclass(frozen=True, eq=False)
class Scores:
    """Predictions with one γ, scored."""

    presets: dict[str, BoxScores | PointingScores]
    judged: tuple[Judged, ...]  # each instance by the preset that γ is chosen by


def score_presets(instances: Sequence[Instance], predictions: Predictions, gamma: float | None, rules: Rules) -> Scores:
    """Score the predictions with one γ by every preset that applies: without attention, no map can point.

    Raises:
        ValueError: a prediction is not finite or not best first.
    """
    chosen = predictions.by_gamma[gamma]
    has_attention = predictions.has_attention(gamma)
    presets: dict[str, BoxScores | PointingScores] = {}
    judged: dict[str, tuple[Judged, ...]] = {}
    for name, preset in rules.presets.items():
        if isinstance(preset, BoxProtocol):
            judged[name] = judge_all(instances, chosen, preset, calibration=rules.calibration)
            presets[name] = score_judged(judged[name], preset)
        elif preset.unit == "phrase" and (preset.point == "box" or has_attention):
            presets[name] = score_pointing(instances, chosen, preset)
        elif preset.unit == "entity" and preset.point == "map" and has_attention:
            presets[name] = _score_entities(instances, predictions, preset)
    return Scores(presets, judged[rules.choose_by])


def count_known(predictions: Sequence[Prediction]) -> Coverage | None:
    """The phrases with a word that the model knows; None where no model was asked."""
    known = [prediction.is_known for prediction in predictions if prediction.is_known is not None]
    return Coverage(phrases=len(known), known=sum(known)) if known else None


def summarise_reached(predictions: Sequence[Prediction]) -> Reached | None:
    """The winning probability that reached the layer, over phrases; None where the attention does not measure it."""
    # Sums of single precision can be above 1 by a rounding error.
    found = [min(prediction.reached, 1.0) for prediction in predictions if prediction.reached is not None]
    if not found:
        return None
    return Reached(phrases=len(found), mean=sum(found) / len(found), least=min(found), greatest=max(found))


def _score_entities(
    instances: Sequence[Instance], predictions: Predictions, preset: PointingProtocol
) -> PointingScores:
    assert predictions.entities is not None
    things = [entity.instance for entity in group_entities(instances)]
    return score_pointing(things, predictions.entities, preset)
