"""The story of `yolodeploy init`: weights -> model -> data set -> advice for each device -> recipes that can be planned.

best.pt ──read_model──▶ Model ──find_data──▶ Source ──choose_images──▶ Images ──advise──▶ recipes/DEVICE.yaml
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from yolodeploy.backend import Registry, Situation, load_registry, recipe_schema
from yolodeploy.data import read_class_names
from yolodeploy.errors import EnvironmentProblem, PlanRefused, RecipeError, YolodeployError
from yolodeploy.planning import Planner
from yolodeploy.proposal.data_set import Ask, Source, find_data
from yolodeploy.proposal.images import Images, choose_images, option, outside
from yolodeploy.proposal.limits import Limit, guessed
from yolodeploy.proposal.model import Model, read_model
from yolodeploy.proposal.recipe_text import Paths, recipe_name, recipe_text
from yolodeploy.proposal.targets import Advised, advise, known_devices, suggested
from yolodeploy.recipe import View, allowed_paths
from yolodeploy.store import DIGESTS
from yolodeploy.system import StatCache, is_file, shown, shown_json

SCHEMA = "recipe.schema.json"
GUESSED = (
    "First limits, on the safe side. `yolodeploy init --measure` sets them by what was measured."
)
Choose = Callable[[Sequence[str]], Sequence[str]]


@dataclass(frozen=True)
class Wish:
    """What somebody wants recipes for.

    `data` and `devices` are found where they are left out; `folder` is where the recipes go. `ask` puts a question about
    the data set to somebody, and `choose` shows suggested devices and returns those that are wanted; None if nobody is there.
    """

    weights: Path
    data: Path | None = None
    devices: Sequence[str] = ()
    folder: Path = Path("recipes")
    ask: Ask | None = None
    choose: Choose | None = None


@dataclass(frozen=True)
class Written:
    """A recipe that was written, and what it was made of; `note` says where its limits come from."""

    path: Path
    advised: Advised
    limits: Sequence[Limit]
    note: str = GUESSED
    warnings: tuple[str, ...] = ()

    @property
    def steps(self) -> list[str]:
        """The names of its steps."""
        return [step.name for step in self.advised.advice.steps]


@dataclass(frozen=True)
class Proposal:
    """The recipes that were written; `left_out` are devices nobody named, with the reason why they have none.

    `allow` are the folders outside of the recipes' project, `project`, that whoever runs them must allow.
    """

    model: Model
    source: Source
    images: Images
    recipes: Sequence[Written]
    named: Paths
    project: Path
    allow: tuple[Path, ...]
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """The command that deploys the recipes."""
        paths = [written.path for written in self.recipes]
        folder = paths[0].parent
        whole = sorted(folder.glob("*.yaml")) == sorted(paths)
        pattern = f"{shlex.quote(str(folder))}/*.yaml"
        named = pattern if whole and len(paths) > 1 else shlex.join(map(str, paths))
        return " ".join(["yolodeploy deploy", named, *self.options])

    @property
    def options(self) -> list[str]:
        """What the commands on the recipes need besides."""
        return [f"--allow {shlex.quote(option(folder))}" for folder in self.allow]


def propose(wish: Wish, store: Path) -> Proposal:
    """Write a recipe for each device, which `yolodeploy check` passes; `store` is the store's folder.

    Raises ModelError, DataError or PlanRefused for what no recipe can be written for, and RecipeError for a file that exists:
    then nothing is written.
    """
    registry = load_registry()
    model = read_model(wish.weights, registry, _names(wish.data))
    devices = _devices(wish, registry)
    digests = StatCache(store / DIGESTS)
    use = partial(choose_images, model=model, digests=digests)
    source, images = find_data(model, wish.data, wish.ask, use)
    digests.save()
    situation = Situation(model.info, model.imgsz, images.calibrated)
    suffix, chosen = model.path.suffix.lower(), bool(wish.devices)
    advised = [advise(name, registry, situation, suffix, chosen=chosen) for name in devices]
    paths = [wish.folder / f"{recipe_name(model, name)}.yaml" for name in devices]
    _refuse_existing(paths)
    project = allowed_paths(wish.folder / SCHEMA, ())
    allow = outside([*images.read, _real_folder(model.path)], project)
    schema = _schema(wish.folder, project.project)
    named = Paths(
        _from(wish.folder, model.path, project.project),
        _from(wish.folder, source.path, project.project),
        schema,
    )
    with Planner.of_store(store, allow) as planner:
        recipes, left_out = _written(
            _Author(model, images, named, planner), zip(paths, advised, strict=True)
        )
    if schema == SCHEMA and not os.path.lexists(wish.folder / SCHEMA):
        create(wish.folder / SCHEMA, f"{shown_json(recipe_schema(registry))}\n")
    return Proposal(model, source, images, recipes, named, project.project, allow, left_out)


def _names(data: Path | None) -> Callable[[], Sequence[str]] | None:
    return (lambda: read_class_names(data, View())) if data else None


def _devices(wish: Wish, registry: Registry) -> list[str]:
    if wish.devices:
        return known_devices(wish.devices, registry)
    found = suggested(registry)
    return known_devices(wish.choose(found), registry) if wish.choose else found


@dataclass(frozen=True)
class _Author:
    """What the recipes share."""

    model: Model
    images: Images
    named: Paths
    planner: Planner

    def write(self, path: Path, advised: Advised) -> Written:
        """Write a recipe and plan it; it is removed again if that fails."""
        task, labelled = self.model.info.task, self.images.labelled
        limits = guessed(advised.advice, task, labelled=labelled)
        written = Written(path, advised, limits)
        create(path, text_of(self, written))
        try:
            return replace(written, warnings=self.planner.plan(path).warnings)
        except BaseException:
            path.unlink()
            raise


def text_of(shared: _Author | Proposal, written: Written) -> str:
    """The text of a recipe."""
    model, images, named = shared.model, shared.images, shared.named
    name, advised = written.path.stem, written.advised
    return recipe_text(name, model, images, advised, written.limits, named, written.note)


def _written(
    author: _Author, wanted: Iterable[tuple[Path, Advised]]
) -> tuple[Sequence[Written], dict[str, str]]:
    """The recipes, and why devices that nobody named have none. If one cannot be written, none is."""
    recipes, left_out = list[Written](), dict[str, str]()
    for path, advised in wanted:
        try:
            recipes.append(author.write(path, advised))
        except YolodeployError as error:
            reason = re.sub(rf"{re.escape(shown(path))}:\d+:\d+: ", "", str(error))
            if advised.chosen or not isinstance(error, PlanRefused):
                _remove(recipes, path.parent)
                raise type(error)(f"{advised.device.name}: {reason}") from error
            left_out[advised.device.name] = reason
    if not recipes:
        raise PlanRefused("\n".join(f"{name}: {reason}" for name, reason in left_out.items()))
    return recipes, left_out


def _refuse_existing(paths: Iterable[Path]) -> None:
    there = [path for path in paths if os.path.lexists(path)]
    if there:
        names = ", ".join(map(shown, there))
        verb = "exists" if len(there) == 1 else "exist"
        raise RecipeError(
            f"{names} {verb} already, and init overwrites nothing. Name another folder (-o), or devices that have no recipe yet "
            "(--device)."
        )


def create(path: Path, text: str) -> None:
    """Write a file that does not exist yet, and the folders above it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except (FileExistsError, NotADirectoryError):
        raise EnvironmentProblem(
            f"{shown(path.parent)} is a file, or lies in one. Name a folder for the recipes with -o."
        ) from None
    except OSError as error:
        raise EnvironmentProblem(f"{shown(path)}: cannot be written: {error.strerror}") from None


def _remove(recipes: Sequence[Written], folder: Path) -> None:
    for written in recipes:
        written.path.unlink()
    with contextlib.suppress(OSError):  # it holds something
        folder.rmdir()


def _real_folder(path: Path) -> Path:
    return Path(os.path.realpath(path)).parent


def _from(folder: Path, path: Path, project: Path) -> str:
    """A path as a recipe in the folder names it: relative if both lie in the same project or below the current folder."""
    whole, start = Path(os.path.abspath(path)), os.path.realpath(folder)  # noqa: PTH100 - keeps links
    near = any(whole.is_relative_to(root) for root in (project, Path.cwd()))
    return Path(os.path.relpath(whole, start)).as_posix() if near else whole.as_posix()


def _schema(folder: Path, project: Path) -> str:
    """Where editors find the schema of recipes, from the folder: in the project, else in the folder itself."""
    places = (folder, project, project / "docs")
    found = next((place for place in places if is_file(place / SCHEMA)), folder)
    return (
        Path(os.path.relpath(found / SCHEMA, os.path.realpath(folder))).as_posix()
        if found != folder
        else SCHEMA
    )
