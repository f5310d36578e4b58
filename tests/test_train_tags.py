"""The training of tag classifiers, on photos of one colour each, whose tags name the colour."""

import io
import json
import shutil
import tarfile
from dataclasses import replace

import pytest
import torch
from PIL import Image
from tag_runs import (
    COLOURS,
    TINY,
    assert_same_weights,
    read_log,
    read_photos,
    read_weights,
    small_classifier,
    train_small,
    write_photos,
)

from grounding.checkpoint import load_checkpoint
from grounding.models import efficientnet_lite2_imagenet
from train.data import find_shards
from train.loop import train_tags


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder)
    return folder


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory):
    """The folder of a finished run of one epoch, to copy from."""
    return train_small(photos, tmp_path_factory.mktemp("finished") / "model", replace(TINY, epochs=1))


def test_colours_are_learned_and_the_checkpoint_holds_all_that_grounding_needs(photos, tmp_path):
    training = replace(
        TINY, trained="head", epochs=12, views=2, optimiser="adamw", learning_rate=0.06, resize=(64, 72), crop=64
    )
    training = replace(training, validate_every=12 * 5)
    folder = train_tags(
        str(tmp_path / "model"),
        model=efficientnet_lite2_imagenet(layer="blocks.5.0.bn1", window=8, short_side=64),
        data=read_photos(photos),
        validation=read_photos(photos, "val"),
        training=training,
        device="cpu",
    )
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["mean_ap"] > 0.95
    assert metrics["step"] == 12 * 5
    classifier = load_checkpoint(checkpoint=folder)
    assert set(classifier.vocabulary.units) == {"red", "green", "blue", "photo"}
    assert classifier.vocabulary.counts == {"red": 6, "green": 6, "blue": 6, "photo": 9}
    assert classifier.window == 2  # cells of the last map at 64 pixels
    red = torch.tensor(COLOURS["red"])[:, None, None].expand(3, 64, 64) / 255
    with torch.no_grad():
        responses = classifier.network(classifier.prepare(red)[None])[0]
    colours = {word: responses[unit].item() for word, (unit,) in classifier.vocabulary.units.items() if word in COLOURS}
    assert max(colours, key=colours.get) == "red"
    rows = read_log(folder)
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    with Image.open(folder / "training" / "curves.png") as picture:
        assert picture.size > (200, 200)


def test_a_batch_computed_in_parts_gives_the_same_weights(photos, tmp_path):
    training = replace(TINY, epochs=1, batch_norm="frozen")
    whole = train_small(photos, tmp_path / "whole", training)
    parts = train_small(photos, tmp_path / "parts", replace(training, accumulation_steps=2))
    assert_same_weights(read_weights(whole), read_weights(parts), atol=1e-5, rtol=1e-4)


def test_weights_below_the_trained_part_stay_as_they_were(photos, tmp_path):
    model = small_classifier()
    training = replace(TINY, epochs=1, trained="blocks.3", learning_rate=0.1, ema_decay=0.5)
    after = read_weights(train_small(photos, tmp_path / "model", training, model))
    for name, value in model.network.state_dict().items():
        if name.startswith(("conv_stem", "bn1", "blocks.0", "blocks.1", "blocks.2")):
            assert torch.equal(value, after[name]), name
    assert not torch.equal(model.network.state_dict()["conv_head.weight"], after["conv_head.weight"])


def test_the_checkpoint_has_the_averaged_weights(photos, tmp_path):
    """Averaged weights lag behind the current ones, the more the slower the average decays."""
    start = small_classifier().network.state_dict()["conv_stem.weight"]
    distances = []
    for ema_decay in (0, 1e-9, 0.3, 1):
        training = replace(TINY, epochs=1, ema_decay=ema_decay)
        weights = read_weights(train_small(photos, tmp_path / str(ema_decay), training))
        distances.append((weights["conv_stem.weight"] - start).norm().item())
    assert distances[1] == pytest.approx(distances[0], rel=1e-5)
    assert distances[0] > distances[2] > distances[3] > 0


def test_units_that_are_kept_respond_as_before(photos, tmp_path):
    model = small_classifier()
    folder = train_small(photos, tmp_path / "model", replace(TINY, trained="head", views=1), model, keep=1)
    joined = load_checkpoint(checkpoint=folder)
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(joined.network(image)[:, 4:], model.network(image), atol=1e-4, rtol=1e-4)
    words = joined.vocabulary
    assert words.size == 1004
    assert words.units["tabby"] == tuple(4 + unit for unit in model.vocabulary.units["tabby"])
    assert "tabby" in words.nouns
    assert "red" not in words.nouns


def test_photos_that_cannot_be_read_are_listed_and_do_not_stop_training(photos, tmp_path, caplog):
    rows = (photos / "train.jsonl").read_text().splitlines()
    (photos / "broken.png").write_bytes(b"junk")
    rows += [json.dumps({"image": f"{name}.png", "tags": ["red"]}) for name in ("broken", "gone")]
    (photos / "some.jsonl").write_text("\n".join(rows))
    training = replace(TINY, epochs=1)
    folder = train_small(photos, tmp_path / "model", training, data=read_photos(photos, "some"))
    gone, broken = (folder / "training" / "unreadable.txt").read_text().splitlines()
    assert gone == f"{photos / 'gone.png'}: no such file"
    assert "broken.png: not an image" in broken
    assert "2 photos could not be read" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": None}, "no tagged photos: choose data=tagged"),
        (
            {"training": {"batch_size": 5, "accumulation_steps": 2}},
            r"training\.batch_size=5 must be a multiple of processes × accumulation_steps, 1×2",
        ),
        ({"training": {"trained": "layer9"}}, r"training\.trained=layer9: no such module"),
        ({"training": {"learning_rate": 1e6}}, "learning_rate must be from"),
        ({"training": {"optimiser": "adam"}}, r"training\.optimiser must be sgd or adamw, got 'adam'"),
        ({"training": {"crop": 64}}, r"training\.resize must be two sides from training\.crop"),
        ({"training": {"resize": (40,)}}, r"training\.resize must be two sides"),
        ({"least": 100}, "no tag has 100 photos or more"),
        ({"words": 1}, "vocabulary: size must be from 2"),
        ({"keep": 3}, r"keep=3 needs task\.training\.trained=head, or task\.training\.distil above 0"),
        ({"training": {"distil": 1.0}}, r"distil=1\.0 needs task\.keep, whose units it is for: set it to 0"),
        (
            {"training": {"distil": 1.0, "trained": "head"}, "keep": 3},
            r"distil=1\.0 needs training of more than the head",
        ),
        ({"training": {"pooling": "max"}}, r"training\.pooling must be average or lse or attention, got 'max'"),
        ({"training": {"sharpness": 0.0}}, r"training: sharpness must be from"),
        ({"training": {"colour": 2.0}}, r"training: colour must be from"),
        ({"training": {"contrast": -1.0}}, r"training: contrast must be from"),
        (
            {"training": {"contrast": 1.0, "accumulation_steps": 4}},
            r"training\.contrast needs several photos in each part of a batch: raise training\.batch_size",
        ),
    ],
)
def test_settings_that_make_no_sense_get_one_clear_line(photos, tmp_path, change, message):
    options = {**change}
    with pytest.raises(ValueError, match=message) as error:
        train_small(photos, tmp_path / "model", replace(TINY, **options.pop("training", {})), **options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "model").exists()


def test_contrast_needs_phrases(photos, tmp_path):
    data = read_photos(photos)
    without = replace(data, photos=[replace(photo, phrases=()) for photo in data.photos])
    with pytest.raises(ValueError, match=r"training\.contrast needs phrases, and no photo has any: write"):
        train_small(photos, tmp_path / "model", replace(TINY, contrast=1.0), data=without)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("trained", ["head", "all"])
def test_phrases_count_by_their_weight_in_the_loss_of_training_alone(photos, tmp_path, trained):
    training = replace(TINY, trained=trained, views=1, epochs=1, batch_norm="frozen", learning_rate=1e-9)
    rows = []
    for contrast in (0.0, 1.0, 2.0):
        folder = train_small(photos, tmp_path / str(contrast), replace(training, contrast=contrast))
        rows.append({name: float(value) for name, value in read_log(folder)[-1].items()})
    losses = [row["loss"] for row in rows]
    assert losses[1] - losses[0] > 0.1
    assert losses[2] - losses[0] == pytest.approx(2 * (losses[1] - losses[0]), rel=1e-3)
    assert rows[2]["validation_loss"] == pytest.approx(rows[0]["validation_loss"], rel=1e-5)


def test_the_folder_of_another_run_is_refused(photos, finished, tmp_path):
    training = replace(TINY, epochs=1)
    folder = shutil.copytree(finished, tmp_path / "model")
    with pytest.raises(ValueError, match=r"state\.safetensors belongs to other settings \(learning_rate\)"):
        train_small(photos, folder, replace(training, learning_rate=0.02))
    state = folder / "training" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(ValueError, match="no state of a training run, or damaged"):
        train_small(photos, folder, training)
    state.unlink()
    with pytest.raises(ValueError, match="holds a checkpoint already"):
        train_small(photos, folder, training)


def test_a_training_that_diverges_says_what_to_change(photos, tmp_path):
    training = replace(TINY, learning_rate=1000, momentum=1, batch_norm="frozen")
    with pytest.raises(
        ValueError, match=r"loss is (nan|inf).*: lower task\.training\.learning_rate, or set task\.training\.clip"
    ):
        train_small(photos, tmp_path / "model", training)


def test_training_leaves_the_arithmetic_of_the_process_as_it_was(finished):
    assert torch.tensor(1e-310, dtype=torch.float64) * 1 > 0  # no longer flushed to zero


def test_a_finished_run_stays_as_it_is(photos, finished):
    before = (finished / "model.safetensors").stat().st_mtime_ns
    assert train_small(photos, finished, replace(TINY, epochs=1)) == finished
    assert (finished / "model.safetensors").stat().st_mtime_ns == before


def test_shards_are_trained_on_too(photos, tmp_path):
    for shard in range(2):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for index in range(shard * 9, shard * 9 + 9):
                colour = list(COLOURS)[index % 3]
                tags = json.dumps({"tags": [colour], "phrases": [[colour]]}).encode()
                photo = (photos / f"train{index}.png").read_bytes()
                for name, content in ((f"{index}.png", photo), (f"{index}.json", tags)):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    shards = find_shards(str(tmp_path / "{0..1}.tar"), first=5)
    folder = train_small(photos, tmp_path / "model", replace(TINY, contrast=1.0), data=shards, validation=shards)
    assert json.loads((folder / "metrics.json").read_text())["step"] == 10
    with pytest.raises(ValueError, match="needs photos to validate on"):
        train_small(photos, tmp_path / "other", replace(TINY, schedule="plateau"), data=shards, validation=None)
