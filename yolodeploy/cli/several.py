"""What a command says that worked on several recipes: a row for each, and the exit code of the worst."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from yolodeploy.errors import ChecksFailed, Undecided, YolodeployError

if TYPE_CHECKING:
    from yolodeploy.jobs import Result


def described(result: Result, value: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """A result as plain data; `value` describes what was made."""
    row: dict[str, Any] = {
        "recipe": str(result.recipe),
        "ok": result.error is None,
        "seconds": result.seconds,
    }
    if (error := result.error) is None:
        return {**row, **value(result.made)}
    row["error"] = {"kind": error.kind, "exit_code": error.exit_code, "message": str(error)}
    return {**row, "report": error.report} if isinstance(error, ChecksFailed) else row


def exit_code(results: Iterable[Result]) -> int:
    """The exit code of the worst."""
    return worst(result.error for result in results)


def worst(errors: Iterable[YolodeployError | None]) -> int:
    """A bug is worse than another error, that is worse than failed checks, and these are worse than undecided ones.

    Of two that are equally bad the first counts.
    """
    found = [error for error in errors if error is not None]
    return max(found, key=_badness).exit_code if found else 0


def _badness(error: YolodeployError) -> int:
    if isinstance(error, ChecksFailed):
        return 0 if isinstance(error, Undecided) else 1
    return 3 if error.exit_code == YolodeployError.exit_code else 2
