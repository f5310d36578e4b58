"""What several test files share."""

import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(2)
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")
