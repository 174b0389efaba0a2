"""The story of a search: plan, begin or go on, propose and try batch by batch, judge the front on the other half, write it.

recipe, space --prepare--> Prepared --propose--> batch --try_recipes--> outcomes --tell--> journal
                                                                                              |
recipes of the front <--write_front-- figures of the other half <--judge-- front
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from yolodeploy.errors import PlanRefused
from yolodeploy.execution import Run
from yolodeploy.jobs import Executor, Kept, work_of
from yolodeploy.store import Store
from yolodeploy.system import Console
from yolodeploy.trials.files import Half, TrialFiles
from yolodeploy.trials.journal import Journal, open_journal
from yolodeploy.trials.objectives import Objective, front
from yolodeploy.trials.preparation import Prepared, Wish, prepare
from yolodeploy.trials.proposals import AGAIN, PROPOSED, Proposal, Proposals, as_overlay
from yolodeploy.trials.results import Judged, Searched, Tried
from yolodeploy.trials.space import Overlay
from yolodeploy.trials.stages import Candidate, Outcome, Stage, Workshop, few_of, try_recipes
from yolodeploy.trials.talk import BatchTalk, quietly

BATCH = 4  # recipes that are proposed together; always as many, so that who works on them changes nothing
OUTCOME = "outcome"


def search_recipe(
    wish: Wish, store: Store, console: Console, executor: Executor, run: Run
) -> Searched:
    """Search as a recipe's block says; a search that was stopped goes on.

    Raises RecipeError and PlanRefused for a space that cannot be searched, StoreProblem for the journal of another search.
    """
    kept, work = Kept(executor), work_of(wish.request, store.root)
    with executor:
        prepared = prepare(wish, store, console, lambda _recipe: kept.plan(work))
        about, locks = prepared.about, store.root / "locks"
        opened = open_journal(prepared.journal, about, len(prepared.objectives), locks)
        with opened as journal:
            search = _Search(prepared, journal, store, console, kept, run)
            search.work()
            return search.result()


class _Search:
    def __init__(
        self,
        prepared: Prepared,
        journal: Journal,
        store: Store,
        console: Console,
        executor: Executor,
        run: Run,
    ) -> None:
        self.prepared, self.journal, self.console = prepared, journal, console
        files = TrialFiles(prepared.plan.file, prepared.folder, prepared.objectives)
        self.shop = Workshop(
            prepared.wish.request,
            files,
            prepared.objectives,
            store,
            quietly(console),
            executor,
            run,
        )
        self.few = few_of(prepared.halves[0], prepared.images // 2)
        self.proposals = Proposals(
            journal,
            prepared.space,
            prepared.starts,
            prepared.kind,
            prepared.seed,
            prepared.refused,
        )
        self.own: Tried | None = None
        self.exhausted = False

    def work(self) -> None:
        """Try the recipe itself, then batches until the budget is spent."""
        self.own = self._try_own()
        talk = BatchTalk(self.console, self.prepared)
        talk.begin(self.own.outcome, self._tried())
        while batch := self._batch():
            start = time.monotonic()
            self._try(batch, talk)
            self.journal.spent(time.monotonic() - start)
            talk.front(self._front(), self.journal.seconds, self._tried())

    def result(self) -> Searched:
        """The front, judged on the other half of the images."""
        assert self.own is not None  # noqa: S101 - it was tried first
        keys = self._front()
        tried = {t.number: t for t in [self.own, *self._tried()]}
        judged = self._judge([tried[key] for key in dict.fromkeys([0, *keys])])
        return Searched(
            self.prepared.plan.file,
            self.prepared.objectives,
            self._tried(),
            judged[0],
            [found for key in keys for found in judged if found.tried.number == key],
            self._refused(),
            self.journal.seconds,
            self.exhausted,
        )

    def _try_own(self) -> Tried:
        """Try the recipe itself, which says what nothing here measures."""
        half = self.prepared.halves[0]
        (outcome,) = try_recipes(
            [Candidate("own", self.prepared.own)], self.shop, half, self.few, (), prune=False
        )
        if outcome.stage == Stage.FAILED:
            raise PlanRefused(f"the recipe itself cannot be built or measured: {outcome.why}")
        for name, reason in outcome.missing.items():
            raise PlanRefused(
                f"{self.prepared.where[name]}: `{name}` is measured by nothing here: {reason}. Leave it out."
            )
        return Tried(0, None, outcome)

    def _batch(self) -> list[Proposal]:
        """The next recipes to try: those in the air when a search was stopped, then new ones; none if the budget is spent."""
        begun = self._begun()
        done = len(self._tried())
        if begun and done % BATCH:  # all of the batch had been proposed before the first was tried
            return begun
        # A batch that a smaller budget ended early is filled before the next one begins.
        room, trials = BATCH - done % BATCH, self.prepared.trials
        left = room if trials is None else min(room, trials - done)
        minutes = self.prepared.minutes
        if not begun and minutes and self.journal.seconds >= 60 * minutes:
            return []
        while len(begun) < left:
            proposal = self.proposals.propose(done + len(begun) + 1)
            if proposal is None:
                self.exhausted = True
                break
            begun.append(proposal)
        return begun

    def _begun(self) -> list[Proposal]:
        """Recipes that were proposed, and not tried to the end."""
        open_ = [trial for trial in self.journal.trials() if trial.state.name == "RUNNING"]
        return [
            Proposal(known["number"], trial.number, as_overlay(known["overlay"]))
            for trial in open_
            if (known := trial.user_attrs[PROPOSED])
        ]

    def _try(self, batch: Sequence[Proposal], talk: BatchTalk) -> None:
        before = [
            t.outcome
            for t in self._tried()
            if (t.number - 1) // BATCH < (batch[0].number - 1) // BATCH
        ]
        assert self.own is not None  # noqa: S101 - it was tried first
        candidates = [Candidate(f"trial-{p.number}", p.overlay) for p in batch]
        outcomes = try_recipes(
            candidates, self.shop, self.prepared.halves[0], self.few, [self.own.outcome, *before]
        )
        for proposal, outcome in zip(batch, outcomes, strict=True):
            self.journal.note(proposal.trial, OUTCOME, outcome.plain())
            self._tell(proposal.trial, outcome)
            talk.tried(Tried(proposal.number, proposal.overlay, outcome))

    def _tell(self, trial: int, outcome: Outcome) -> None:
        """Tell the sampler what is known; where a figure is missing, the worst there was, as far as it went."""
        if outcome.stage == Stage.FAILED:
            self.proposals.tell_broken(trial)
            return
        values, violation = [], 0.0
        for objective in self.prepared.objectives:
            figure = outcome.figures.get(objective.name)
            value = figure.value if figure else self._worst(objective)
            violation += objective.excess(value) if figure else 0.0
            values.append(objective.told(value))
        self.proposals.tell(trial, values, violation)

    def _worst(self, objective: Objective) -> float:
        whole = [t.outcome.figures[objective.name].value for t in self._whole()]
        return min(whole) if objective.most else max(whole)

    def _tried(self) -> list[Tried]:
        found = []
        for trial in self.journal.trials():
            if trial.state.is_finished() and OUTCOME in trial.user_attrs:
                known = trial.user_attrs[PROPOSED]
                outcome = Outcome.of(trial.user_attrs[OUTCOME])
                found.append(Tried(known["number"], as_overlay(known["overlay"]), outcome))
        return sorted(found, key=lambda tried: tried.number)

    def _refused(self) -> list[tuple[Overlay, str]]:
        """Proposals that cannot be planned."""
        known = [t.user_attrs[PROPOSED] for t in self.journal.trials() if PROPOSED in t.user_attrs]
        return [
            (as_overlay(k["overlay"]), k["why"]) for k in known if k["why"] and k["why"] != AGAIN
        ]

    def _whole(self) -> list[Tried]:
        assert self.own is not None  # noqa: S101 - it was tried first
        return [t for t in [self.own, *self._tried()] if t.outcome.stage == Stage.ALL]

    def _front(self) -> list[int]:
        """The numbers of the trials that nothing beats; 0 is the recipe itself."""
        return front(self.prepared.objectives, {t.number: t.outcome.figures for t in self._whole()})

    def _judge(self, found: Sequence[Tried]) -> list[Judged]:
        """The figures on the half of the images that the search did not see."""
        half: Half = self.prepared.halves[1]
        named = [
            (
                f"{'own' if t.number == 0 else f'trial-{t.number}'}-rest",
                t.overlay or self.prepared.own,
            )
            for t in found
        ]
        self.console.info(f"measure {len(found)} recipes on the other half of the images ...")
        results = self.shop.results(named, half, self.shop.goal)
        judged = []
        for tried, result in zip(found, results, strict=True):
            if result.error:
                raise result.error
            figures, images = self.shop.figures(result)
            judged.append(Judged(tried, figures, images))
        return judged
