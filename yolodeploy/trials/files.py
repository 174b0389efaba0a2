"""The recipes of trials: files that extend the recipe, with the values of a point and some of the evaluation images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from yolodeploy.recipe import RecipeFile, View, varied
from yolodeploy.trials.objectives import TIMES, Objective
from yolodeploy.trials.space import Overlay

_WIDE = 1 << 20  # characters: nothing is wrapped, because a value of a recipe is one line
_LONGEST = 80  # characters of a name, with room for what is put behind it


@dataclass(frozen=True)
class Half:
    """One half of the evaluation images: which part of the split, and how many of its images if not all."""

    part: str
    images: int | None

    def plain(self) -> dict[str, Any]:
        """As a recipe has it."""
        return {"part": self.part, "images": self.images}


def halves(view: View) -> tuple[Half, Half]:
    """Two halves of the images of a view, which have none in common."""
    number, count = view.fold
    parts = f"{number}/{2 * count}", f"{number + count}/{2 * count}"
    if view.images is None:
        return Half(parts[0], None), Half(parts[1], None)
    return Half(parts[0], (view.images + 1) // 2), Half(parts[1], view.images // 2)


class TrialFiles:
    """Writes the recipes of trials into a folder; `objectives` decide what is checked, and so how long is timed."""

    def __init__(self, base: RecipeFile, folder: Path, objectives: Sequence[Objective]) -> None:
        self._base, self._folder, self._objectives = base, folder, objectives

    def write(self, name: str, overlay: Overlay, images: Half) -> Path:
        """The recipe of a trial on some of the images, as a file."""
        path = self._folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        value = {"extends": str(self._base.path.absolute()), **self._values(name, overlay, images)}
        path.write_text(as_yaml(value), encoding="utf-8")
        return path

    def recipe(self, name: str, overlay: Overlay, images: Half) -> RecipeFile:
        """The same without writing it, for planning alone."""
        plain = json.loads(json.dumps(self._values(name, overlay, images)))
        return varied(self._base, plain)

    def _values(self, name: str, overlay: Overlay, images: Half) -> dict[str, Any]:
        """What a trial changes in the recipe."""
        recipe = self._base.recipe
        value: dict[str, Any] = {
            "name": f"{recipe.name[:_LONGEST]}-{name}",
            "steps": list(overlay.steps),
            "data": {
                "evaluation": images.plain(),
                **{view: {"images": count} for view, count in overlay.images.items()},
            },
            "checks": self._checks(),
        }
        if overlay.os:
            value["target"] = {**recipe.target.model_dump(exclude_none=True), "os": overlay.os}
        return value

    def _checks(self) -> dict[str, Any]:
        """None of the recipe's, which may be about steps that a trial lacks; the latency that counts, so that it is timed well."""
        own = self._base.recipe.checks.model_dump(exclude_defaults=True)
        none: dict[str, Any] = {
            name: False if value is True else None for name, value in own.items()
        }
        timed = {o.name: o.limit or 1.0 for o in self._objectives if o.name in TIMES}
        return {**none, **timed}


def as_yaml(value: Mapping[str, Any]) -> str:
    """Plain values as recipes are written: what has no mapping or list in it on one line."""
    text: str = yaml.dump(
        value,
        Dumper=_Dumper,
        default_flow_style=None,
        sort_keys=False,
        width=_WIDE,
        allow_unicode=True,
    )
    return text


class _Dumper(yaml.SafeDumper):
    """Indents the entries of a list below their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - PyYAML's signature
        super().increase_indent(flow, indentless=False)
