"""What a search found, as typed values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from yolodeploy.recipe import RecipeFile
from yolodeploy.trials.objectives import Figure, Objective
from yolodeploy.trials.space import Overlay
from yolodeploy.trials.stages import Outcome


@dataclass(frozen=True)
class Tried:
    """A recipe that was tried: its number (0: the recipe itself), what it changes, and what became of it."""

    number: int
    overlay: Overlay | None
    outcome: Outcome


@dataclass(frozen=True)
class Judged:
    """A recipe of the front with its figures on the other half of the images, and where it was written."""

    tried: Tried
    held_out: Mapping[str, Figure]
    held_out_images: int
    recipe: Path | None = None


@dataclass(frozen=True)
class Searched:
    """The result of a search from the recipe `file`: what was tried, the recipe's own figures, and the front, best by the first objective first.

    `refused` are recipes that were proposed and could not be planned, with the reason. `seconds` are those of all runs together.
    """

    file: RecipeFile
    objectives: Sequence[Objective]
    tried: Sequence[Tried]
    own: Judged
    front: Sequence[Judged]
    refused: Sequence[tuple[Overlay, str]]
    seconds: float
    exhausted: bool = False

    @property
    def name(self) -> str:
        """The name of the recipe."""
        return self.file.recipe.name
