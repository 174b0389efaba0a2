"""`build`: make artifacts, without measuring them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from yolodeploy.api.batch import Results, answered, asked_for, make
from yolodeploy.api.figures import described
from yolodeploy.api.session import Session
from yolodeploy.errors import YolodeployError

if TYPE_CHECKING:
    from yolodeploy.api.batch import Named
    from yolodeploy.jobs import Result as Made
    from yolodeploy.store import Stored


@dataclass(frozen=True)
class Built:
    """What became of a build: the artifact's folder in the store, its format, digest and bytes; or `error`, and none of them.

    `cached` says that the store had it. `seconds` is how long the jobs that it needed took.
    """

    recipe: Path
    name: str
    path: Path | None
    format: str
    digest: str
    bytes: int
    cached: bool
    seconds: float
    error: YolodeployError | None

    @property
    def label(self) -> str:
        """What it is called."""
        return self.name

    @property
    def passed(self) -> bool:
        """Whether there is an artifact."""
        return self.error is None

    def artifact(self) -> dict[str, Any]:
        """The artifact as plain data, as `yolodeploy build --json` prints it."""
        return {
            "format": self.format,
            "path": str(self.path),
            "digest": self.digest,
            "bytes": self.bytes,
            "cached": self.cached,
        }

    def plain(self) -> dict[str, Any]:
        """As plain data, as `yolodeploy build --json` prints it for one of several recipes."""
        row = described(self.recipe, self.error, self.seconds)
        return row if self.error else {**row, **self.artifact()}

    def __str__(self) -> str:
        if self.error:
            return f"error: {self.error}"
        return f"{self.path}\n{self.format}, {self.bytes / 1e6:.2f} MB, sha256 {self.digest}"


@overload
def build(  # type: ignore[overload-overlap] # a str is one path, not several
    what: Named,
    *,
    on: str | None = None,
    locked: bool = False,
    raises: bool = True,
    session: Session | None = None,
) -> Built: ...


@overload
def build(
    what: Sequence[Named],
    *,
    on: str | None = None,
    locked: bool = False,
    raises: bool = True,
    session: Session | None = None,
) -> Results[Built]: ...


def build(
    what: Named | Sequence[Named],
    *,
    on: str | None = None,
    locked: bool = False,
    raises: bool = True,
    session: Session | None = None,
) -> Built | Results[Built]:
    """Make the artifacts of recipes or plans, without measuring them; nothing is written but the store.

    `on` is a cluster that runs jobs; `locked` refuses whatever differs from the lock file. Raises as `deploy` does.
    """
    from yolodeploy.deployment import Request
    from yolodeploy.jobs import Goal

    asked = asked_for(what, session)
    request = partial(Request, shared=asked.session.store, locked=locked)
    made = make(asked, request, on, "build", Goal.BUILD)
    return answered(Results(map(_built, made)), alone=asked.alone, raises=raises)


def _built(made: Made) -> Built:
    stored = cast("Stored | None", made.made)
    return Built(
        recipe=made.recipe,
        name=made.name,
        path=stored.path if stored else None,
        format=stored.meta.format if stored else "",
        digest=stored.meta.digest if stored else "",
        bytes=stored.meta.bytes if stored else 0,
        cached=stored.cached if stored else False,
        seconds=made.seconds,
        error=made.error,
    )
