"""The pipeline and the evaluation agree: the same boxes and scores for every attention, γ and kind of regions."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_settings import composed
from small_flickr30k import propose_boxes, propose_segments, small_grounder, write_photos

from eval.flickr30k import annotated_photos, instances
from eval.predicting import Predictor
from grounding.config import CONFIG_DIR, build_part, grounder_settings
from grounding.phrases import noun_phrases
from grounding.pipeline import Grounder
from grounding.scoring import AreaExponents

GAMMAS = (0.0, 0.25, 0.5, 1.0)


@pytest.fixture(scope="module")
def photo(tmp_path_factory, examples):
    """An annotated photo whose marked phrases are those that the parser finds."""
    folder = tmp_path_factory.mktemp("agreement")
    write_photos(folder, examples)
    return annotated_photos(folder / "photos", folder / "entities").photos[0]


def test_the_phrases_of_the_photo_are_those_that_the_parser_finds(photo):
    captions = [sentence.text for sentence in photo.sentences]
    parsed = [(p.text, p.span) for caption in captions for p in noun_phrases(caption)]
    assert parsed == [(phrase.text, phrase.span) for phrase, _ in photo.phrases_with_boxes()]


@pytest.mark.parametrize(
    ("propose", "clothing_weight", "by_kind"),
    [(propose_boxes, 0.6, {}), (propose_segments, 0.0, {"being": 0.5, "part": -0.25, "object": 0.125})],
)
@pytest.mark.parametrize("name", sorted(path.stem for path in Path(CONFIG_DIR, "attention").glob("*.yaml")))
def test_the_pipeline_and_the_evaluation_agree(photo, tmp_path, name, propose, clothing_weight, by_kind):
    method = build_part(grounder_settings(composed(f"attention={name}")).attention)
    grounder = small_grounder(method, propose=propose, clothing_weight=clothing_weight, by_kind=by_kind)
    captions = [sentence.text for sentence in photo.sentences]
    folders = {"maps": tmp_path / "maps", "predictions": tmp_path / "predictions"}
    computed, read = (Predictor(grounder, GAMMAS, **folders)(photo, instances(photo)) for _ in range(2))
    for gamma in GAMMAS:
        scoring = replace(grounder.scoring, area_exponents=AreaExponents(gamma, gamma, by_kind))
        (grounding,) = Grounder(grounder.attention, propose, scoring)([photo.path], [captions])
        for found in (computed, read):
            for phrase, prediction in zip(grounding.phrases, found.by_gamma[gamma], strict=True):
                assert phrase.regions.scores.dtype == torch.float64
                assert torch.equal(prediction.regions.boxes, phrase.regions.boxes)
                assert torch.equal(prediction.regions.scores, phrase.regions.scores)
                assert prediction.is_known == bool(phrase.words)
                assert prediction.reached == phrase.reached
                assert bool(prediction.mass) == phrase.is_attended
