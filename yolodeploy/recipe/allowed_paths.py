"""Which files a recipe may read: those of its project, and what the command line allows besides.

A recipe may come from a stranger, and it names files: weights, data, other recipes. Links count as what
they lead to. docs/decisions/020-untrusted-input.md says why.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from yolodeploy.errors import PlanRefused
from yolodeploy.recipe.yaml_file import Position
from yolodeploy.system import one_line, shown

_MARKS = (".git", "pyproject.toml")


@dataclass(frozen=True)
class AllowedPaths:
    """The folder of a recipe's project, and other files and folders that are allowed; links resolved."""

    project: Path
    allowed: tuple[Path, ...] = ()
    _seen: set[Path] = field(default_factory=set, compare=False)

    def require(self, path: Path, at: Position, what: str, of: str = "") -> None:
        """Raise PlanRefused for a path outside; `what` and `of` name it in the message, before and after it."""
        if self.permits(path):
            return
        real = Path(os.path.realpath(path))
        folder = shlex.quote(str(real if real.is_dir() else real.parent))
        leads = "" if real == Path(os.path.abspath(path)) else f", which leads to {one_line(real)},"  # noqa: PTH100 - keeps links
        raise PlanRefused(
            f"{at}: {what} {shown(path)}{of}{leads} lies outside the recipe's project, {self.project}. "
            f"If you trust the recipe, add: --allow {one_line(folder)}"
        )

    def permits(self, path: Path) -> bool:
        """Whether a path, or what it leads to, lies inside."""
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(root) for root in (self.project, *self.allowed))

    def require_all(self, files: Iterable[Path], at: Position, what: str, of: str = "") -> None:
        """As `require`, for many files in few folders. A missing file passes."""
        for file in files:
            try:
                link = stat.S_ISLNK(os.lstat(file).st_mode)
            except OSError:
                continue
            if link or file.parent not in self._seen:
                self.require(file, at, what, of)
            if not link:
                self._seen.add(file.parent)


def allowed_paths(recipe: Path, allowed: Iterable[Path]) -> AllowedPaths:
    """Find a recipe's project: the nearest folder above with .git or pyproject.toml, else its own folder.

    The user's home folder and the root are never projects, whatever lies in them.
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
    return AllowedPaths(project, tuple(Path(os.path.realpath(path)) for path in allowed))
