"""Checks of numeric settings against their limits, with one wording for all of them."""


def check_limits(owner: str, **limits: tuple[float, float, float]) -> None:
    """Check settings, each given as (value, lowest, highest).

    Raises:
        ValueError: a value is not a number or lies outside its limits. The message names the setting.

    >>> check_limits("training", epochs=(0, 1, 100))
    Traceback (most recent call last):
    ValueError: training: epochs must be from 1 to 100, got 0
    """
    for name, (value, lowest, highest) in limits.items():
        if not isinstance(value, int | float) or not lowest <= value <= highest:
            raise ValueError(f"{owner}: {name} must be from {lowest:g} to {highest:g}, got {value!r}")
