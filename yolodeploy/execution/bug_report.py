"""Turns an unexpected exception into a log file and one line.

Every command imports this module, so what only a bug needs is imported late.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import traceback
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from yolodeploy import __version__
from yolodeploy.errors import EnvironmentProblem, YolodeployError
from yolodeploy.execution.activity import Run

OUT_OF_MEMORY = "this machine ran out of memory. Close other programs, or use fewer images, a smaller batch or imgsz."
_MAX_TEXT, _MAX_BYTES = 100_000, 1 << 20  # of a recipe
_USER = re.compile(r"://\S{0,1000}@")  # bounded, because strangers' recipes are searched too
_QUERY = re.compile(r"(://[^\s?#]{0,1000}[?#])[^\s'\"]+")


def report_bug(error: Exception, run: Run) -> YolodeployError:
    """Write a log of a bug and return the error that points at it (exit code 70).

    Running out of memory is not a bug: exit code 4.
    """
    if isinstance(error, MemoryError):
        return EnvironmentProblem(OUT_OF_MEMORY)
    return bug_error(bug_text(error), "".join(traceback.format_exception(error)), run)


def as_error(error: Exception, run: Run) -> YolodeployError:
    """The same error if it is one that a user can act on, else a report of the bug."""
    return error if isinstance(error, YolodeployError) else report_bug(error, run)


def bug_text(error: BaseException) -> str:
    """What was raised, in one line."""
    return f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"


def bug_error(text: str, trace: str, run: Run) -> YolodeployError:
    """The same from what another process says of it."""
    log = write_log(trace, run)
    return YolodeployError(f"{_without_secrets(text)}. {log_sentence(log)}")


def log_sentence(log: Path | None) -> str:
    """Where the trace is, in one sentence."""
    if log is None:
        return "The trace could not be saved, because no folder is writable; run again with -v."
    return f"The trace is in {log}; please report it."


def write_log(trace: str, run: Run) -> Path | None:
    """Write trace, versions and recipes to a new log file; None if no folder is writable."""
    import platform
    import shlex

    text = "\n".join(
        [
            f"yolodeploy {__version__}, Python {platform.python_version()}, {platform.platform()}",
            f"command: {shlex.join(run.command)}",
            *_plugins(),
            "",
            trace,
            *(line for recipe in run.recipes for line in _recipe_texts(Path(recipe))),
        ]
    )
    for folder in _folders(run.cache):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return _write_new(folder, _without_secrets(text))
        except OSError:
            continue
    return None


def _without_secrets(text: str) -> str:
    """Remove what URLs hold before the host and after the path: it is often a secret."""
    return _QUERY.sub(r"\1...", _USER.sub("://...@", text))


def _write_new(folder: Path, text: str) -> Path:
    name = f"bug-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    for number in count():
        file = folder / (f"{name}-{number}.log" if number else f"{name}.log")
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as out:  # noqa: PTH123
            out.write(text)
        return file
    raise AssertionError


def _plugins() -> Iterator[str]:
    """A line for every plugin with the versions of its tools. A plugin may be what is broken."""
    try:
        from yolodeploy.backend import load_registry

        registry = load_registry()
        for name, plugin in registry.backends.items():
            tools = ", ".join(f"{tool} {version}" for tool, version in plugin.versions().items())
            yield f"{name}: {tools or 'no tools'}"
        yield from (f"{name}: {reason}" for name, reason in registry.broken.items())
    except Exception as error:  # noqa: BLE001 - one bug must not cost the log of another
        yield f"plugins cannot be listed: {type(error).__name__}: {error}"


def _recipe_texts(recipe: Path) -> Iterator[str]:
    """The lines of a recipe and of the recipes it extends."""
    from yolodeploy.system import read_plain

    for file in _family(recipe):
        yield f"--- {file}"
        try:
            text = read_plain(file, _MAX_BYTES)
        except (OSError, ValueError) as error:
            yield f"cannot be read: {error}"
        else:
            yield text.decode(errors="backslashreplace")[:_MAX_TEXT]


def _family(recipe: Path) -> Iterator[Path]:
    """A recipe, and what it extends: only regular files in its project, as a stranger may name any file."""
    yield recipe
    with contextlib.suppress(Exception):  # it is not a recipe, or its reader is what is broken
        from yolodeploy.recipe import MAX_EXTENDS, Recipe, allowed_paths, load_yaml

        project = allowed_paths(recipe, ()).project
        for _ in range(MAX_EXTENDS):
            recipe = recipe.parent / load_yaml(recipe).value["extends"]
            inside = recipe.resolve().is_relative_to(project) and not recipe.is_symlink()
            if not inside or load_yaml(recipe).value.keys() - {*Recipe.model_fields, "extends"}:
                return
            yield recipe


def _folders(cache: str | None) -> Iterator[Path]:
    """Where a log may go: the store, then the temporary folder, as far as they exist."""
    import tempfile

    from yolodeploy.store import default_root

    with contextlib.suppress(YolodeployError):
        yield (Path(cache) if cache else default_root()) / "logs"
    with contextlib.suppress(FileNotFoundError):
        yield Path(tempfile.gettempdir())
