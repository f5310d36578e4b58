"""Limits of settings, said in one way."""


def check_limits(owner: str, **limits: tuple[float, float, float]) -> None:
    """Check settings given as (value, least, most).

    Raises:
        ValueError: a value is no number, or out of its limits.
    """
    for name, (value, least, most) in limits.items():
        if not isinstance(value, int | float) or not least <= value <= most:
            raise ValueError(f"{owner}: {name} must be from {least:g} to {most:g}, got {value!r}")
