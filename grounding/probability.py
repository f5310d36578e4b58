"""How probable it is that the best box of a phrase is right, and that the photo shows what the phrase means at all.

Either probability is a logistic function of a weighted sum of evidence, as in Platt's scaling. The weights are fitted
by ``python -m eval.probability`` on photos with boxes, for one model, attention and way to propose and score regions;
with any other there is no probability (docs/scores.md).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grounding.config import GrounderSettings
from grounding.digests import digest
from grounding.maps import PhraseWords, WordAttention
from grounding.presence import Presence
from grounding.records import Regions
from grounding.scoring import box_sums

SHIPPED = Path(__file__).with_name("weights") / "calibrations.json"
EVIDENCE_REGIONS = 10  # the best regions, to which the evidence is limited
CLOSE = 0.5  # IoU from which a region is a variant of the best one rather than another place
EVIDENCE = (
    "known",  # 1 where there is attention, 0 for a guess, whose other evidence of attention is 0
    "presence",  # mean log-odds of the known words, that the photo shows them
    "least_presence",  # the least of these
    "inside",  # share of the attention inside the best box
    "area",  # logarithm of the share of the photo that the box covers
    "margin",  # logarithm of the best score over that of the best region elsewhere
    "agreement",  # mean IoU of the next regions with the best one
    "spread",  # entropy of the attention, 1 where it is the same everywhere
    "reached",  # logarithm of the share of the winning probability that reached the layer
    "skipped",  # number of words that the model does not know, even if it understands them
    "being",  # 1 where the phrase is of this kind, as for the next two
    "part",
    "scene",
)


@dataclass(frozen=True)
class Weights:
    """Weights of the evidence for a claim.

    Args:
        bias: log-odds of the claim where all evidence is 0.
        weights: log-odds for one unit of each kind of evidence, by the names of `EVIDENCE`.

    Raises:
        ValueError: the names are others, or a value is not finite.
    """

    bias: float
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        if set(self.weights) != set(EVIDENCE) or not all(map(math.isfinite, (self.bias, *self.weights.values()))):
            raise ValueError(f"expected finite weights for {', '.join(EVIDENCE)}")

    def probability(self, evidence: Mapping[str, float]) -> float:
        """The probability of the claim, from 0 to 1, given the evidence."""
        odds = self.bias + sum(weight * evidence[name] for name, weight in self.weights.items())
        return 1 / (1 + math.exp(-odds)) if odds > 0 else math.exp(odds) / (1 + math.exp(odds))


@dataclass(frozen=True)
class Calibration:
    """Weights for the two claims about a phrase.

    Args:
        fitted_for: what they were fitted for, as `describe_parts` describes it.
        fitted_on: the photos and phrases, for readers.
        right: that its best box is right, given that the photo shows what it means.
        present: that the photo shows what it means, where every second phrase is that of another photo.
    """

    fitted_for: Mapping[str, Any]
    fitted_on: Mapping[str, Any]
    right: Weights
    present: Weights


@dataclass(frozen=True)
class Chances:
    """The probabilities of the two claims about a phrase, see `Calibration`; None where there is no calibration."""

    right: float | None = None
    present: float | None = None


class Calibrated:
    """A calibration with the classifier that it was fitted for.

    Args:
        calibration: the weights.
        presence: tells by the classifier which words a photo shows.
    """

    def __init__(self, calibration: Calibration, presence: Presence) -> None:
        self.calibration = calibration
        self.presence = presence

    def chances(
        self,
        words: PhraseWords,
        attention: Tensor | None,
        regions: Regions,
        size: tuple[int, int],
        units: Tensor,
        reached: float | None,
    ) -> Chances:
        """The probabilities for a phrase, from the units of `Presence`; for other arguments see `measure_evidence`."""
        odds = [self.presence.log_odds(units, word) for word in words.known]
        evidence = measure_evidence(words, attention, regions, size, odds, reached)
        return Chances(self.calibration.right.probability(evidence), self.calibration.present.probability(evidence))


def measure_evidence(
    words: PhraseWords,
    attention: Tensor | None,
    regions: Regions,
    size: tuple[int, int],
    log_odds: Sequence[float],
    reached: float | None,
) -> dict[str, float]:
    """Measure what speaks for and against the best region of a phrase: finite values by the names of `EVIDENCE`.

    Args:
        words: the words of the phrase.
        attention: its map, (h, w), non-negative; None where no word is known.
        regions: its regions, best first, at least one; those after the first `EVIDENCE_REGIONS` do not matter.
        size: (height, width) of the photo in pixels.
        log_odds: for each known word, that the photo shows it (see `grounding.presence`).
        reached: the share of the winning probability that reached the layer; None where it is not measured.
    """
    evidence = dict.fromkeys(EVIDENCE, 0.0) | {"skipped": float(len(words.skipped) + len(words.understood))}
    if words.kind in evidence:
        evidence[words.kind] = 1.0
    if attention is None or not attention.any():
        return evidence
    shares = attention.double() / attention.double().sum()
    cells_per_pixel = torch.tensor([attention.shape[1] / size[1], attention.shape[0] / size[0]] * 2)
    inside, area = box_sums(shares, regions.boxes[:1].cpu() * cells_per_pixel)
    best, others = regions.scores[0], regions[1:EVIDENCE_REGIONS]
    overlaps = _overlaps(regions.boxes[0], others.boxes)
    elsewhere = others.scores[overlaps < CLOSE]
    return evidence | {
        "known": 1.0,
        "presence": sum(log_odds) / len(log_odds),
        "least_presence": min(log_odds),
        "inside": float(inside),
        "area": _log(float(area) / shares.numel()),
        "margin": _log(float(best)) - _log(float(elsewhere[0])) if len(elsewhere) else 0.0,
        "agreement": float(overlaps[:4].mean()) if len(overlaps) else 1.0,
        "spread": -float(torch.special.xlogy(shares, shares).sum()) / math.log(max(shares.numel(), 2)),
        "reached": 0.0 if reached is None else _log(reached),
    }


def _log(value: float) -> float:
    return math.log(max(value, 1e-4))  # finite, and no outlier


def _overlaps(box: Tensor, boxes: Tensor) -> Tensor:
    """The IoU of boxes (N, 4) with a box (4,), (N,)."""
    from torchvision.ops import box_iou

    return torch.as_tensor(box_iou(box[None].double(), boxes.double()))[0].nan_to_num(0.0)


def describe_parts(attention: WordAttention, settings: GrounderSettings, proposals: Mapping[str, Any]) -> Any:
    """Describe all that a calibration depends on, as values of JSON.

    Args:
        attention: the classifier with its attention method.
        settings: of the grounder.
        proposals: the settings by which regions are, or were, proposed.
    """
    classifier = attention.classifier
    limit = settings.proposals.get("count") or math.inf  # of regions that are read from a store
    parts = {
        "weights": digest(classifier.vocabulary.units, dict(classifier.network.state_dict())),
        "model": classifier.settings() | {"architecture": classifier.architecture and asdict(classifier.architecture)},
        "attention": settings.attention,
        "proposals": {name: value for name, value in proposals.items() if name != "device"}
        | ({"count": min(proposals["count"], limit)} if proposals.get("count") else {}),
        "area_exponents": settings.area_exponents,
        "area_exponent_by_kind": settings.area_exponent_by_kind,
        "overlap": settings.overlap,
        "clothing_weight": settings.clothing_weight,
    }
    return json.loads(json.dumps(parts))


def find_calibrated(
    attention: WordAttention, settings: GrounderSettings, proposals: Mapping[str, Any]
) -> Calibrated | None:
    """Find the calibration that comes with the package for these parts; None where there is none.

    Arguments are those of `describe_parts`.
    """
    parts = describe_parts(attention, settings, proposals)
    for calibration in read_calibrations(SHIPPED):
        if calibration.fitted_for == parts:
            return Calibrated(calibration, Presence(attention.classifier, attention.device))
    return None


@cache
def read_calibrations(path: Path) -> tuple[Calibration, ...]:
    """Read a file of calibrations.

    Raises:
        ValueError: the file is missing or damaged.
    """
    try:
        return tuple(
            Calibration(
                fitted_for=dict(values["fitted_for"]),
                fitted_on=dict(values["fitted_on"]),
                right=Weights(**values["right"]),
                present=Weights(**values["present"]),
            )
            for values in json.loads(path.read_text(encoding="utf-8"))
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: no calibrations (python -m eval.probability writes them): {error}") from None
