"""A job: "make sure that the store has this", as plain data; and its outcome.

Whatever a build produces is kept in the store under an id, so neither a job nor its outcome carries any of it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from pydantic import TypeAdapter


class What(StrEnum):
    """What a job makes."""

    STEP = "step"  # the result of a step
    FLOAT = "float"  # the plain float export of a step's result
    SOURCE = "source"  # the source model's findings
    COMPARE = "compare"  # the comparison of the artifact with the source model
    STAGE = "stage"  # the measures of a result in between
    TIME = "time"  # latencies
    PLAN = "plan"  # nothing: the machine plans the recipe


class Goal(StrEnum):
    """How far a recipe is brought."""

    BUILD = "build"  # the artifact
    COMPARE = "compare"  # what it loses, without a look at time
    TIME = "time"  # what it loses and costs
    DEPLOY = "deploy"  # the checks, the bundle and the lock


@dataclass(frozen=True)
class Work:
    """Where jobs of a recipe work. Paths are absolute; `said` is the path that the user gave in the folder `folder`.

    `shared` is the address of a team's store (None: the one that the environment names).
    """

    recipe: str
    said: str
    allowed: tuple[str, ...]
    trusted: bool
    store: str
    shared: str | None
    folder: str


@dataclass(frozen=True)
class Job:
    """One piece of work. `id` is that of the result in the store, or stands for all that the result depends on.

    `index` is that of the step, `needs` are the ids of jobs whose results it takes, `title` names it to people: the recipe's name, a
    colon, and what it makes.
    `conditions` (a digest) is set for a measurement: it says something only about a machine that has them. `alone` says that a
    neighbour on the same machine would spoil it, `gpu` that it computes on one.
    """

    id: str
    what: What
    index: int
    needs: tuple[str, ...]
    title: str
    work: Work
    conditions: str = ""
    alone: bool = False
    gpu: bool = False

    @property
    def recipe(self) -> str:
        """The name of the first recipe that needs it."""
        return self.title.partition(":")[0]

    def text(self) -> str:
        """As JSON in one line."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """From JSON; raises ValueError for anything else."""
        return parse_json(cls, text)


@dataclass(frozen=True)
class Fault:
    """An error of yolodeploy on its way home: the name of its class, its message, its exit code, and the trace of its cause."""

    name: str
    message: str
    exit_code: int
    trace: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a job ended: with a result, whose digest it names, or with a fault.

    `cached` says that the result was there before. `other` is set, instead of a result, if the machine was not fit for the job: why,
    as the rest of a sentence. `used` are the ids of the objects that the job made or found in its store.
    """

    id: str
    digest: str = ""
    cached: bool = False
    seconds: float = 0.0
    fault: Fault | None = None
    other: str = ""
    used: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the store has the result."""
        return self.fault is None and not self.other

    def text(self) -> str:
        """As JSON in one line."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str, id_: str | None = None) -> Self:
        """From JSON; raises ValueError for anything else, or the outcome of another job than the one with this id."""
        found = parse_json(cls, text)
        if id_ not in (None, found.id):
            raise ValueError("it is the outcome of another job")
        return found


T = TypeVar("T")
_adapters: dict[type[Any], TypeAdapter[Any]] = {}


def parse_json(kind: type[T], text: str) -> T:
    """Plain data as a frozen dataclass, checked; raises ValueError for anything else."""
    if kind not in _adapters:
        _adapters[kind] = _adapter(kind)
    found: T = _adapters[kind].validate_json(text)
    return found


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, TypeAdapter

    parts: tuple[Any, ...] = (Work, Job, Fault, Outcome)
    for part in parts:
        part.__pydantic_config__ = ConfigDict(extra="forbid")
    return TypeAdapter(kind)
