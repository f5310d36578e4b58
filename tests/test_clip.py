"""CLIP's ResNets as classifiers: small ones with random weights, built by the package itself."""

import copy
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

if find_spec("open_clip") is None:
    pytest.skip('needs pip install "phrase-grounding[open_clip]"', allow_module_level=True)
import open_clip
from command_settings import QUICK
from PIL import Image
from safetensors.torch import save_file

from grounding.attention import CAM, ExcitationBackprop
from grounding.clip import clip_classifier, create_clip, embed_texts, linear_pool, name_words

ROOT = Path(__file__).resolve().parent.parent
SIDE = 96  # pixels that the small network is trained with: a last map of 3×3 cells
WORDS = ["dog", "red cup", "snow", "man"]
CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": SIDE, "layers": [2, 1, 1, 1], "width": 8, "patch_size": None},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module", autouse=True)
def _small_networks(tmp_path_factory):
    """A small ResNet and a small transformer among the networks of the package."""
    folder = tmp_path_factory.mktemp("configs")
    vit = {"image_size": SIDE, "layers": 1, "width": 64, "patch_size": 32}
    for name, config in {"RN-small": CONFIG, "ViT-small": {**CONFIG, "vision_cfg": vit}}.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [*open_clip.factory._MODEL_CONFIG_PATHS])
        patch.setattr(open_clip.factory, "_MODEL_CONFIGS", dict(open_clip.factory._MODEL_CONFIGS))
        open_clip.add_model_config(folder)
        yield


def randomised(clip):
    """A CLIP with random batch norm, biases and positional embeddings; the package starts with zeros among them."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in clip.state_dict().items():
        if tensor.is_floating_point() and (name.endswith("bias") or "running_mean" in name or "positional" in name):
            tensor.normal_(std=0.3, generator=generator)
        elif tensor.is_floating_point() and (".bn" in name or "downsample.1" in name):
            tensor.uniform_(0.5, 1.5, generator=generator)
    return clip


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return randomised(create_clip("RN-small", None)).double()


@pytest.fixture(scope="module")
def weights(clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "clip.safetensors"
    save_file({name: tensor.float() for name, tensor in clip.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def classifier(weights):
    return clip_classifier(name="RN-small", weights=str(weights), words=WORDS, window=None, short_side=SIDE)


def texts_of(clip):
    tokens = open_clip.get_tokenizer("RN-small")([f"a photo of a {word}." for word in WORDS])
    return tokens, clip.encode_text(tokens, normalize=True)


def with_equal_weights(clip):
    """A copy of a CLIP's attention pool whose query weights all places and the class token equally."""
    pool = copy.deepcopy(clip.visual.attnpool)
    nn.init.zeros_(pool.q_proj.weight)
    nn.init.zeros_(pool.q_proj.bias)
    return pool


def test_the_head_is_the_attention_pool_with_equal_weights(clip):
    _, texts = texts_of(clip)
    head = linear_pool(clip.visual.attnpool, texts)
    maps = torch.rand(2, 256, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(head(maps), with_equal_weights(clip)(maps) @ texts.T, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(head(maps), clip.visual.attnpool(maps) @ texts.T, rtol=1e-3)


def test_a_response_is_the_mean_over_places_of_linear_responses(clip):
    _, texts = texts_of(clip)
    head = linear_pool(clip.visual.attnpool, texts)
    maps = torch.rand(1, 256, 5, 7, dtype=torch.float64)  # of another size than in training
    responses = [head(maps[..., y : y + 1, x : x + 1]) for y in range(5) for x in range(7)]
    torch.testing.assert_close(head(maps), torch.stack(responses).mean(0), rtol=1e-10, atol=1e-12)


def test_the_network_is_the_image_tower_with_that_head(clip, classifier):
    tower = copy.deepcopy(clip.visual)
    tower.attnpool = with_equal_weights(clip)
    photo = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = tower(photo.double()) @ texts_of(clip)[1].T
        torch.testing.assert_close(classifier.network(photo).double(), expected, rtol=1e-3, atol=1e-4)
    assert classifier.vocabulary.units == {"dog": (0,), "red cup": (1,), "snow": (2,), "man": (3,)}
    assert classifier.mean == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-4)


def test_texts_are_embedded_as_the_package_embeds_them(clip):
    tokens, texts = texts_of(clip)
    torch.testing.assert_close(embed_texts(clip, tokens), texts, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(texts_of(clip)[1], texts, rtol=0, atol=0)  # the text tower is left as it was


@pytest.mark.parametrize("layer", ["avgpool", "layer2", "layer3", "layer4"])
def test_probability_is_conserved(clip, layer):
    """Without biases every active neuron has been excited by others, and all probability reaches the layer."""
    network = copy.deepcopy(clip.visual)
    network.attnpool = linear_pool(network.attnpool, texts_of(clip)[1])
    for name, tensor in network.state_dict().items():
        if name.endswith("bias") or "running_mean" in name:
            tensor.zero_()
    attend = ExcitationBackprop(network, layer, window=None, contrastive=False, signed="clamp")
    photo = torch.rand(1, 3, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (attended,) = attend.attend_with_mass(photo, [torch.tensor([0, 1, 2, 3])])
    torch.testing.assert_close(attended.reached, torch.ones(4, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(attended.maps.sum((1, 2)), attended.reached, atol=1e-9, rtol=0)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("signed", ["clamp", "compose", "skip_ignored"])
def test_contrast_takes_away_what_speaks_against_a_word(classifier, window, signed):
    """That is the map of the unit with the negated weights of the head."""
    negated = copy.deepcopy(classifier.network)
    negated.attnpool[2].weight.neg_()
    photo = torch.rand(1, 3, SIDE, 160, generator=torch.Generator().manual_seed(0))
    settings = {"layer": "layer3", "window": window, "signed": signed}
    (against,) = ExcitationBackprop(negated, contrastive=False, **settings)(photo, [torch.tensor([0, 1])])
    (plain,) = ExcitationBackprop(classifier.network, contrastive=False, **settings)(photo, [torch.tensor([0, 1])])
    (contrast,) = ExcitationBackprop(classifier.network, contrastive=True, **settings)(photo, [torch.tensor([0, 1])])
    assert contrast.shape == (2, 6, 10)
    assert contrast.any()
    assert (contrast <= plain + 1e-6).all()
    if window is None:  # otherwise a negated network starts from other places
        torch.testing.assert_close(contrast, (plain - against).clamp(min=0), rtol=1e-4, atol=1e-7)


def test_a_class_activation_map_is_the_response_at_places(clip):
    network = copy.deepcopy(clip.visual)
    network.attnpool = linear_pool(network.attnpool, texts_of(clip)[1])
    photo = torch.rand(1, 3, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (maps,) = CAM(network, "layer4", window=None)(photo, [torch.tensor([2])])
    last = photo
    for part in (network.stem, network.layer1, network.layer2, network.layer3, network.layer4):
        last = part(last)
    expected = torch.einsum("chw,c->hw", last[0], network.attnpool[2].weight[2])
    torch.testing.assert_close(maps[0], expected.clamp(min=0), rtol=1e-6, atol=1e-8)


def test_words_come_from_a_list_a_file_or_the_default_model(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("dog\n\n Red  cup\n")
    assert name_words(str(path)).units == name_words(["dog", "red cup"]).units == {"dog": (0,), "red cup": (1,)}
    default = name_words(None)
    assert default.size == len(default.units) > 5000
    assert {"dog", "red", "espresso"} <= default.units.keys()
    assert "orange" not in default.nouns
    assert "espresso" in default.nouns


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "ViT-small"}, "ViT-small has no image tower of convolutions and ReLU .*RN50"),
        ({"name": "convnext_base"}, "convnext_base has no image tower of convolutions and ReLU .*RN50"),
        ({"name": "RN5O"}, "no network 'RN5O': did you mean RN50"),
        ({"name": "hf-hub:somebody/something"}, "no network 'hf-hub:somebody/something': use "),
        ({"weights": "missing.safetensors"}, r"a tag of open_clip's RN-small \(no tags\), got 'missing.safetensors'"),
        ({"name": "RN101", "weights": "opemai"}, r"a tag of open_clip's RN101 \(openai, yfcc15m\), got 'opemai'"),
        ({"words": []}, "model.words has no words"),
        ({"words": ["dog", "cat", "Dog"]}, "model.words has 'dog' more than once"),
        ({"words": "missing.txt"}, "model.words is a list of words or the path of a text file: .*missing.txt"),
        ({"template": "a photo"}, "model.template has one {}, the place of a word, got 'a photo'"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        clip_classifier(**{"name": "RN-small", "weights": None, "words": WORDS, **settings})


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".pth"])
def test_nothing_is_unpickled(tmp_path, suffix):
    path = tmp_path / f"clip{suffix}"
    torch.save({}, path)
    with pytest.raises(ValueError, match=r"would be unpickled.* convert its tensors to \.safetensors"):
        create_clip("RN-small", str(path))


def test_files_of_other_weights_are_refused(tmp_path, weights):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(weights.read_bytes()[:1000])
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, other)
    for path in (broken, other):
        with pytest.raises(ValueError, match=f"{path.name}: truncated, or weights of another network than RN-small: "):
            create_clip("RN-small", str(path))


def test_a_tag_brings_its_activation_and_its_file_must_be_safe(monkeypatch, weights, tmp_path):
    """The package's table and its download stand in for a tag; nothing is downloaded."""
    tag = {"url": "", "quick_gelu": True}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "RN-small", {"own": tag})
    monkeypatch.setattr(open_clip, "download_pretrained", lambda found: str(weights) if found is tag else None)
    clip = create_clip("RN-small", "own")
    assert {type(block.mlp.gelu).__name__ for block in clip.transformer.resblocks} == {"QuickGELU"}
    pickled = tmp_path / "clip.bin"
    pickled.write_bytes(b"")
    monkeypatch.setattr(open_clip, "download_pretrained", lambda found: str(pickled))
    with pytest.raises(ValueError, match="would be unpickled"):
        create_clip("RN-small", "own")

    def fail(found):
        raise OSError("no network")

    monkeypatch.setattr(open_clip, "download_pretrained", fail)
    with pytest.raises(ValueError, match="weights 'own' of RN-small cannot be downloaded: no network"):
        create_clip("RN-small", "own")


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setattr("grounding.clip.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "phrase-grounding\[open_clip\]"'):
        clip_classifier(weights=None)


@pytest.mark.slow
def test_the_command_line_runs_with_random_weights(tmp_path, examples):
    Image.fromarray(examples["chelsea"]).resize((120, 80)).save(tmp_path / "cat.jpg")
    settings = ["model=open_clip", "model.weights=null", "model.words=[cat,red cup]", "model.template=one {}, seen"]
    texts = [f"image={tmp_path}/cat.jpg", "caption=A cat beside a red cup and a tree", "scoring.understand=exact"]
    run = subprocess.run(
        [sys.executable, "-m", "grounding", *settings, *QUICK, *texts, f"hydra.run.dir={tmp_path}/out"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    phrases = json.loads((tmp_path / "out" / "cat.json").read_text())["phrases"]
    assert [phrase["words"] for phrase in phrases] == [["cat"], ["red cup"], []]
    assert phrases[2]["skipped_words"] == ["tree"]
