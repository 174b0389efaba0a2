"""One class per exit code; every message gives the offending value, then the remedy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SHOWN = 500  # characters of a long word: messages quote values of any length
_LONG_WORD = re.compile(r"\S{1000,}")


class YolodeployError(Exception):
    """Base of all errors that a user can act on.

    `exit_code` is that of the process, `kind` the heading in docs/errors.md that explains the error.
    """

    exit_code = 70
    kind = "bug"

    def __init_subclass__(cls, *, exit_code: int, kind: str) -> None:
        cls.exit_code, cls.kind = exit_code, kind

    def __init__(self, message: str) -> None:
        super().__init__(_LONG_WORD.sub(lambda found: f"{found[0][:_SHOWN]}...", message))


class ChecksFailed(YolodeployError, exit_code=1, kind="checks failed"):
    """The artifact was built and measured, and missed at least one check of its recipe."""

    def __init__(self, message: str, report: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.report = report


class Undecided(ChecksFailed, exit_code=12, kind="undecided"):
    """No check failed, but noise could turn the verdict of one over."""


class RecipeError(YolodeployError, exit_code=2, kind="recipe"):
    """The recipe file or the command line is not valid."""


class PlanRefused(YolodeployError, exit_code=3, kind="plan refused"):
    """The recipe is valid but asks for what its steps or the device cannot do."""


class EnvironmentProblem(YolodeployError, exit_code=4, kind="environment"):
    """This machine lacks something: a toolchain, disk space, a writable folder."""


class ModelError(YolodeployError, exit_code=5, kind="model"):
    """The weights file cannot be used: missing, damaged, unsafe, or of another task."""


class DataError(YolodeployError, exit_code=6, kind="data"):
    """The data set cannot be used: missing files, bad labels, unreadable images."""


class StepFailed(YolodeployError, exit_code=7, kind="step failed"):
    """A backend's tool failed while running a step or opening its result."""


class LockMismatch(YolodeployError, exit_code=8, kind="lock"):
    """`--locked` was given and something differs from the lock file."""


class StoreProblem(YolodeployError, exit_code=9, kind="store"):
    """The store cannot be read or written."""


class VerificationFailed(YolodeployError, exit_code=10, kind="verification failed"):
    """A bundle differs from what was deployed."""


class NotReproduced(YolodeployError, exit_code=11, kind="not reproduced"):
    """A recipe that was rebuilt under other conditions did not give the bytes that its lock names."""


class HostProblem(YolodeployError, exit_code=13, kind="host"):
    """A host could not be reached, lacks something, or gave an answer that cannot be used."""


class NativeFault(YolodeployError, exit_code=139, kind="native fault"):
    """A signal ended the process that ran a tool: a crash of native code, or memory ran out.

    `exit_code` is 128 and the number of the signal; 139 is a segmentation fault.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Interrupted(YolodeployError, exit_code=130, kind="interrupted"):
    """The user pressed Ctrl-C; finished steps are kept."""
