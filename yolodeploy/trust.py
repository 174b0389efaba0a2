"""What a recipe may read: the project that it lies in, and what the command line allows besides.

A recipe may come from a stranger, and names files: weights, data, other recipes. Links count as what
they lead to. docs/decisions/020-untrusted-input.md says why.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from yolodeploy.errors import EnvironmentProblem, PlanRefused, one_line
from yolodeploy.yamlfile import Position, shown

DIST, SENSITIVITY = Path("dist"), Path("sensitivity")
_MARKS = (".git", "pyproject.toml")


@dataclass(frozen=True)
class Trust:
    """The folder of a recipe's project and the allowed files and folders, all without links."""

    project: Path
    allowed: tuple[Path, ...] = ()
    _seen: set[Path] = field(default_factory=set, compare=False)

    def require(self, path: Path, at: Position, what: str) -> None:
        """Raise PlanRefused for a path that lies outside; `what` is what the recipe calls it."""
        real = Path(os.path.realpath(path))
        if any(real.is_relative_to(root) for root in (self.project, *self.allowed)):
            return
        folder = real if real.is_dir() else real.parent
        leads = "" if real == Path(os.path.abspath(path)) else f", which leads to {one_line(real)},"  # noqa: PTH100 - keeps links
        raise PlanRefused(
            f"{at}: {what} {shown(path)}{leads} lies outside the recipe's project, {self.project}. "
            f"If you trust the recipe, add: --allow {one_line(shlex.quote(str(folder)))}"
        )

    def require_all(self, files: Iterable[Path], at: Position, what: str) -> None:
        """The same for many files, most of them in few folders. What is absent passes."""
        for file in files:
            try:
                link = stat.S_ISLNK(os.lstat(file).st_mode)
            except OSError:
                continue
            if link:
                self.require(file, at, what)
            elif file.parent not in self._seen:
                self.require(file, at, what)
                self._seen.add(file.parent)


def trust_of(recipe: Path, allowed: Iterable[Path]) -> Trust:
    """The project of a recipe: the nearest folder above with .git or pyproject.toml, else its own.

    The user's home folder and the root are no projects, whatever lies in them.
    """
    folder = Path(os.path.realpath(recipe.parent))
    home = Path(os.path.realpath(os.path.expanduser("~")))  # noqa: PTH111 - unlike Path's, it never fails
    project = folder
    for above in (folder, *folder.parents):
        if above in (home, Path(above.anchor)):
            break
        if any(os.path.lexists(above / mark) for mark in _MARKS):
            project = above
            break
    return Trust(project, tuple(Path(os.path.realpath(path)) for path in allowed))


def require_own(folder: Path, default: Path, option: str) -> None:
    """Refuse to write where a link in place of the default folder leads; naming it allows it."""
    if folder == default and folder.is_symlink():
        real = os.path.realpath(folder)
        raise EnvironmentProblem(
            f"{folder} is a link to {one_line(real)}. If that is meant, add: {option} {one_line(shlex.quote(real))}"
        )
