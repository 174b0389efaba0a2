"""What differs between recipes: the fields of the resolved plans, and the versions of the tools, where they are not equal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from yolodeploy.comparison.subject import Subject

_ABSENT = "-"
_DEEPEST = 16  # levels of a recipe that are told apart
_BLOCKS = ("target", "model", "data", "seed", "steps", "step ", "checks", "tool ")  # in this order
# Another step, another tool: that one lacks its fields is no difference of its own.
_OPTIONAL = ("step ", "tool ")


@dataclass(frozen=True)
class Difference:
    """A field, and its values with the labels of those that have each."""

    field: str
    values: Mapping[str, Sequence[str]]


def differences(labels: Sequence[str], subjects: Sequence[Subject]) -> Iterator[Difference]:
    """The fields in which the recipes differ, in the order of a recipe; checks and tools last.

    Parameters of a step and versions of a tool are compared between those that have them.
    """
    known = [(label, s) for label, s in zip(labels, subjects, strict=True) if s.recipe]
    flat = {label: _fields(subject) for label, subject in known}
    names = dict.fromkeys(name for fields in flat.values() for name in fields)
    for name in sorted(names, key=_block):
        values: dict[str, list[str]] = {}
        for label, fields in flat.items():
            if name in fields or not name.startswith(_OPTIONAL):
                values.setdefault(fields.get(name, _ABSENT), []).append(label)
        if len(values) > 1:
            yield Difference(name, values)


def _block(name: str) -> int:
    """A stable sort keeps the order of the recipe within each block."""
    return next((number for number, block in enumerate(_BLOCKS) if name.startswith(block)), 0)


def _fields(subject: Subject) -> dict[str, str]:
    """The fields of a recipe by dotted name, as text; those that are null are left out."""
    recipe = subject.recipe
    steps = [step for step in recipe.get("steps") or () if isinstance(step, dict)]
    found = {
        **_leaves("target", recipe.get("target")),
        **_leaves("model", recipe.get("model")),
        **_views(recipe.get("data")),
        **_leaves("checks", recipe.get("checks")),
        "seed": _plain(recipe.get("seed")),
        "steps": ", ".join(str(step.get("name")) for step in steps),
    }
    for step in steps:
        found |= _leaves(f"step {step.get('name')}", step.get("params"))
    for tools in subject.versions.values():
        found |= _leaves("tool", tools, " ")
    return found


def _views(data: object) -> dict[str, str]:
    """A field for each view: "train, 32 images"."""
    found: dict[str, str] = {}
    for name, view in (data if isinstance(data, dict) else {}).items():
        if isinstance(view, dict):
            count = view.get("images")
            images = f"{count} images" if count else "all images"
            found[f"data.{name}"] = f"{view.get('split')}, {images}"
        elif view is not None:
            found[f"data.{name}"] = _plain(view)
    return found


def _leaves(
    prefix: str, value: object, separator: str = ".", depth: int = _DEEPEST
) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, each in (value if isinstance(value, dict) else {}).items():
        name = f"{prefix}{separator}{key}"
        if isinstance(each, dict) and each and depth:
            found |= _leaves(name, each, depth=depth - 1)
        elif each is not None:
            found[name] = _plain(each)
    return found


def _plain(value: Any) -> str:
    try:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "nested too deeply to be shown"
