"""Fixtures that several test files share."""

import signal

import pytest
import torch
from command_settings import QUICK
from hypothesis import HealthCheck, settings
from skimage import data

from grounding import Grounder

# Jobs in a shell's background ignore Ctrl-C, and so would the processes that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # the networks of most tests are so small that threads would wait for each other
settings.register_profile("project", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")


@pytest.fixture
def one_thread():
    """Two threads that share a busy core wait for each other most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def grounder():
    """The default grounder, which takes seconds for a photo. Tests must not change it."""
    return Grounder.load()


@pytest.fixture(scope="session")
def quick_grounder():
    """A grounder that takes a fraction of a second for a photo. Tests must not change it."""
    return Grounder.load(None, *QUICK)


@pytest.fixture(scope="session")
def examples():
    """The photos that come with scikit-image, by name."""
    return {name: getattr(data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}


@pytest.fixture(scope="session")
def example_groundings(grounder, examples):
    """The example photos, each grounded once with the default grounder, by name."""
    captions = {
        "astronaut": ["a space shuttle"],
        "chelsea": ["a tabby cat"],
        "coffee": ["a cup of coffee", "An ineffable quiddity beside a spoon"],
        "rocket": ["a rocket"],
    }
    groundings = grounder([examples[name] for name in captions], list(captions.values()))
    return dict(zip(captions, groundings, strict=True))
