"""Proposals: Optuna names the next point, by a sampler that is seeded anew for each, so that a search can go on anywhere.

What Optuna is told is in the study alone: figures as values, broken limits as a constraint, the rest as attributes.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from yolodeploy.recipe import Choice, Range
from yolodeploy.system import digest_of
from yolodeploy.trials.journal import Journal
from yolodeploy.trials.space import Overlay, Place, Point, Space, fitted

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

VIOLATION, PROPOSED = "violation", "proposed"  # attributes of trials
ATTEMPTS = 40  # proposals in a row without a new recipe, after which there is taken to be none
_FREE = 8  # of these, after which proposals are drawn at random
_AT_RANDOM = 10  # trials, those that are given included, before there is enough to learn from
_POPULATION = 10
AGAIN = "was tried before"


@dataclass(frozen=True)
class Proposal:
    """A recipe to try: its number from 1, the number of Optuna's trial, and what it changes."""

    number: int
    trial: int
    overlay: Overlay


class Proposals:
    """Asks a study for points of a space. `starts` come first; `refused` says why a recipe cannot be tried, or None."""

    def __init__(
        self,
        journal: Journal,
        space: Space,
        starts: Sequence[Point],
        kind: str,
        seed: int,
        refused: Callable[[Overlay], str | None],
    ) -> None:
        self._journal, self._study = journal, journal.study
        self._space, self._places, self._starts = space, space.places(), starts
        self._kind, self._seed, self._refused = kind, seed, refused
        self._seen = set[str]()
        for trial in journal.trials():
            known = trial.user_attrs.get(PROPOSED)
            self._seen.update([known["key"]] if known else [])
            if trial.state.name == "RUNNING" and (known is None or known["why"]):
                self._settle(trial.number, None if known is None else known["why"])

    def propose(self, number: int) -> Proposal | None:
        """The next recipe, which none before was; None if nothing new was found."""
        while self._in_vain() < ATTEMPTS:
            trial, overlay = self._ask()
            new = overlay.key not in self._seen
            why = self._refused(overlay) if new else AGAIN
            self._seen.add(overlay.key)
            # One attribute, so that a search that is killed has all of it or nothing.
            known = {"key": overlay.key, "overlay": as_plain(overlay), "number": number, "why": why}
            trial.set_user_attr(PROPOSED, known)
            if not why:
                return Proposal(number, trial.number, overlay)
            self._settle(trial.number, why)
        return None

    def _in_vain(self) -> int:
        """How many proposals since the last recipe gave none."""
        count = 0
        for trial in reversed(self._journal.trials()):
            known = trial.user_attrs.get(PROPOSED)
            if known and not known["why"]:
                break
            count += known is not None
        return count

    def _settle(self, trial: int, why: str | None) -> None:
        """End a trial of which there is no recipe; one that was proposed before, or never was, counts for nothing."""
        from optuna.trial import TrialState

        if why and why != AGAIN:
            self.tell_broken(trial)
            return
        self._study.sampler = sampler(self._kind, 0)
        self._study.tell(trial, state=TrialState.FAIL)

    def tell(self, trial: int, values: Sequence[float], violation: float) -> None:
        """Tell what a recipe reached, and by how much it breaks limits."""
        self._told(trial, violation)
        self._study.tell(trial, list(values))

    def tell_broken(self, trial: int) -> None:
        """Tell that a recipe is of no use: it cannot be built, or be planned."""
        self._told(trial, 100.0)
        self._study.tell(trial, [100.0] * len(self._study.directions))

    def _told(self, trial: int, violation: float) -> None:
        self._journal.note(trial, VIOLATION, violation)
        self._study.sampler = sampler(self._kind, 0)

    def _ask(self) -> tuple[Trial, Overlay]:
        from optuna.trial import TrialState

        tried = sum(PROPOSED in trial.user_attrs for trial in self._journal.trials())
        kind = "random" if self._in_vain() >= _FREE else self._kind
        self._study.sampler = sampler(kind, seed_of(self._seed, tried))
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if not waiting and tried < len(self._starts):
            self._study.enqueue_trial(self._external(self._starts[tried]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = self._study.ask()
            # Every place, on ways that are not taken as well: so trials have the same genes, which can be crossed.
            values = {place.name: suggest(trial, place) for place in self._places}
        return trial, self._space.overlay(lambda place: values[place.name])

    def _external(self, point: Point) -> dict[str, Any]:
        """A point in the sampler's words."""
        values = {place.name: self._space.usual(place) for place in self._places} | dict(point)
        plain = {p.name for p in self._places if p.ways or not isinstance(p.domain, Choice)}
        return {name: v if name in plain else _word(v) for name, v in values.items()}


def suggest(trial: Trial, place: Place) -> Any:
    """The sampler's value for a place."""
    domain = place.domain
    if place.ways:
        return trial.suggest_categorical(place.name, list(range(place.ways)))
    if isinstance(domain, Choice):
        word = trial.suggest_categorical(place.name, [_word(value) for value in domain.values])
        return json.loads(str(word))
    assert isinstance(domain, Range)  # noqa: S101 - the only other kind
    if domain.whole:
        low, high, step = int(domain.low), int(domain.high), int(domain.step or 1)
        return trial.suggest_int(place.name, low, high, step=step, log=domain.log)
    value = trial.suggest_float(
        place.name, domain.low, domain.high, step=domain.step, log=domain.log
    )
    return fitted(domain, value)


def _word(value: Any) -> str:
    """A value of a choice as the sampler knows it: it takes no lists or mappings."""
    return json.dumps(value, sort_keys=True)


def seed_of(seed: int, number: int) -> int:
    """The seed of the sampler that makes a proposal."""
    return int(digest_of([seed, number])[:8], 16)


def sampler(kind: str, seed: int) -> BaseSampler:
    """A sampler: "tpe", "nsga2" or "random"."""
    from optuna.samplers import NSGAIISampler, RandomSampler, TPESampler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # parts of both are marked as experimental
        if kind == "random":
            return RandomSampler(seed)
        if kind == "nsga2":
            return NSGAIISampler(
                population_size=_POPULATION, seed=seed, constraints_func=_violations
            )
        return TPESampler(
            n_startup_trials=_AT_RANDOM,
            multivariate=True,
            constant_liar=True,
            seed=seed,
            constraints_func=_violations,
        )


def _violations(trial: FrozenTrial) -> Sequence[float]:
    return (float(trial.user_attrs.get(VIOLATION, 0.0)),)


def as_plain(overlay: Overlay) -> dict[str, Any]:
    """An overlay as plain data."""
    return {"steps": list(overlay.steps), "images": dict(overlay.images), "os": overlay.os}


def as_overlay(value: Mapping[str, Any]) -> Overlay:
    """An overlay from plain data."""
    return Overlay(tuple(value["steps"]), dict(value["images"]), value["os"])
