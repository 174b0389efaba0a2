"""An unexpected exception becomes a log file and one line."""

from __future__ import annotations

import platform
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from yolodeploy import __version__
from yolodeploy.errors import YolodeployError


def report(fault: Exception, command: Sequence[str]) -> YolodeployError:
    """Write a log of a bug and return the error that points at it (exit code 70)."""
    lines = [
        f"yolodeploy {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"command: {' '.join(command)}",
        "",
        "".join(traceback.format_exception(fault)),
    ]
    name = f"bug-{time.strftime('%Y%m%d-%H%M%S')}.log"
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("\n".join(lines), encoding="utf-8")
        except OSError:
            continue
        where = f"The trace is in {folder / name}; please report it."
        break
    else:
        where = "No folder could be written to for a trace; run again with -v."
    text = " ".join(str(fault).split())
    return YolodeployError(f"unexpected {type(fault).__name__}: {text}. {where}")


def _folders() -> list[Path]:
    from yolodeploy.store import default_root

    temporary = Path(tempfile.gettempdir())
    try:
        return [default_root() / "logs", temporary]
    except YolodeployError:
        return [temporary]
