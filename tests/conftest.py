"""What several test files share."""

import pytest
import torch
from hypothesis import HealthCheck, settings
from skimage import data

from grounding import Grounder

torch.set_num_threads(1)  # the networks of most tests are so small that threads would wait for each other
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")


@pytest.fixture(scope="session")
def grounder():
    """The default grounder."""
    return Grounder.load()


@pytest.fixture(scope="session")
def examples():
    """The photos that come with scikit-image, by name."""
    return {name: getattr(data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")}
