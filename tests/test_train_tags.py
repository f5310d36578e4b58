"""The training of tag classifiers, on photos of one colour each, whose tags name the colour."""

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import binary_cross_entropy_with_logits
from train.networks import join, last_map

from grounding.checkpoint import load_checkpoint
from grounding.models import efficientnet_lite2_imagenet, torchvision_classifier
from train.counting import count_words
from train.data import Tagged, hold_out, tagged_listed, tagged_shards
from train.loop import cosine, spelt_out, tag_loss, train_tags
from train.recipe import TagTraining

COLOURS = {"red": (200, 40, 30), "green": (40, 180, 50), "blue": (30, 60, 210)}
TINY = TagTraining(
    epochs=2, batch=4, rate=0.01, resize=(40, 48), crop=32, workers=0, save_every=1, half=False, schedule="cosine"
)


@pytest.fixture(autouse=True)
def one_thread():
    """Two threads that share a busy core wait for each other most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A manifest of eighteen photos, and one of six others."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for name, count in (("train", 18), ("val", 15)):
        rows = []
        for index in range(count):
            colour = list(COLOURS)[index % 3]
            noise = random.integers(-25, 25, (40, 50, 3))
            Image.fromarray((COLOURS[colour] + noise).clip(0, 255).astype(np.uint8)).save(root / f"{name}{index}.png")
            rows.append(
                json.dumps(
                    {"image": f"{name}{index}.png", "tags": [colour, "photo"][: 1 + (index % 2 and name == "train")]}
                )
            )
        (root / f"{name}.jsonl").write_text("\n".join(rows))
    return root


def data(photos, name="train"):
    return tagged_listed(str(photos / f"{name}.jsonl"), first=5)


def small_network(name="shufflenet_v2_x0_5"):
    """A network with random weights, the same at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return torchvision_classifier(name=name, weights=None, layer="stage3", window=7, short_side=64)


def trained(photos, output, training=TINY, model=None, **options):
    return train_tags(
        str(output),
        model=model or small_network(),
        data=data(photos),
        validation=data(photos, "val"),
        training=training,
        device="cpu",
        **options,
    )


def weights(folder):
    return load_file(folder / "model.safetensors")


def assert_same(first, second, **tolerance):
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], **(tolerance or {"atol": 0, "rtol": 0}))


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 9))
def test_the_loss_is_the_cross_entropy_of_every_tag_there_or_not(seed, photos, units):
    random = torch.Generator().manual_seed(seed)
    responses = torch.randn(photos, units, generator=random, dtype=torch.float64) * 5
    truth = torch.rand(photos, units, generator=random) < 0.4
    weights = torch.rand(photos, generator=random, dtype=torch.float64)
    lists = torch.full((photos, units + 1), -1)
    for row, known in zip(lists, truth, strict=True):
        found = known.nonzero().flatten()
        row[: len(found)] = found
    assert torch.equal(spelt_out(lists, units), truth)
    costs = binary_cross_entropy_with_logits(responses, truth.double(), reduction="none")
    torch.testing.assert_close(tag_loss(responses, lists, weights), costs.sum(1) * weights)
    known = truth | (torch.rand(photos, units, generator=random) < 0.5)
    torch.testing.assert_close(tag_loss(responses, lists, weights, known), (costs * known).sum(1) * weights)


def test_the_lack_of_a_tag_that_a_source_never_gives_tells_nothing():
    photos = [
        Tagged("a", ("red", "sky"), source="one"),
        Tagged("b", ("sky",), source="one"),
        Tagged("c", ("Sea", "sky"), source="two"),
        Tagged("d", ("sky",), source="two"),
        Tagged("e", (), source="two"),
    ]
    counted = count_words(photos, size=10, least=1, lemmatise=False)
    assert counted.tags.words == ("sky", "red", "sea")
    assert counted.photos == (2, 3)
    assert counted.known.tolist() == [[True, True, False], [True, False, True], [True, True, True]]
    assert counted.frequencies.tolist() == pytest.approx([4 / 5, 1 / 2, 1 / 3])
    assert [counted.tags.source_of(name) for name in ("one", "two", "three", "")] == [0, 1, 2, 2]


def test_colours_are_learned_and_the_checkpoint_holds_all_that_grounding_needs(photos, tmp_path):
    training = replace(
        TINY, trained="head", epochs=30, views=3, optimiser="adamw", rate=0.03, validate_every=75, save_every=75
    )
    training = replace(training, resize=(64, 72), crop=64)
    lite2 = efficientnet_lite2_imagenet(layer="blocks.5.0.bn1", window=8, short_side=64)
    folder = trained(photos, tmp_path / "model", training, lite2)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["mean_ap"] > 0.95
    assert metrics["step"] == 30 * 5
    classifier = load_checkpoint(checkpoint=folder)
    assert set(classifier.vocabulary.units) == {"red", "green", "blue", "photo"}
    assert classifier.vocabulary.counts == {"red": 6, "green": 6, "blue": 6, "photo": 9}
    assert classifier.window == 2  # cells of the last map at 64 pixels
    red = torch.tensor(COLOURS["red"])[:, None, None].expand(3, 64, 64) / 255
    with torch.no_grad():
        responses = classifier.network(classifier.prepare(red)[None])[0]
    named = {word: responses[unit].item() for word, (unit,) in classifier.vocabulary.units.items() if word != "photo"}
    assert max(named, key=named.get) == "red"
    rows = _log(folder)
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    with Image.open(folder / "training" / "curves.png") as picture:
        assert picture.size > (200, 200)


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import test_train_tags as t, torch
from pathlib import Path
torch.set_num_threads(1)
torch.set_flush_denormal(True)
import train.loop as loop
learn = loop._Run._learn
def killed(self, batch):
    if self.step == 7:  # of ten; the second epoch's third
        os.kill(os.getpid(), signal.SIGKILL)
    return learn(self, batch)
loop._Run._learn = killed
from train.recipe import TagTraining
t.trained(Path({photos!r}), {output!r}, {training})
"""


@pytest.mark.parametrize(
    "training",
    [
        replace(TINY, optimiser="adamw", rate=0.001, averaging=0.9, save_every=3),
        replace(TINY, schedule="plateau", validate_every=2, parts=2, clip=5.0, save_every=3),
    ],
)
def test_a_run_killed_in_mid_epoch_goes_on_to_the_weights_of_an_unbroken_one(photos, tmp_path, training):
    script = KILLED.format(
        tests=str(Path(__file__).parent), photos=str(photos), output=str(tmp_path / "parts"), training=repr(training)
    )
    died = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert 3 <= _step(tmp_path / "parts") <= 6
    whole = trained(photos, tmp_path / "whole", training)
    parts = trained(photos, tmp_path / "parts", training)
    assert _step(parts) == 10
    assert_same(weights(whole), weights(parts))
    logs = [_log(run) for run in (whole, parts)]
    for row in (*logs[0], *logs[1]):
        del row["photos_per_second"]
    assert logs[0] == logs[1]


def _log(folder):
    return list(csv.DictReader((folder / "training" / "log.csv").read_text().splitlines()))


def _step(folder):
    return int(_log(folder)[-1]["step"])


def test_a_batch_in_parts_is_the_batch(photos, tmp_path):
    training = replace(TINY, batch_norm="frozen")
    whole = trained(photos, tmp_path / "whole", training)
    parts = trained(photos, tmp_path / "parts", replace(training, parts=2))
    assert_same(weights(whole), weights(parts), atol=1e-5, rtol=1e-4)


def test_two_processes_train_as_one(photos, tmp_path):
    how = ["trained=head", "epochs=2", "batch=4", "rate=0.01", "resize=[40,48]", "crop=32", "workers=0", "views=1"]
    how += ["schedule=plateau", "half=false"]
    settings = ["model=torchvision", "model.name=shufflenet_v2_x0_5", "model.weights=null", "model.layer=stage3"]
    settings += ["data=tagged", f"data.path={photos}/train.jsonl"]
    settings += ["data@validation=tagged", f"validation.path={photos}/val.jsonl", "device=cpu"]
    settings = [f"task.{s}" if s.startswith("device") else s for s in settings] + [f"task.training.{s}" for s in how]
    commands = {
        "one": [sys.executable, "-m", "train"],
        "two": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "train"],
    }
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for name, command in commands.items():
        output = [f"task.output={tmp_path / name}", f"hydra.run.dir={tmp_path / 'log'}"]
        ended = subprocess.run(
            [*command, *settings, *output],
            capture_output=True,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[1],
        )
        assert ended.returncode == 0, ended.stderr
    assert_same(weights(tmp_path / "one"), weights(tmp_path / "two"), atol=1e-6, rtol=1e-4)
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in commands]
    assert metrics[0]["validation_loss"] == pytest.approx(metrics[1]["validation_loss"], rel=1e-5)
    assert metrics[0]["mean_ap"] == pytest.approx(metrics[1]["mean_ap"], abs=1e-3)


def test_weights_below_the_trained_part_stay_as_they_were(photos, tmp_path):
    model = small_network()
    folder = trained(photos, tmp_path / "model", replace(TINY, trained="stage4", rate=0.1), model)
    before, after = model.network.state_dict(), weights(folder)
    for name, value in before.items():
        if name.startswith(("conv1", "stage2", "stage3")):
            assert torch.equal(value, after[name]), name
    assert not torch.equal(before["conv5.0.weight"], after["conv5.0.weight"])


def test_units_that_are_kept_answer_as_before(photos, tmp_path):
    model = small_network()
    folder = trained(photos, tmp_path / "model", replace(TINY, trained="head", views=1), model, keep=1)
    joined = load_checkpoint(checkpoint=folder)
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(joined.network(image)[:, 4:], model.network(image), atol=1e-4, rtol=1e-4)
    words = joined.vocabulary
    assert words.size == 1004
    assert words.units["tabby"] == tuple(4 + unit for unit in model.vocabulary.units["tabby"])
    assert "tabby" in words.nouns
    assert "red" not in words.nouns


def test_a_word_that_both_know_means_the_learned_unit_where_photos_enough_had_it():
    kept = small_network()
    often, seldom = list(kept.vocabulary.units)[:2]
    units, counts = {often: (0,), seldom: (1,)}, {often: 3, seldom: 2}
    own = replace(kept, vocabulary=replace(kept.vocabulary, units=units, nouns=frozenset(), counts=counts))
    words = join(own, kept, 3).vocabulary
    assert words.units[often] == (0,)
    assert words.units[seldom] == tuple(1000 + unit for unit in kept.vocabulary.units[seldom])
    assert words.nouns == kept.vocabulary.nouns - {often}
    assert words.counts == counts


def test_photos_are_held_out_by_name_whatever_their_order(photos):
    many = data(photos)
    photo = many.photos[0]
    many = replace(many, photos=[replace(photo, name=f"{index}.png") for index in range(500)])
    training, validation = hold_out(many)
    assert len(training) + len(validation) == 500
    assert 0 < len(validation) < 40
    again = hold_out(replace(many, photos=many.photos[::-1]))[1]
    assert {photo.name for photo in again.photos} == {photo.name for photo in validation.photos}


def test_the_rate_rises_and_falls():
    rates = [cosine(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert rates[10] == 1
    assert all(later < earlier for earlier, later in pairwise(rates[10:]))
    assert rates[-1] < 0.001


def test_the_last_map_is_measured():
    network = small_network().network
    assert [last_map(network, crop) for crop in (64, 224)] == [2, 7]


def test_a_network_that_cannot_say_no_is_refused(photos, tmp_path):
    with pytest.raises(ValueError, match="SqueezeNet ends in an activation function, and cannot say that a tag"):
        trained(photos, tmp_path / "model", model=small_network("squeezenet1_1"))


def test_photos_that_cannot_be_read_are_listed_and_do_not_stop_training(photos, tmp_path, caplog):
    rows = (photos / "train.jsonl").read_text().splitlines()
    (photos / "broken.png").write_bytes(b"junk")
    rows += [json.dumps({"image": f"{name}.png", "tags": ["red"]}) for name in ("broken", "gone")]
    (photos / "some.jsonl").write_text("\n".join(rows))
    folder = train_tags(
        str(tmp_path / "model"),
        model=small_network(),
        data=data(photos, "some"),
        validation=data(photos, "val"),
        training=replace(TINY, epochs=1),
        device="cpu",
    )
    gone, broken = (folder / "training" / "unreadable.txt").read_text().splitlines()
    assert gone == f"{photos / 'gone.png'}: no such file"
    assert "broken.png: not an image" in broken
    assert "2 photos could not be read" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": None}, "no tagged photos: choose data=tagged"),
        ({"training": {"batch": 5, "parts": 2}}, r"training\.batch=5 must be a multiple of processes × parts, 1×2"),
        ({"training": {"trained": "layer9"}}, r"training\.trained=layer9: no such module"),
        ({"training": {"rate": 1e6}}, "rate must be from"),
        ({"training": {"optimiser": "adam"}}, r"training\.optimiser must be sgd or adamw, got 'adam'"),
        ({"training": {"crop": 64}}, r"training\.resize must be two sides from training\.crop"),
        ({"training": {"resize": (40,)}}, r"training\.resize must be two sides"),
        ({"least": 100}, "no tag has 100 photos or more"),
        ({"words": 1}, "vocabulary: size must be from 2"),
        ({"keep": 3}, r"keep=3 needs training\.trained=head"),
    ],
)
def test_what_cannot_be_trained_gets_one_clear_line(photos, tmp_path, change, message):
    options = {"model": small_network(), "data": data(photos), "validation": data(photos, "val")} | change
    with pytest.raises(ValueError, match=message) as error:
        train_tags(
            str(tmp_path / "model"),
            device="cpu",
            **options | {"training": replace(TINY, **change.get("training", {}))},
        )
    assert "\n" not in str(error.value)
    assert not (tmp_path / "model").exists()


def test_a_folder_of_another_run_is_refused(photos, tmp_path):
    training = replace(TINY, epochs=1)
    folder = trained(photos, tmp_path / "model", training)
    with pytest.raises(ValueError, match=r"state\.safetensors belongs to other settings \(rate\)"):
        trained(photos, folder, replace(training, rate=0.02))
    state = folder / "training" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(ValueError, match="no state of a training run, or damaged"):
        trained(photos, folder, training)
    state.unlink()
    with pytest.raises(ValueError, match="holds a checkpoint already"):
        trained(photos, folder, training)


def test_a_finished_run_stays_as_it_is(photos, tmp_path):
    training = replace(TINY, epochs=1)
    folder = trained(photos, tmp_path / "model", training)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert trained(photos, folder, training) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_shards_train_too(photos, tmp_path):
    import io
    import tarfile

    for shard in range(2):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for index in range(shard * 9, shard * 9 + 9):
                tags = json.dumps({"tags": [list(COLOURS)[index % 3]]}).encode()
                for name, content in (
                    (f"{index}.png", (photos / f"train{index}.png").read_bytes()),
                    (f"{index}.json", tags),
                ):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    shards = tagged_shards(str(tmp_path / "{0..1}.tar"), first=5)
    folder = train_tags(
        str(tmp_path / "model"), model=small_network(), data=shards, validation=shards, training=TINY, device="cpu"
    )
    assert json.loads((folder / "metrics.json").read_text())["step"] == 10
    with pytest.raises(ValueError, match="needs photos to validate on"):
        train_tags(
            str(tmp_path / "other"),
            model=small_network(),
            data=shards,
            training=replace(TINY, schedule="plateau"),
            device="cpu",
        )
