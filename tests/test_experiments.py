"""Experiments compose and follow the paper, and the tasks' settings equal the defaults of what they build."""

import inspect
import json
import re
from dataclasses import asdict
from pathlib import Path

import command_settings
import pytest
from hydra.errors import ConfigCompositionException
from hydra.utils import get_method
from omegaconf import OmegaConf

from grounding.config import CONFIG_DIR, build_part, plain_settings
from grounding.quoting import quote_free_text

TASKS = sorted(path.stem for path in Path(CONFIG_DIR).glob("task/*.yaml"))
EXPERIMENTS = sorted(path.stem for path in Path(CONFIG_DIR).glob("experiment/*.yaml"))


def head_of(name):
    text = (Path(CONFIG_DIR) / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
    return re.match("(#.*\n)+", text)[0]


TRAINING_EXPERIMENTS = [name for name in EXPERIMENTS if f"python -m train experiment={name} " in head_of(name)]


def composed(*overrides, config="train", **options):
    return command_settings.composed(*quote_free_text(list(overrides)), config=config, **options)


def alike(values):
    """Values after a round trip through JSON, which turns tuples into lists."""
    return json.loads(json.dumps(values))


@pytest.mark.parametrize("name", TRAINING_EXPERIMENTS)
def test_every_experiment_composes_and_its_task_accepts_its_settings(name):
    task = OmegaConf.to_container(composed(f"experiment={name}").task, resolve=True)
    assert set(task) - {"_target_"} <= set(inspect.signature(get_method(task["_target_"])).parameters)
    training = task.get("training")
    if training is not None:
        built = build_part(training)
        assert alike(asdict(built)) == {key: value for key, value in training.items() if key != "_target_"}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_head_of_every_experiment_says_how_it_is_run(name):
    head = head_of(name)
    assert head.startswith("# @package _global_\n")
    assert re.search(
        rf"python -m (train|eval|eval\.regions) .*experiment={name} |python -m train experiment={name}", head
    )
    for words in ("Expect:", "Time:"):
        assert words in head


@pytest.mark.parametrize("name", ["pointing_game", "dominant_objects"])
def test_experiments_of_regions_show_the_network_photos_of_224_pixels(name):
    settings = composed(f"experiment={name}", "model=googlenet", config="regions")
    assert (settings.model.short_side, settings.model.window, settings.model.layer) == (224, 7, "maxpool2")
    assert (settings.objects, settings.pointing.tolerance, settings.square, settings.dominant.alpha) == {
        "pointing_game": ("all", 15, False, None),
        "dominant_objects": ("single", 0, True, "chosen"),
    }[name]


ANALYSES = (  # of the paper's Tables 2 to 4 and Figure 6, which have no γ of their own
    "c_cam", "c_deconv", "c_grad", "cmwp_star", "d_wta", "deconv_at_layer", "grad_at_layer", "post_norm",
    "without_norm",
)  # fmt: skip


def test_table6_tries_every_attention_that_the_paper_measured_on_phrases():
    settings = composed("experiment=table6", config="eval", return_hydra_config=True)
    assert str(settings.hydra.mode) == "RunMode.MULTIRUN"
    tried = settings.hydra.sweeper.params.attention.split(",")
    assert sorted([*tried, *ANALYSES]) == sorted(path.stem for path in Path(CONFIG_DIR).glob("attention/*.yaml"))


def test_stock6m_is_the_papers_recipe():
    settings = composed(
        "experiment=stock6m_googlenet", "data.path=s/{000..599}.tar", "validation.path=it's, held out.tar"
    )
    task = plain_settings("task", settings.task)
    shards = {"_target_": "train.data.find_shards", "first": 5}
    assert task["data"] == shards | {"path": "s/{000..599}.tar"}
    assert task["validation"] == shards | {"path": "it's, held out.tar"}
    assert task["words"] == 18_000
    assert (task["model"]["name"], task["model"]["weights"]) == ("googlenet", "DEFAULT")
    training = build_part(task["training"])
    assert (training.trained, training.epochs, training.batch_size, training.learning_rate) == ("all", 3, 64, 0.01)
    assert (training.optimiser, training.momentum, training.schedule) == ("sgd", 0.9, "plateau")
    assert (training.view.resize, training.view.crop) == ((256, 256), 224)
    steps_of_epoch = 6_000_000 // training.batch_size
    assert 5 <= steps_of_epoch / training.validate_every <= 20  # a plateau is seen within an epoch


def test_networks_of_the_pointing_game_are_trained_by_the_papers_recipe():
    voc = composed("experiment=pointing_voc07", "data.path=VOC2007")
    coco = composed("experiment=pointing_coco", "data.path=train2014", "data.annotations=instances.json")
    assert (voc.data.split, voc.task.output) == ("trainval", "runs/train/pointing_voc07")
    assert coco.task.output == "runs/train/pointing_coco"
    assert voc.task.training == coco.task.training
    assert (voc.model.name, voc.model.layer) == ("googlenet", "maxpool2")
    training = build_part(plain_settings("task", voc.task)["training"])
    assert (training.trained, training.batch_size, training.learning_rate) == ("head", 64, 0.01)
    assert (training.optimiser, training.momentum, training.schedule) == ("sgd", 0.9, "constant")
    assert (training.view.resize, training.view.crop) == ((256, 256), 224)
    assert training.stop_at_plateau == 0.01


def test_only_the_command_line_overrides_an_experiment():
    usual, experiment = composed(), composed("experiment=stock6m_googlenet")
    assert (usual.data, usual.validation) == (None, None)
    assert usual.task.output != experiment.task.output
    changed = composed(
        "experiment=stock6m_googlenet", "task.training.batch_size=8", "model=resnet50", "data.first=null"
    )
    assert (changed.task.training.batch_size, changed.model.name, changed.data.first) == (8, "resnet50", None)


def differing_defaults(settings):
    """Settings of a target, and of its parts, that differ from the defaults of its arguments, and unknown ones."""
    settings = dict(settings)
    parameters = inspect.signature(get_method(settings.pop("_target_"))).parameters
    differing = []
    for name, value in settings.items():
        if isinstance(value, dict) and "_target_" in value:
            differing += [f"{name}.{part}" for part in differing_defaults(value)]
        elif name not in parameters or (
            parameters[name].default is not inspect.Parameter.empty and alike(parameters[name].default) != value
        ):
            differing.append(name)
    return differing + [name for name in parameters if name not in settings]


@pytest.mark.parametrize("task", TASKS)
def test_the_settings_of_every_task_equal_the_defaults_of_its_arguments(task):
    settings = OmegaConf.to_container(OmegaConf.load(Path(CONFIG_DIR) / "task" / f"{task}.yaml"), resolve=False)
    settings = {name: None if str(value).startswith("${") else value for name, value in settings.items()}
    assert differing_defaults(settings) == []


def test_a_setting_that_differs_from_its_default_is_found():
    training = {"_target_": "train.recipe.TagTraining", "epochs": 4, "rate": 0.1}
    differing = differing_defaults({"_target_": "train.loop.train_tags", "words": 18_000, "training": training})
    assert {"training.epochs", "training.rate", "training.seed", "least"} <= set(differing)
    assert not {"words", "training"} & set(differing)


@pytest.mark.parametrize("old", ["batch=8", "parts=2", "rate=0.1", "head_rate=2", "decay=0.1", "averaging=0.9"])
def test_the_former_names_of_hyperparameters_are_refused(old):
    with pytest.raises(ConfigCompositionException, match=f"Could not override 'task.training.{old.split('=')[0]}'"):
        composed(f"task.training.{old}")
