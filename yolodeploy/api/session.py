"""What calls share: the store, what recipes may read, what is printed, and where tools run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from yolodeploy.errors import RecipeError
from yolodeploy.execution import Run
from yolodeploy.system import (
    IN_PROCESS,
    Console,
    child_environment,
    one_line,
    shown,
    wait_passively,
)

if TYPE_CHECKING:
    from yolodeploy.hosts import Host
    from yolodeploy.jobs import Executor, RayCluster
    from yolodeploy.planning import Planner
    from yolodeploy.store import Store

PathLike = str | os.PathLike[str]


def paths_of(what: PathLike | Sequence[PathLike]) -> tuple[Path, ...]:
    """A path, or several of them, as paths."""
    return (Path(what),) if isinstance(what, str | os.PathLike) else tuple(map(Path, what))


@dataclass(frozen=True)
class Session:
    """Settings that the calls of a notebook or program share; without one, each call behaves like a plain command line.

    `cache` is the folder of the store (None: `YOLODEPLOY_CACHE`, or the user's cache folder), `store` the address of a team's
    store (None: the one that `YOLODEPLOY_STORE` names). `allow` are files and folders outside their projects that recipes may read;
    `trusted` lets the loader that a recipe names execute the weights file, which can do all that you can. `verbosity` is -1 for
    warnings only, 0 for progress, 1 for every detail.

    Tools run in a child process, which a crash of native code ends without harm to the caller; `in_process` runs them in this one.
    `printer` and `command` are for a caller that prints by itself and has a command line to name in the log of a crash.
    """

    cache: PathLike | None = None
    store: str | None = None
    allow: PathLike | Sequence[PathLike] = ()
    trusted: bool = False
    verbosity: int = 0
    in_process: bool = False
    printer: Console | None = None
    command: Run | None = None

    @cached_property
    def console(self) -> Console:
        """Where messages and progress are printed."""
        return self.printer or Console(self.verbosity)

    @property
    def allowed(self) -> tuple[Path, ...]:
        """`allow` as paths; one that stands alone is one path, for its letters would be others, such as `/`."""
        return paths_of(self.allow)

    def run_of(self, call: str, recipes: Sequence[Path]) -> Run:
        """The call under way, for the log of a crash or bug."""
        if self.command:
            return self.command
        names = [str(recipe) for recipe in recipes]
        return Run(
            [f"yolodeploy.{call}", *names],
            names,
            str(self.cache) if self.cache else None,
            json=False,
        )

    def open_store(self) -> Store:
        """The store that the session or the environment names."""
        from yolodeploy.store import Store, default_root

        return Store(Path(self.cache) if self.cache else default_root(), self.console.warn)

    def executor(
        self, on: str | None, run: Run, store: Store, *, lasting: bool = False
    ) -> Executor:
        """What makes what recipes need: the cluster `on`; else a child process, or this one where the session or the environment says so.

        A child that is `lasting` lives until it is closed, not only until the last job of a set of recipes is done.

        Raises RecipeError if `on` does not name a cluster.
        """
        from yolodeploy.jobs import Here, LocalChild

        if on:
            return self.cluster(on, run, store)
        if self.in_process or os.environ.get(IN_PROCESS):
            return Here()
        environment = child_environment()
        wait_passively(environment)
        return LocalChild(self.console, run, environment, lasting=lasting)

    @contextlib.contextmanager
    def planner(self, store: Store, run: Run) -> Iterator[Planner]:
        """A planner; weights that nobody has read yet are read by an executor, which is started when it is needed."""
        from yolodeploy.planning import Planner

        with contextlib.ExitStack() as stack:
            started: list[Executor] = []

            def elsewhere(recipe: Path) -> None:
                from yolodeploy.deployment import Request
                from yolodeploy.jobs import work_of

                if not started:
                    started.append(stack.enter_context(self.executor(None, run, store)))
                request = Request(recipe, self.allowed, self.store, trusted=self.trusted)
                started[0].plan(work_of(request, store.root))

            yield stack.enter_context(
                Planner.of_store(
                    store.root, self.allowed, trusted=self.trusted, elsewhere=elsewhere
                )
            )

    def cluster(self, on: str, run: Run, store: Store) -> RayCluster:
        """A cluster; raises RecipeError if `on` does not name one, EnvironmentProblem if Ray is not installed."""
        from yolodeploy.jobs import RayCluster, is_cluster

        if not is_cluster(on):
            raise RecipeError(
                f"--on {one_line(on)} does not name a cluster. Write ray, auto, host:port or ray://host:port."
            )
        return RayCluster(on, self.console, run, store)


@contextlib.contextmanager
def chosen_host(on: str | None, folders: Sequence[Path]) -> Iterator[Host]:
    """The host `on` of the user's hosts.toml or of those in the folders of recipes; this machine if it is None or a cluster.

    It is closed at the end, whatever happens. A cluster, which runs jobs, measures here.
    """
    from yolodeploy.hosts import LOCAL
    from yolodeploy.jobs import is_cluster

    if on is None or is_cluster(on):
        yield LOCAL
        return
    from yolodeploy.hosts import find_host

    found = [find_host(on, folder) for folder in folders]
    if other := next((each for each in found if each != found[0]), None):
        raise RecipeError(
            f"--on: {shown(found[0].file)} and {shown(other.file)} mean different machines by `{other.name}`. Deploy the recipes "
            "of one folder at a time, or name the host in your own hosts.toml."
        )
    host = found[0].open()
    try:
        yield host
    finally:
        host.close()
