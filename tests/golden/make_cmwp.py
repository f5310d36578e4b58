"""Write cmwp.json: a tiny network, a photo, and the MWP and c-MWP maps of its units, by the paper's equations as loops.

    python tests/golden/make_cmwp.py

The network is a 3×3 convolution with ReLU, whose neurons are the map; a 3×3 convolution with ReLU; max pooling of 3×3
cells with stride 2; a 1×1 convolution with ReLU; a global average; and a linear classifier. Its weights and biases, and
the photo, are multiples of 1/16 from a small congruential generator, and activations are `fractions.Fraction`, so that
the file is the same on every machine. Eq. 6 is evaluated neuron by neuron, without any code of the project.
"""

import json
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

Neuron = tuple[int, int, int]  # channel, row, column
Neurons = dict[Neuron, Fraction]
Shares = dict[Neuron, dict[Neuron, Fraction]]  # of each neuron, P(a_j | a_i) of its children

CHANNELS, HEIGHT, WIDTH = 2, 7, 6
UNITS = 3


def numbers(*shape: int, seed: int) -> Any:
    """Nested lists of multiples of 1/16 from -1 to 1."""
    state = seed

    def draw(shape: tuple[int, ...]) -> Any:
        nonlocal state
        if shape:
            return [draw(shape[1:]) for _ in range(shape[0])]
        state = (1103515245 * state + 12345) % 2**31
        return (state >> 16) % 33 / 16 - 1

    return draw(shape)


def convolve(below: Neurons, weight: Any, bias: list[float], size: tuple[int, int]) -> tuple[Neurons, Shares]:
    """A convolution with stride 1 that keeps the size, a ReLU, and the shares that Eq. 6 gives to children."""
    margin = len(weight[0][0]) // 2
    neurons, shares = {}, {}
    for output, row, column in product(range(len(weight)), range(size[0]), range(size[1])):
        total, excited = Fraction(bias[output]), {}
        for channel, i, j in product(range(len(weight[0])), range(2 * margin + 1), range(2 * margin + 1)):
            child = (channel, row + i - margin, column + j - margin)
            if child in below:
                w = Fraction(weight[output][channel][i][j])
                total += w * below[child]
                if w > 0 and below[child] > 0:
                    excited[child] = w * below[child]
        neurons[output, row, column] = max(total, Fraction(0))
        shares[output, row, column] = normalised(excited)
    return neurons, shares


def pool(below: Neurons, channels: int, size: tuple[int, int]) -> tuple[Neurons, Shares, tuple[int, int]]:
    """Max pooling of 3×3 cells with stride 2: the whole probability goes to the winner, the first of equals."""
    pooled = ((size[0] - 3) // 2 + 1, (size[1] - 3) // 2 + 1)
    neurons, shares = {}, {}
    for channel, row, column in product(range(channels), range(pooled[0]), range(pooled[1])):
        window = [(channel, 2 * row + i, 2 * column + j) for i, j in product(range(3), range(3))]
        winner = max(window, key=lambda neuron: below[neuron])
        neurons[channel, row, column] = below[winner]
        shares[channel, row, column] = {winner: Fraction(1)}
    return neurons, shares, pooled


def normalised(excited: dict[Neuron, Fraction]) -> dict[Neuron, Fraction]:
    """Z_i of Eq. 6; a neuron that nothing excites has no children."""
    total = sum(excited.values())
    return {child: part / total for child, part in excited.items()}


def descend(probability: Neurons, shares: Shares) -> Neurons:
    """Eq. 1: P(a_j) = Σ_i P(a_j | a_i) P(a_i)."""
    below: Neurons = {}
    for neuron, mass in probability.items():
        for child, share in shares[neuron].items():
            below[child] = below.get(child, Fraction(0)) + share * mass
    return below


def average(neurons: Neurons, channels: int) -> tuple[list[Fraction], Shares]:
    """A global average, and the shares of its neurons among cells."""
    means, shares = [], {}
    for channel in range(channels):
        cells = {neuron: value for neuron, value in neurons.items() if neuron[0] == channel}
        means.append(sum(cells.values(), Fraction(0)) / len(cells))
        shares[channel, 0, 0] = normalised({neuron: value for neuron, value in cells.items() if value > 0})
    return means, shares


def from_unit(row: list[float], means: list[Fraction], sign: int) -> Neurons:
    """The first step down from a unit, or from its reverse unit (sign -1)."""
    excited = {(c, 0, 0): sign * Fraction(w) * means[c] for c, w in enumerate(row) if sign * w * means[c] > 0}
    return normalised(excited)


def as_map(neurons: Neurons, *, clipped: bool) -> list[list[float]]:
    """The sum over channels at each cell."""
    cells = [[Fraction(0)] * WIDTH for _ in range(HEIGHT)]
    for (_, row, column), mass in neurons.items():
        cells[row][column] += mass
    return [[float(max(cell, Fraction(0)) if clipped else cell) for cell in row] for row in cells]


def main() -> None:
    """Compute and write the file."""
    photo = numbers(CHANNELS, HEIGHT, WIDTH, seed=1)
    parameters = {
        "stem.weight": numbers(4, CHANNELS, 3, 3, seed=22),
        "stem.bias": numbers(4, seed=23),
        "body.weight": numbers(5, 4, 3, 3, seed=24),
        "body.bias": numbers(5, seed=25),
        "mixing.weight": numbers(6, 5, 1, 1, seed=26),
        "mixing.bias": numbers(6, seed=27),
        "classifier.weight": numbers(UNITS, 6, seed=28),
        "classifier.bias": numbers(UNITS, seed=29),
    }
    # A neuron that only its bias keeps alive: what it wins is lost.
    parameters["mixing.weight"][4] = [[[-abs(w)] for [w] in channel] for channel in parameters["mixing.weight"][4]]
    parameters["mixing.bias"][4] = 8.0
    size = (HEIGHT, WIDTH)
    pixels = {(c, i, j): Fraction(photo[c][i][j]) for c, i, j in product(range(CHANNELS), range(HEIGHT), range(WIDTH))}
    stem, _ = convolve(pixels, parameters["stem.weight"], parameters["stem.bias"], size)
    body, to_stem = convolve(stem, parameters["body.weight"], parameters["body.bias"], size)
    pooled, to_body, size = pool(body, 5, size)
    mixed, to_pooled = convolve(pooled, parameters["mixing.weight"], parameters["mixing.bias"], size)
    means, to_mixed = average(mixed, 6)
    maps: dict[str, list[Any]] = {"mwp": [], "cmwp": []}
    for row in parameters["classifier.weight"]:
        excited, inhibited = from_unit(row, means, 1), from_unit(row, means, -1)
        contrast = {n: excited.get(n, Fraction(0)) - inhibited.get(n, Fraction(0)) for n in (*excited, *inhibited)}
        for name, probability in (("mwp", excited), ("cmwp", contrast)):
            for shares in (to_mixed, to_pooled, to_body, to_stem):
                probability = descend(probability, shares)
            maps[name].append(as_map(probability, clipped=name == "cmwp"))
    record = {"command": "python tests/golden/make_cmwp.py", "photo": photo, "parameters": parameters, "maps": maps}
    Path(__file__).with_name("cmwp.json").write_text(json.dumps(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
