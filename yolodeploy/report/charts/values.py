"""What charts are drawn of: plain figures and their names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Interval = tuple[float, float]
_PLACES = ("artifact", "source", "third", "fourth", "fifth", "sixth")  # colours of series by place


@dataclass(frozen=True)
class Axis:
    """An axis: its title with the unit, its ends where the data does not set them, and how ticks are written.

    `form` is a format of d3 (https://d3js.org/d3-format), such as ".0%" ("": whatever the ticks need); `log` makes the scale logarithmic, for figures above 0.
    """

    title: str
    low: float | None = None
    high: float | None = None
    form: str = ""
    log: bool = False

    def domain(self, figures: Iterable[float]) -> Interval:
        """From where to where it goes, for these figures."""
        found = list(figures) or [0.0, 1.0]
        low = min(found) if self.low is None else self.low
        high = max(found) if self.high is None else self.high
        if low < high:
            return low, high
        return (low / 2, low * 2) if self.log else (low - 0.5, low + 0.5)


@dataclass(frozen=True)
class Series:
    """A named line, or named samples: `points` are (x, y); of a distribution x alone counts.

    `colour` names a colour of the page: source, artifact, third ... sixth, good, bad, muted; "": the next by place.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: str = ""


@dataclass(frozen=True)
class Bar:
    """A bar with its interval; `text` is written behind it (default: the figure), `note` is its hover text.

    Columns of one `group` share a colour, unless they have one of their own.
    """

    name: str
    value: float
    interval: Interval | None = None
    text: str = ""
    note: str = ""
    colour: str = ""
    group: str = ""


@dataclass(frozen=True)
class Point:
    """A point with its intervals; points of one group share colour and shape. `note` is its hover text."""

    name: str
    x: float
    y: float
    group: str = ""
    x_interval: Interval | None = None
    y_interval: Interval | None = None
    note: str = ""


def colour_of(name: str, place: int = 0) -> str:
    """A colour of the page as SVG takes it; "" inherits the surrounding colour."""
    return f"var(--{name or _PLACES[place % len(_PLACES)]})"


def short(value: float) -> str:
    """A figure of about three digits."""
    return f"{value + 0.0:.4g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.1e}"
