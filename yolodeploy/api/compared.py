"""`compare`: bundles beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from yolodeploy.api.session import PathLike, paths_of
from yolodeploy.errors import VerificationFailed

if TYPE_CHECKING:
    from yolodeploy.comparison import Comparison


@dataclass(frozen=True, repr=False)
class Compared:
    """Artifacts beside each other, in groups of the same model, task and evaluation images; `problems` says what could not be read."""

    comparison: Comparison

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for everything that could not be read."""
        return tuple(self.comparison.problems)

    @property
    def labels(self) -> tuple[str, ...]:
        """What the artifacts are called, group by group."""
        return tuple(entry.label for group in self.comparison.groups for entry in group.entries)

    @property
    def front(self) -> tuple[str, ...]:
        """Those that no other of their backend beats in size, drop and latency ratio."""
        return tuple(
            entry.label for group in self.comparison.groups for entry in group.entries if entry.best
        )

    def markdown(self) -> str:
        """For a pull request."""
        return self.comparison.markdown()

    def page(self) -> str:
        """As one self-contained HTML file, with charts, and the same images through all of them."""
        return self.comparison.page()

    def plain(self) -> dict[str, Any]:
        """As plain data, as `yolodeploy compare --json` prints it."""
        return self.comparison.value()

    def __repr__(self) -> str:
        return f"<Compared {', '.join(self.labels)}>"

    def __str__(self) -> str:
        return self.comparison.table()

    def _repr_html_(self) -> str:
        from yolodeploy.api.notebook import text

        return text("\n".join([str(self), *self.problems]))


def compare(what: PathLike | Sequence[PathLike], *, raises: bool = True) -> Compared:
    """Compare bundles, report.json files and folders of bundles. Reads nothing else, and checks every bundle against its manifest.

    Raises ValueError for an empty list, and VerificationFailed if one of them could not be read or was changed; with `raises=False` only if
    none is left, and `Compared.problems` names the others.
    """
    from yolodeploy.comparison import read_comparison

    paths = paths_of(what)
    if not paths:
        raise ValueError("an empty list: name at least one bundle")
    found = read_comparison(paths)
    if found.problems and raises:
        raise VerificationFailed("\n".join(found.problems))
    return Compared(found)
