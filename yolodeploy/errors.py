"""One class per exit code; every message gives the offending value, then the remedy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SHOWN = 500  # of the characters of a word: a message quotes values, however long they are
_LONG = re.compile(r"\S{1000,}")


def quotable(value: object, most: int = 60) -> str:
    """A value as a message may show it: the beginning, on one line, with nothing that steers a terminal."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(value)[: most + 1])
    return text if len(text) <= most else f"{text[: most - 3]}..."


def one_line(text: object) -> str:
    """A path as a message may show it: it stays on its line."""
    return str(text).replace("\n", "\\n")


class YolodeployError(Exception):
    """Base of all errors that a user can act on.

    `exit_code` is what the process ends with, `kind` the heading under which
    docs/errors.md explains it.
    """

    exit_code = 70
    kind = "bug"

    def __init__(self, message: str) -> None:
        super().__init__(_LONG.sub(lambda found: f"{found[0][:_SHOWN]}...", message))


class ChecksFailed(YolodeployError):
    """The artifact was built and measured, and missed at least one check of its recipe."""

    exit_code = 1
    kind = "checks failed"

    def __init__(self, message: str, report: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.report = report


class RecipeError(YolodeployError):
    """The recipe file or the command line cannot be understood."""

    exit_code = 2
    kind = "recipe"


class PlanRefused(YolodeployError):
    """The recipe is well formed but asks for what the chain or the device cannot do."""

    exit_code = 3
    kind = "plan refused"


class EnvironmentProblem(YolodeployError):
    """This machine lacks something: a toolchain, disk space, a writable folder."""

    exit_code = 4
    kind = "environment"


class ModelError(YolodeployError):
    """The weights file cannot be used: missing, damaged, unsafe, or of another task."""

    exit_code = 5
    kind = "model"


class DataError(YolodeployError):
    """The data set cannot be used: missing files, bad labels, unreadable images."""

    exit_code = 6
    kind = "data"


class StepFailed(YolodeployError):
    """A backend's tool failed while running a step or opening its result."""

    exit_code = 7
    kind = "step failed"


class LockMismatch(YolodeployError):
    """`--locked` was given and something differs from the lock file."""

    exit_code = 8
    kind = "lock"


class StoreProblem(YolodeployError):
    """The store cannot be read or written."""

    exit_code = 9
    kind = "store"


class VerificationFailed(YolodeployError):
    """A bundle is not, byte for byte, what was deployed."""

    exit_code = 10
    kind = "verification failed"


class NotReproduced(YolodeployError):
    """A recipe that was built again elsewhere did not give the bytes that its lock file names."""

    exit_code = 11
    kind = "not reproduced"


class Interrupted(YolodeployError):
    """The user pressed Ctrl-C; what was finished before is kept."""

    exit_code = 130
    kind = "interrupted"
