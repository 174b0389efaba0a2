"""Carries errors between processes: the same class, message, exit code and trace arrive as were raised."""

from __future__ import annotations

import traceback

from yolodeploy import errors
from yolodeploy.errors import ChecksFailed, EnvironmentProblem, NativeFault, YolodeployError
from yolodeploy.execution import OUT_OF_MEMORY, Run, bug_error, bug_text
from yolodeploy.jobs.job import Fault

_BUG = "Bug"  # an exception that is none of ours
_MOST = 100_000  # characters of a trace


class Elsewhere(Exception):
    """The trace of another process, as the cause of an error that was raised again here."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def fault_of(error: Exception) -> Fault:
    """An error as plain data."""
    if isinstance(error, MemoryError):
        error = EnvironmentProblem(OUT_OF_MEMORY)
    if not isinstance(error, YolodeployError):
        trace = "".join(traceback.format_exception(error))
        return Fault(_BUG, bug_text(error), YolodeployError.exit_code, trace[-_MOST:])
    cause = error.__cause__
    trace = "".join(traceback.format_exception(cause)) if cause else ""
    return Fault(type(error).__name__, str(error), error.exit_code, trace[-_MOST:])


def error_of(fault: Fault, run: Run) -> YolodeployError:
    """The error again; a bug gets its log here."""
    raised = _raised(fault, run)
    if fault.trace:
        raised.__cause__ = Elsewhere(fault.trace)
    return raised


def _raised(fault: Fault, run: Run) -> YolodeployError:
    kind = getattr(errors, fault.name, None)
    if kind is NativeFault:
        return NativeFault(fault.message, fault.exit_code)
    if not isinstance(kind, type) or not issubclass(kind, YolodeployError):
        return bug_error(fault.message, fault.trace, run)
    # Of failed checks, which need a report, no job knows.
    error: YolodeployError = (YolodeployError if issubclass(kind, ChecksFailed) else kind)(
        fault.message
    )
    return error
