"""A small classifier of red and blue squares on noise, trained within the test: where its evidence is, is known."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

SIDE, SQUARE = 48, 12  # pixels
NAMES = ["red square", "blue square", "Noise"]
COLOURS = torch.tensor([[1.0, 0.2, 0.2], [0.2, 0.2, 1.0]])
PREPARATION = {"class_names": NAMES, "mean": (0.5,) * 3, "std": (0.5,) * 3, "short_side": SIDE}

Place = tuple[int, int]  # row and column of a square's first pixel


def small_network(units: int = len(NAMES)) -> nn.Sequential:
    """Three convolutions, below a classifier of the mean; layer 4 has the last neurons before the last pooling."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), nn.Dropout(0.1), nn.Linear(16, units)),
    )


def photo(places: dict[int, Place], generator: torch.Generator) -> Tensor:
    """A photo (3, SIDE, SIDE) of noise with squares of some classes at these places."""
    image = 0.3 + 0.2 * torch.rand(3, SIDE, SIDE, generator=generator)
    for unit, (top, left) in places.items():
        image[:, top : top + SQUARE, left : left + SQUARE] = COLOURS[unit][:, None, None]
    return image


def trained_network() -> nn.Sequential:
    """The network, trained on photos of one square or none, and left in training mode."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    network = small_network()
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(60):
        units = torch.randint(len(NAMES), (16,), generator=generator)
        corners = torch.randint(SIDE - SQUARE, (16, 2), generator=generator).tolist()
        images = [
            photo({unit: (row, column)} if unit < len(COLOURS) else {}, generator)
            for unit, (row, column) in zip(units.tolist(), corners, strict=True)
        ]
        optimiser.zero_grad()
        cross_entropy(network((torch.stack(images) - 0.5) / 0.5), units).backward()
        optimiser.step()
    return network
