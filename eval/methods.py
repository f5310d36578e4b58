"""The method that a command measures: a grounder, its name, and all that its answers depend on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.manifest import name_of_proposals, title, typed_settings
from eval.names import DEFAULT_MODEL
from grounding.config import GrounderSettings, grounder_settings, part_modules
from grounding.digests import ROOT, code_digest, digest
from grounding.pipeline import Grounder
from proposals import Stored


@dataclass(frozen=True, kw_only=True, eq=False)
class Method:
    """A grounder, and what a result records of it."""

    grounder: Grounder
    built: GrounderSettings  # from which the grounder was built
    stored: dict[str, Any] | None  # settings of the proposals in a file, where they are stored
    name: str  # such as "c-MWP (MCG)"
    attention_name: str  # the same without the proposals, such as "c-MWP"
    model: str
    attention: str  # option of ``attention=``
    proposals: str | None  # such as "mcg"; None without proposals
    settings: dict[str, Any]  # of attention, model and proposals, and of scoring
    reads_layer: bool  # whether maps are those of the model's layer; not for gradients at the pixels
    weights: tuple[Any, ...]  # the network, its words and its weights, for digests

    @property
    def digest(self) -> str:
        """A digest of the settings, γ aside, and of the weights."""
        return digest(self.model, self.settings, *self.weights)

    @property
    def maps_key(self) -> str:
        """A digest of all that attention maps depend on, the photo aside: code, settings and weights."""
        code = code_digest("grounding.maps", *part_modules(self.built.attention))
        model = {name: value for name, value in self.settings["model"].items() if name != "layer" or self.reads_layer}
        return digest(code, self.built.attention, model, *self.weights)

    @property
    def predictions_key(self) -> str:
        """A digest of all that predictions depend on, γ aside: maps, code, proposals with weights, and scoring."""
        weights = {path.name: path.read_bytes() for path in sorted((ROOT / "proposals" / "weights").iterdir())}
        return digest(
            self.maps_key,
            code_digest("eval.predicting", *part_modules(self.built.proposals)),
            self.built.proposals,
            _named_files(self.built.proposals),
            weights if self.stored is None else self.stored,
            self.built.overlap,
            self.built.area_exponent_by_kind,
            self.built.clothing_weight,
        )


def open_method(settings: Any, choices: Mapping[str, str | None], overrides: Sequence[str]) -> Method:
    """The method that the settings of a command describe.

    Args:
        settings: the settings of the command.
        choices: the option that each group of settings has, such as ``{"attention": "cmwp"}``; None for ``proposals``
            that propose nothing.
        overrides: the settings as they were typed, some of which are part of the name.

    Raises:
        ValueError: a model or its proposals cannot be built from the settings.
    """
    built = grounder_settings(settings)
    grounder = Grounder.from_settings(built)
    classifier = grounder.attention.classifier
    stored = grounder.propose.settings if isinstance(grounder.propose, Stored) else None
    model = str(Path(built.model["checkpoint"]).name if choices["model"] == "checkpoint" else choices["model"])
    attention, option = str(choices["attention"]), choices["proposals"]
    proposals = None if option is None else name_of_proposals(option, built.proposals, stored)
    reads_layer = getattr(grounder.attention.method, "at", "layer") == "layer"
    typed = typed_settings(overrides, without=() if reads_layer else ("model.layer",))
    differences = _differences(settings, built, model)
    used = {
        "attention": built.attention,
        "model": classifier.settings(),
        "proposals": None if option is None else _proposal_settings(built.proposals, stored),
        "area_exponent_by_kind": built.area_exponent_by_kind,
        "overlap": built.overlap,
        "clothing_weight": built.clothing_weight,
        # Left out where it is the usual one, so that results and γ of before are found again.
        **({} if built.understand == "exact" else {"understand": built.understand}),
    }
    return Method(
        grounder=grounder,
        built=built,
        stored=stored,
        name=settings.name or title(attention, proposals, *differences, typed=typed),
        attention_name=settings.name or title(attention, None, *differences, typed=typed),
        model=model,
        attention=attention,
        proposals=proposals,
        settings=used,
        reads_layer=reads_layer,
        weights=(str(classifier.network), classifier.vocabulary.units, dict(classifier.network.state_dict())),
    )


def _proposal_settings(settings: dict[str, Any], stored: dict[str, Any] | None) -> dict[str, Any]:
    """Settings of the proposals as they were computed, with the number that is used; not the device."""
    computed_with = settings if stored is None else stored
    counts = [each["count"] for each in (computed_with, settings) if each.get("count")]
    kept = {name: value for name, value in computed_with.items() if name != "device"}
    return kept | {"count": min(counts, default=None)}


def _named_files(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Values that identify the content of named files: size and time of change for data, all bytes for weights."""
    paths = {name: Path(value).expanduser() for name, value in settings.items() if isinstance(value, str)}
    found: dict[str, Any] = {}
    for name, path in paths.items():
        if name == "path" and path.exists():
            found[name] = [path.stat().st_size, path.stat().st_mtime_ns]
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def _differences(settings: Any, built: GrounderSettings, model: str) -> list[str]:
    """The model and settings of scoring, where they are not the attention's usual ones, for the name of a result."""
    usual = settings.attention.get("scoring", {})
    differences = [] if model == DEFAULT_MODEL else [model]
    if built.clothing_weight != usual.get("clothing_weight", 0.0):
        differences.append(f"clothing {built.clothing_weight:g}")
    if built.understand != "exact":
        differences.append(f"unknown words by {built.understand}")
    if built.area_exponent_by_kind != usual.get("area_exponent_by_kind", {}):
        changes = ", ".join(f"{kind} {value:+g}" for kind, value in built.area_exponent_by_kind.items())
        differences.append(f"γ of {changes}" if changes else "one γ for all kinds")
    return differences
