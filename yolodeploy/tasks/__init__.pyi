from .measures import (
    USUAL,
    Key,
    Measure,
    grouped,
    one,
    percent,
    plain_measures,
    read_measures,
    six_digits,
)

__all__ = [
    "USUAL",
    "Key",
    "Measure",
    "grouped",
    "one",
    "percent",
    "plain_measures",
    "read_measures",
    "six_digits",
]
