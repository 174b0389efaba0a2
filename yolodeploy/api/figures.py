"""Typed figures of a report, and what all results say of themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yolodeploy.errors import YolodeployError
    from yolodeploy.measure import Check
    from yolodeploy.tasks import Measure


def measures_of(report: Mapping[str, Any] | None) -> tuple[Measure, ...]:
    """The measures of a report; none if there is none."""
    from yolodeploy.tasks import read_measures

    return read_measures(report["measures"]) if report else ()


def checks_of(report: Mapping[str, Any] | None) -> tuple[Check, ...]:
    """The checks of a report; none if there is none."""
    from yolodeploy.measure import read_checks

    return read_checks(report["checks"]) if report else ()


def measure_of(measures: Sequence[Measure], key: str, group: str = "") -> Measure:
    """The measure with this key and group; raises LookupError with those that there are."""
    for measure in measures:
        if (str(measure.key), measure.group) == (key, group):
            return measure
    groups = [measure.group for measure in measures if measure.key == key]
    if groups:
        raise LookupError(f"{key} has no group {group!r}; it has {', '.join(map(repr, groups))}")
    keys = ", ".join(dict.fromkeys(str(measure.key) for measure in measures))
    raise LookupError(f"{key!r} was not measured; {f'there are {keys}' if keys else 'nothing was'}")


def described(what: Path, error: YolodeployError | None, seconds: float) -> dict[str, Any]:
    """A result as plain data: which recipe, whether it went well, and the error."""
    row: dict[str, Any] = {"recipe": str(what), "ok": error is None, "seconds": seconds}
    if error is not None:
        said = {"kind": error.kind, "exit_code": error.exit_code, "message": str(error)}
        row["error"] = said
    return row
