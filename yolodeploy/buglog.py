"""An unexpected exception becomes a log file and one line.

Every command imports this, so what only a bug needs is imported when there is one.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import traceback
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

from yolodeploy import __version__
from yolodeploy.errors import EnvironmentProblem, YolodeployError

_MOST_TEXT, _MOST_BYTES = 100_000, 1 << 20  # of a recipe
_USER = re.compile(r"://\S{0,1000}@")  # bounded, for a stranger's recipe is searched too
_QUERY = re.compile(r"(://[^\s?#]{0,1000}[?#])[^\s'\"]+")


class Run(NamedTuple):
    """The command under way: its words, the recipes it names, where its store is, and --json."""

    command: Sequence[str]
    recipes: Sequence[str]
    cache: str | None
    json: bool


def report(fault: Exception, run: Run) -> YolodeployError:
    """Write a log of a bug and return the error that points at it (exit code 70).

    Memory that ran out is no bug: exit code 4.
    """
    if isinstance(fault, MemoryError):
        return EnvironmentProblem(
            "this machine ran out of memory. Close other programs, or use fewer images, a smaller batch "
            "or imgsz."
        )
    log = write("".join(traceback.format_exception(fault)), run)
    text = _scrubbed(" ".join(str(fault).split()))
    return YolodeployError(f"unexpected {type(fault).__name__}: {text}. {where(log)}")


def where(log: Path | None) -> str:
    """Where a trace is, as a sentence."""
    if log is None:
        return "No folder could be written to for a trace; run again with -v."
    return f"The trace is in {log}; please report it."


def write(trace: str, run: Run) -> Path | None:
    """Write trace, versions and recipes into a log of its own; None if no folder can be written."""
    import platform
    import shlex

    text = "\n".join(
        [
            f"yolodeploy {__version__}, Python {platform.python_version()}, {platform.platform()}",
            f"command: {shlex.join(run.command)}",
            *_plugins(),
            "",
            trace,
            *(line for recipe in run.recipes for line in _quoted(Path(recipe))),
        ]
    )
    for folder in _folders(run.cache):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return _write(folder, _scrubbed(text))
        except OSError:
            continue
    return None


def _scrubbed(text: str) -> str:
    """The text without what URLs hold before the host and behind the path: often a secret."""
    return _QUERY.sub(r"\1...", _USER.sub("://...@", text))


def _write(folder: Path, text: str) -> Path:
    name = f"bug-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    for number in count():
        file = folder / (f"{name}-{number}.log" if number else f"{name}.log")
        try:
            made = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
        with open(made, "w", encoding="utf-8", errors="backslashreplace") as out:  # noqa: PTH123
            out.write(text)
        return file
    raise AssertionError


def _plugins() -> Iterator[str]:
    """A line for every plugin: the versions of its tools. What is asked may be what is broken."""
    try:
        from yolodeploy.registry import load_registry

        registry = load_registry()
        for name, plugin in registry.backends.items():
            tools = ", ".join(f"{tool} {version}" for tool, version in plugin.versions().items())
            yield f"{name}: {tools or 'no tools'}"
        yield from (f"{name}: {reason}" for name, reason in registry.broken.items())
    except Exception as fault:  # noqa: BLE001 - the log of one bug must not be lost to another
        yield f"plugins cannot be listed: {type(fault).__name__}: {fault}"


def _quoted(recipe: Path) -> Iterator[str]:
    """The text of a recipe and of those it extends."""
    from yolodeploy import reading

    for file in _family(recipe):
        yield f"--- {file}"
        try:
            text = reading.read(file, _MOST_BYTES)
        except (OSError, ValueError) as fault:
            yield f"cannot be read: {fault}"
        else:
            yield text.decode(errors="backslashreplace")[:_MOST_TEXT]


def _family(recipe: Path) -> Iterator[Path]:
    yield recipe
    try:
        yield from _extended(recipe)
    except Exception:  # noqa: BLE001 - the file is no recipe, or what reads it is what is broken
        return


def _extended(recipe: Path) -> Iterator[Path]:
    """What a recipe extends, if it is a recipe in its project and no link: a stranger may name any file."""
    from yolodeploy.recipe import MAX_EXTENDS, Recipe
    from yolodeploy.trust import trust_of
    from yolodeploy.yamlfile import load

    project = trust_of(recipe, ()).project
    for _ in range(MAX_EXTENDS):
        recipe = recipe.parent / load(recipe).value["extends"]
        inside = recipe.resolve().is_relative_to(project) and not recipe.is_symlink()
        if not inside or load(recipe).value.keys() - {*Recipe.model_fields, "extends"}:
            return
        yield recipe


def _folders(cache: str | None) -> list[Path]:
    """The store's, and the temporary folder, as far as there are such."""
    import tempfile

    from yolodeploy.store import default_root

    folders = []
    with contextlib.suppress(YolodeployError):
        folders.append((Path(cache) if cache else default_root()) / "logs")
    with contextlib.suppress(FileNotFoundError):
        folders.append(Path(tempfile.gettempdir()))
    return folders
