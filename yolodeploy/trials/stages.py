"""Tries recipes in stages, the cheap figures first: size once it is built, few images, then one half of all images.

A trial that a limit excludes, or that an earlier one beats beyond doubt, goes no further. What is compared with are trials of
earlier batches alone, so that it does not matter which of a batch ends first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from yolodeploy.deployment import Request
from yolodeploy.errors import YolodeployError
from yolodeploy.execution import Run
from yolodeploy.jobs import Executor, Goal, Result, make_recipes
from yolodeploy.measure import Comparison, Evidence, pareto_front
from yolodeploy.store import Store, Stored
from yolodeploy.system import Console
from yolodeploy.trials.files import Half, TrialFiles
from yolodeploy.trials.objectives import DROPS, Figure, Objective, figures_of
from yolodeploy.trials.space import Overlay

_POSITION = re.compile(r"^\S+?:\d+:\d+: ")
FEW = 16  # images of the stage between
_ENOUGH = 3  # times as many there must be, for that stage to be worth it
_CLEARLY = 0.03  # of fidelity: as much as few images may err by


class Stage(StrEnum):
    """How far a trial came."""

    FAILED = "failed"  # it could not be built
    SIZE = "size"  # too large
    FEW = "few"  # hopeless on few images
    ALL = "all"  # measured on its half of the images


@dataclass(frozen=True)
class Outcome:
    """What became of a trial: how far it came, the figures of its last stage and those on few images, and why it went no further.

    `id` is that of the artifact. `images` is how many the figures were measured on.
    """

    stage: Stage
    figures: Mapping[str, Figure]
    few: Mapping[str, Figure] = field(default_factory=dict)
    why: str = ""
    id: str = ""
    seconds: float = 0.0
    images: int = 0
    missing: Mapping[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Outcome:
        """From plain data."""
        read = {
            name: {
                key: Figure(f["value"], f["interval"] and tuple(f["interval"]))
                for key, f in value[name].items()
            }
            for name in ("figures", "few")
        }
        return cls(**{**value, **read, "stage": Stage(value["stage"])})


@dataclass(frozen=True)
class Candidate:
    """A recipe to try: the name of its trial, and what it changes."""

    name: str
    overlay: Overlay


@dataclass
class _Trial:
    candidate: Candidate
    outcome: Outcome
    open: bool = True

    def end(self, stage: Stage, why: str) -> None:
        self.outcome, self.open = replace(self.outcome, stage=stage, why=why), False


@dataclass(frozen=True)
class Workshop:
    """Builds and measures recipes of trials in a store."""

    request: Request  # of the recipe
    files: TrialFiles
    objectives: Sequence[Objective]
    store: Store
    console: Console
    executor: Executor
    run: Run

    def results(
        self, named: Sequence[tuple[str, Overlay]], images: Half, goal: Goal
    ) -> list[Result]:
        """Bring recipes to a goal, on some of the images."""
        requests = [
            replace(
                self.request,
                recipe=self.files.write(name, overlay, images),
                allowed=(*self.request.allowed, *self._project()),
            )
            for name, overlay in named
        ]
        if not requests:
            return []
        return make_recipes(requests, self.store, self.console, self.executor, self.run, goal=goal)

    def _project(self) -> tuple[Path, ...]:
        from yolodeploy.recipe import allowed_paths

        return (allowed_paths(self.request.recipe, ()).project,)

    def figures(self, result: Result) -> tuple[Mapping[str, Figure], int]:
        """The figures of a recipe that was measured, and on how many images."""
        assert isinstance(result.made, Comparison | Evidence)  # noqa: S101 - what the goals give
        return figures_of(extended(self.objectives), result.made)[0], result.made.images

    @property
    def goal(self) -> Goal:
        """How far the last stage goes."""
        return Goal.TIME if any(objective.timed for objective in self.objectives) else Goal.COMPARE


def extended(objectives: Sequence[Objective]) -> list[Objective]:
    """The objectives, and size and fidelity, which are always known."""
    always = Objective("size_mb"), Objective("fidelity")
    return [
        *objectives,
        *(o for o in always if o.name not in {wanted.name for wanted in objectives}),
    ]


def reason_of(error: YolodeployError | None) -> str:
    """What went wrong and why, without the position in a recipe that nobody wrote."""
    return _POSITION.sub("", " ".join(str(error).splitlines()[:2])) if error else ""


def few_of(half: Half, images: int) -> Half | None:
    """The few images of the stage between, of a half with so many; None if that is not worth it."""
    return Half(half.part, FEW) if images >= _ENOUGH * FEW else None


def try_recipes(
    candidates: Sequence[Candidate],
    workshop: Workshop,
    half: Half,
    few: Half | None,
    before: Sequence[Outcome],
    prune: bool = True,
) -> list[Outcome]:
    """Try recipes; `before` is what became of earlier ones. `few` are some images of the half, None to leave that stage out."""
    trials = [_Trial(candidate, Outcome(Stage.ALL, {})) for candidate in candidates]
    whole = [outcome for outcome in before if outcome.stage == Stage.ALL and outcome.figures]
    _stage(trials, workshop, half, "", Goal.BUILD)
    if prune:
        _end_where(trials, Stage.SIZE, lambda found: _too_large(found, workshop.objectives))
    if few:
        _stage(trials, workshop, few, "-few", Goal.COMPARE)
    if few and prune:
        _end_where(trials, Stage.FEW, lambda found: _hopeless(found, workshop.objectives, whole))
    _stage(trials, workshop, half, "", workshop.goal)
    return [trial.outcome for trial in trials]


def _stage(
    trials: Sequence[_Trial], workshop: Workshop, half: Half, suffix: str, goal: Goal
) -> None:
    """Bring the trials that are still open to a goal."""
    going = [trial for trial in trials if trial.open]
    named = [(f"{t.candidate.name}{suffix}", t.candidate.overlay) for t in going]
    results = workshop.results(named, half, goal)
    for trial, result in zip(going, results, strict=True):
        found = trial.outcome
        trial.outcome = replace(found, seconds=round(found.seconds + result.seconds, 1))
        if result.error or result.made is None:
            trial.end(Stage.FAILED, reason_of(result.error))
            continue
        trial.outcome = _with(trial.outcome, result.made, workshop.objectives, few=bool(suffix))


def _with(found: Outcome, made: object, objectives: Sequence[Objective], *, few: bool) -> Outcome:
    """An outcome with the figures of one more stage."""
    if isinstance(made, Stored):
        return replace(
            found, id=made.meta.id, figures={"size_mb": Figure(round(made.meta.bytes / 1e6, 6))}
        )
    assert isinstance(made, Comparison | Evidence)  # noqa: S101 - what the goals give
    figures, missing = figures_of(extended(objectives), made)
    if few:
        return replace(found, few=figures, images=made.images)
    return replace(found, figures=figures, images=made.images, missing=missing)


def _end_where(
    trials: Sequence[_Trial], stage: Stage, reason: Callable[[Outcome], str | None]
) -> None:
    for trial in trials:
        if trial.open and (why := reason(trial.outcome)):
            figures = trial.outcome.few if stage == Stage.FEW else trial.outcome.figures
            trial.end(stage, why)
            trial.outcome = replace(trial.outcome, figures=figures)


def _too_large(found: Outcome, objectives: Sequence[Objective]) -> str | None:
    size, limit = (
        found.figures["size_mb"],
        next((o for o in objectives if o.name == "size_mb"), None),
    )
    if limit is None or not limit.excess(size.value):
        return None
    return f"{size.value:.2f} MB is over the limit of {limit.limit:g}"


def _hopeless(
    found: Outcome, objectives: Sequence[Objective], whole: Sequence[Outcome]
) -> str | None:
    """Why few images are enough to give a trial up: a limit is out of reach, or another is better in everything."""
    for objective in objectives:
        figure = found.few.get(objective.name)
        counts = objective.name in DROPS or objective.name == "fidelity"
        if figure and counts and objective.certainly_over(_with_slack(objective, figure)):
            return f"{objective.name} {figure.value:.3f} on {found.images} images is far from the limit of {objective.limit:g}"
    if any(objective.timed for objective in objectives):
        return None  # it may be faster
    better = next((other for other in whole if _beaten(found, other, objectives)), None)
    if better is None:
        return None
    return f"fidelity {found.few['fidelity'].value:.3f} on {found.images} images, and one of {better.figures['size_mb'].value:.2f} MB had {better.few['fidelity'].value:.3f}"


def _with_slack(objective: Objective, figure: Figure) -> Figure:
    """A fidelity with what few images may err by as its interval; a drop has its own."""
    if objective.name != "fidelity":
        return figure
    return Figure(figure.value, (figure.value - 2 * _CLEARLY, figure.value + 2 * _CLEARLY))


def _beaten(found: Outcome, other: Outcome, objectives: Sequence[Objective]) -> bool:
    """Whether another is clearly closer to the source on the same few images, loses no more, and is no larger."""
    ours, theirs = found.few, other.few
    if "fidelity" not in ours or "fidelity" not in theirs:
        return False
    if theirs["fidelity"].value < ours["fidelity"].value + _CLEARLY:
        return False
    names = [o for o in objectives if o.name in ours and o.name in theirs]
    pairs = tuple(tuple(o.units(side[o.name].value) for o in names) for side in (theirs, ours))
    return pareto_front(pairs, [True] * len(names)) == [0]
