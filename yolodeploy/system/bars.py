"""Progress bars of a terminal or notebook, as wide as it is."""

from __future__ import annotations

import importlib.util
import sys
import time
from typing import TYPE_CHECKING

from yolodeploy.system.pace import Pace, clock, progress_text

if TYPE_CHECKING:
    from rich.progress import Progress

_NARROW = 60  # columns, below which there is no bar


def shows_bars() -> bool:
    """Whether standard error is a terminal, or a notebook's cell that can be drawn again."""
    return sys.stderr.isatty() or _in_notebook()


def _in_notebook() -> bool:
    """Whether this is Jupyter, with the widgets that rich draws into."""
    asked = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = asked() if asked else None
    if type(shell).__name__ != "ZMQInteractiveShell":
        return False
    return importlib.util.find_spec("ipywidgets") is not None


def new_bars(*, counts: bool = False, transient: bool = False) -> Progress:
    """An empty set of bars. Each has a field `text`, what is being done, and `pace`, a Pace or None.

    With `counts`, totals are numbers of things that are shown as "3/7", not as a share. Bars that are `transient` go when all is done.
    """
    from rich.console import Console as RichConsole
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
    )
    from rich.table import Column
    from rich.text import Text

    class Said(ProgressColumn):
        """What is left and what is being done, cut where the line ends."""

        max_refresh = None

        def render(self, task: Task) -> Text:
            pace: Pace | None = task.fields["pace"]
            if task.finished and task.finished_time is not None and not counts:
                return Text(f"in {clock(task.finished_time)}", style="dim")
            now, text = time.monotonic(), str(task.fields["text"])
            return Text(progress_text(pace, now, text) if pace else text)

    console = RichConsole(stderr=True)
    name = Column(no_wrap=True, overflow="ellipsis", max_width=max(12, console.width // 3))
    said = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    share = MofNCompleteColumn() if counts else TextColumn("{task.percentage:>3.0f}%")
    bar = [BarColumn(bar_width=10)] if console.width >= _NARROW else []
    named = TextColumn("{task.description}", table_column=name, markup=False)
    columns = named, *bar, share, Said(table_column=said)
    return Progress(*columns, console=console, expand=True, transient=transient)
