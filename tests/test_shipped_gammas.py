"""The γ of each attention option is the one that was chosen for it, as the saved results say."""

from pathlib import Path

import pytest
from command_settings import composed

from eval import result as results
from eval.names import DEFAULT_MODEL
from grounding.config import CONFIG_DIR, grounder_settings

FOLDER = Path(results.__file__).with_name("results")
ATTENTION = sorted(path.stem for path in Path(CONFIG_DIR, "attention").glob("*.yaml"))
KINDS = {"mcg": "segments", "edge_boxes": "boxes"}  # of regions, by proposals


def chosen_gammas():
    """The results with the default model and a γ that was chosen, not given or looked up."""
    found = results.read_results(FOLDER) if any(FOLDER.glob("*.json")) else []
    return [result for result in found if result.gammas and result.manifest.model == DEFAULT_MODEL]


@pytest.mark.parametrize("attention", ATTENTION)
def test_the_gamma_of_an_attention_is_the_one_chosen_for_it(attention):
    settings = grounder_settings(composed(f"attention={attention}"))
    chosen = {}
    for manifest in (result.manifest for result in chosen_gammas()):
        used = manifest.settings
        is_shipped = (used["attention"], used["clothing_weight"]) == (settings.attention, settings.clothing_weight)
        if is_shipped and manifest.gamma is not None and manifest.proposals in KINDS:
            chosen[KINDS[manifest.proposals]] = manifest.gamma.value
    if not chosen:
        pytest.skip("no saved result with a γ")
    assert settings.area_exponents == settings.area_exponents | chosen


def test_all_saved_results_chose_among_the_grid_of_the_command():
    grid = tuple(composed(config="eval").gammas)
    assert {result.manifest.gamma.grid for result in chosen_gammas() if result.manifest.gamma is not None} <= {grid}
