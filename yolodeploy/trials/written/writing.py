"""Writes the recipes of a front: plain recipes beside the one that was searched from, with their figures as comments."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from yolodeploy.errors import EnvironmentProblem
from yolodeploy.recipe import RecipeFile, load_yaml
from yolodeploy.system import shown
from yolodeploy.trials.files import as_yaml
from yolodeploy.trials.objectives import DROPS, TIMES, Figure
from yolodeploy.trials.results import Judged, Searched
from yolodeploy.trials.space import Overlay
from yolodeploy.trials.talk import shown_figure

_MOST = 10_000  # numbers that are tried for a name that is free
_MARGIN = {"size_mb": 0.01, "map_drop": 0.005, "top1_drop": 0.005, "fidelity": 0.01}


def write_front(searched: Searched, folder: Path) -> Searched:
    """Write a recipe for each point of the front but the recipe itself; nothing is overwritten."""
    found, taken = [], set[Path]()
    for judged in searched.front:
        if judged.tried.number == 0:
            found.append(replace(judged, recipe=searched.file.path))
            continue
        path = _written(searched, judged, folder, taken)
        taken.add(path)
        found.append(replace(judged, recipe=path))
    return replace(searched, front=found)


def _written(searched: Searched, judged: Judged, folder: Path, taken: set[Path]) -> Path:
    """The file of a recipe: one that has it already, or a new one."""
    base = f"{searched.name[:80]}-search"
    for number in range(1, _MOST):
        path = folder / f"{base}-{number}.yaml"
        if path in taken:
            continue
        text = _text(searched, judged, path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as opened:
                opened.write(text)
        except FileExistsError:
            if path.is_file() and path.read_text(encoding="utf-8", errors="replace") == text:
                return path
            continue
        except OSError as error:
            raise EnvironmentProblem(
                f"{shown(path)}: cannot be written: {error.strerror}"
            ) from None
        return path
    raise EnvironmentProblem(f"{shown(folder)}: has {_MOST} recipes {base}-*.yaml. Remove some.")


def _text(searched: Searched, judged: Judged, path: Path) -> str:
    return "\n".join(
        [
            *_comment(searched, judged, searched.file.path),
            as_yaml(_recipe(judged, searched.file, path)),
        ]
    )


def _comment(searched: Searched, judged: Judged, base: Path) -> Iterator[str]:
    first = base.read_text(encoding="utf-8").partition("\n")[0]
    if first.startswith("# yaml-language-server"):
        yield first
    yield f"# Found by `yolodeploy search {base.name}`, trial {judged.tried.number} of {len(searched.tried)}."
    few, other = judged.tried.outcome.images, judged.held_out_images
    yield f"# {'':<14} {f'searched on {few}':>16}   judged on {other} others"
    for objective in searched.objectives:
        seen = judged.tried.outcome.figures[objective.name]
        held = judged.held_out.get(objective.name)
        yield f"# {objective.name:<14} {shown_figure(objective.name, seen.value):>16}   {with_interval(objective.name, held)}"


def with_interval(name: str, figure: Figure | None) -> str:
    """A figure as comments and pages give it, with its interval."""
    if figure is None:
        return "not measured"
    text = shown_figure(name, figure.value)
    if figure.interval is None:
        return text
    low, high = (shown_figure(name, end) for end in figure.interval)
    return f"{text} ({low} to {high})"


def _recipe(judged: Judged, file: RecipeFile, path: Path) -> dict[str, Any]:
    """The recipe's own file with the values of the point in it, and paths as seen from `path`."""
    base = file.path
    value: dict[str, Any] = load_yaml(base, short=True).value
    for key in ("search", "name"):
        value.pop(key, None)
    overlay = judged.tried.overlay
    assert overlay is not None  # noqa: S101 - the recipe itself is not written again
    value["steps"] = [_relative_pins(step, path.parent) for step in overlay.steps]
    for view, count in overlay.images.items():
        data = value.setdefault("data", {})
        data[view] = {**(data.get(view) or {}), "images": count}
    if overlay.os:
        target = value.get("target")
        own = target if isinstance(target, dict) else {"device": file.recipe.target.device}
        value["target"] = {**own, "os": overlay.os}
    value["checks"] = _checks(judged, file, overlay)
    if path.parent.resolve() != base.parent.resolve():
        _move(value, base.parent, path.parent)
    named = {"extends": value.pop("extends")} if "extends" in value else {}
    return {**named, "name": path.stem, **value}


def _checks(judged: Judged, file: RecipeFile, overlay: Overlay) -> dict[str, Any]:
    """The recipe's checks where the point keeps them; what was measured, with a margin, where it does not or there is none."""
    own = file.recipe.checks
    found: dict[str, Any] = own.model_dump(exclude_defaults=True)
    steps = {next(iter(step)) if isinstance(step, dict) else step for step in overlay.steps}
    if any(name not in steps for name in own.step_drop or {}):
        found["step_drop"] = None
    for name in (*_MARGIN, *TIMES):
        figures = [
            f for f in (judged.tried.outcome.figures.get(name), judged.held_out.get(name)) if f
        ]
        limit = getattr(own, name)
        if figures and not (limit is not None and all(_keeps(name, f, limit) for f in figures)):
            found[name] = _limit(name, figures)
    return found


def _keeps(name: str, figure: Figure, limit: float) -> bool:
    return figure.value >= limit if name == "fidelity" else figure.value <= limit


def _limit(name: str, figures: list[Figure]) -> float:
    """A limit that the worst of the figures keeps, with a margin."""
    if name == "fidelity":
        return max(0.0, math.floor(100 * (min(f.value for f in figures) - _MARGIN[name])) / 100)
    worst = max(f.value for f in figures)
    if name in DROPS:
        return max(_MARGIN[name], math.ceil(200 * (worst + _MARGIN[name] / 2)) / 200)
    return float(f"{worst * (1.1 if name in TIMES else 1.01):.3g}")


def _relative_pins(step: Any, folder: Path) -> Any:
    """A step with the paths of its pinned files relative to the folder of the recipe."""
    if not isinstance(step, dict):
        return step
    ((name, params),) = step.items()
    return {name: {key: _relative_pin(value, folder) for key, value in params.items()}}


def _relative_pin(value: Any, folder: Path) -> Any:
    if isinstance(value, dict) and value.keys() == {"file", "sha256"}:
        return {**value, "file": _from(Path(value["file"]), folder)}
    return value


def _move(value: dict[str, Any], old: Path, new: Path) -> None:
    """Make the paths of a recipe in folder `old` those of one in `new`."""
    if "extends" in value:
        value["extends"] = _from(old / value["extends"], new)
    for block, key in (("model", "weights"), ("data", "path")):
        part = value.get(block)
        if isinstance(part, dict) and key in part:
            part[key] = _from(old / part[key], new)
    loader = value.get("model", {}).get("loader")
    if isinstance(loader, dict):
        value["model"]["loader"] = {name: _moved_options(o, old, new) for name, o in loader.items()}


def _moved_options(options: Any, old: Path, new: Path) -> Any:
    if not isinstance(options, Mapping):
        return options
    return {
        key: _from(old / text, new) if isinstance(text, str) and (old / text).exists() else text
        for key, text in options.items()
    }


def _from(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
