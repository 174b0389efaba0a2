from .activity import MARK, Run, doing, report_to, watch
from .bug_report import (
    OUT_OF_MEMORY,
    as_error,
    bug_error,
    bug_text,
    log_sentence,
    report_bug,
    write_log,
)
from .crash import Crash, describe_crash
from .explain import explain
from .plugin_errors import failing_as
from .runner import Runner, as_artifact

__all__ = [
    "MARK",
    "OUT_OF_MEMORY",
    "Crash",
    "Run",
    "Runner",
    "as_artifact",
    "as_error",
    "bug_error",
    "bug_text",
    "describe_crash",
    "doing",
    "explain",
    "failing_as",
    "log_sentence",
    "report_bug",
    "report_to",
    "watch",
    "write_log",
]
