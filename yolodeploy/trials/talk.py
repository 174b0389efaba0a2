"""What a search says while it works: a line for each recipe, and the front after each batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from yolodeploy.system import Console
from yolodeploy.trials.objectives import Figure, Objective
from yolodeploy.trials.results import Tried
from yolodeploy.trials.stages import Outcome, Stage

if TYPE_CHECKING:
    from yolodeploy.trials.preparation import Prepared


class _Quiet(Console):
    """A console for trials: their lines only with -v, their errors too, and their progress on a terminal."""

    transient = True

    def __init__(self, console: Console) -> None:
        super().__init__(console.level)
        self._console = console

    def info(self, text: str) -> None:
        """As in `Console`, with -v."""
        self._console.detail(text)

    def error(self, text: str) -> None:
        """As in `Console`, with -v: a trial that fails is one of many."""
        self._console.detail(text)

    def warn(self, text: str) -> None:
        """As in `Console`, with -v: the recipe itself was warned about."""
        self._console.detail(text)


def quietly(console: Console) -> Console:
    """A console that says less."""
    return _Quiet(console)


class BatchTalk:
    """Says what becomes of recipes."""

    def __init__(self, console: Console, prepared: Prepared) -> None:
        self._console, self._prepared = console, prepared

    def begin(self, own: Outcome, before: Sequence[Tried]) -> None:
        """Say what the recipe itself has, and that a search goes on."""
        names = ", ".join(o.name for o in self._prepared.objectives)
        half, few = own.images, self._prepared.images
        self._console.info(f"search for {names}, on {half} of {few} images")
        self._console.info(
            f"the recipe itself: {figures_text(self._prepared.objectives, own.figures)}"
        )
        if before:
            self._console.info(f"going on after {len(before)} trials")

    def tried(self, tried: Tried) -> None:
        """Say what became of one recipe."""
        outcome = tried.outcome
        text = figures_text(self._prepared.objectives, outcome.figures)
        if outcome.stage != Stage.ALL:
            first, _, rest = outcome.why.partition(". ")
            text = f"given up: {first}{'.' * bool(rest)}"
        trials = self._prepared.trials or 0
        total = f" of {trials}" if tried.number <= trials else ""
        self._console.info(f"{tried.number}{total}: {text} ({outcome.seconds:.1f} s)")

    def front(self, front: Sequence[int], seconds: float, tried: Sequence[Tried]) -> None:
        """Say how far the search is, and which trials nothing beats."""
        numbers = ", ".join(str(number) if number else "the recipe itself" for number in front)
        rate = 60 * len(tried) / max(seconds, 0.1)
        self._console.info(f"  {rate:.1f} trials/min; front: {numbers or 'none keeps the limits'}")


def figures_text(objectives: Sequence[Objective], figures: Mapping[str, Figure]) -> str:
    """Figures in one line."""
    return ", ".join(
        f"{o.name} {shown_figure(o.name, figures[o.name].value)}"
        for o in objectives
        if o.name in figures
    )


def shown_figure(name: str, value: float) -> str:
    """A figure as tables give it; adding 0.0 turns -0.0 into 0.0."""
    forms: dict[str, Any] = {"size_mb": "{:.2f}", "map_drop": "{:+.4f}", "top1_drop": "{:+.4f}"}
    text: str = forms.get(name, "{:.3f}").format(round(value, 4) + 0.0)
    return text
