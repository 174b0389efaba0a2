"""The exit code of a command that worked on several recipes: the worst one's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from yolodeploy.errors import ChecksFailed, Undecided, YolodeployError

if TYPE_CHECKING:
    from yolodeploy.api import Ended


def exit_code(results: Iterable[Ended]) -> int:
    """A bug is worse than another error, that is worse than failed checks, and these are worse than undecided ones.

    Of two that are equally bad the first counts.
    """
    found = [result.error for result in results if result.error is not None]
    return max(found, key=_badness).exit_code if found else 0


def _badness(error: YolodeployError) -> int:
    if isinstance(error, ChecksFailed):
        return 0 if isinstance(error, Undecided) else 1
    return 3 if error.exit_code == YolodeployError.exit_code else 2
