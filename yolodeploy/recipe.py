"""The recipe file: its Pydantic models, `extends`, and messages that name line and remedy."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from yolodeploy import yamlfile
from yolodeploy.errors import RecipeError, quotable
from yolodeploy.trust import Trust, trust_of
from yolodeploy.wording import NAME, SHA256, VERSION, describe_errors
from yolodeploy.yamlfile import Document, Loc, Position, shown

MAX_EXTENDS = 8
_PATHS: tuple[Loc, ...] = (("model", "weights"), ("data", "path"))


class Part(BaseModel):
    """Base of the recipe's blocks: immutable, strict about types, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _as_path(value: object) -> object:
    if isinstance(value, str) and "\0" in value:
        raise ValueError("holds a NUL character, which no path can")
    return Path(value) if isinstance(value, str) else value


AnyPath = Annotated[Path, BeforeValidator(_as_path)]


class Model(Part):
    """The model to ship."""

    weights: AnyPath = Field(description="The checkpoint (.pt), relative to the recipe.")
    sha256: str | None = Field(
        default=None,
        pattern=SHA256,
        description="Digest that the weights file must have; a build with another file is refused.",
    )
    imgsz: int = Field(
        default=640,
        ge=32,
        le=4096,
        multiple_of=32,
        description="Side of the square input in pixels.",
    )


class View(Part):
    """A selection of images."""

    split: str = Field(
        default="val", description="Key of the split in data.yaml: train, val or test."
    )
    images: int | None = Field(
        default=None,
        ge=1,
        description="How many images, chosen by the seed; all of the split if left out.",
    )


class Data(Part):
    """The labelled images that the model is measured and calibrated with."""

    path: AnyPath = Field(description="An Ultralytics data.yaml, relative to the recipe.")
    evaluation: View = Field(default=View(), description="Images that accuracy is measured on.")
    calibration: View | None = Field(
        default=None,
        description="Images that steps may look at, for instance to find activation ranges.",
    )
    training: View | None = Field(
        default=None, description="Labelled images that steps may train the model on."
    )
    seed: int = Field(
        default=0, ge=0, description="Chooses the images where a view takes fewer than all."
    )


class Target(Part):
    """The device to ship to."""

    device: str = Field(description="A device name; `yolodeploy devices` lists them.")
    os: str | None = Field(
        default=None,
        pattern=VERSION,
        description='Oldest OS version that the artifact must run on, quoted: "16" or "17.4".',
    )


class StepRequest(Part):
    """One entry of `steps`: the name of a transform and its parameters."""

    name: str
    params: dict[str, Any]


class Checks(Part):
    """What the artifact must satisfy before a bundle is written. A check that is left out is not made."""

    size_mb: float | None = Field(
        default=None, gt=0, description="Largest size of the artifact in megabytes (1e6 bytes)."
    )
    map_drop: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Largest loss of mAP50-95 against the source model (0.01 is one point).",
    )
    class_ap_drop: float | None = Field(
        default=None, ge=0, le=1, description="Largest loss of AP50-95 of any single class."
    )
    fidelity: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Smallest AP50-95 of the artifact's detections against the source model's; needs no labels.",
    )
    latency_ratio: float | None = Field(
        default=None,
        gt=0,
        description="Largest median latency relative to the same backend's fp32 export, measured interleaved.",
    )
    speedup: float | None = Field(
        default=None,
        gt=0,
        description="Least number of times that the artifact is faster than the fp32 export of the model "
        "as loaded (before pruning), by median latency measured interleaved.",
    )
    output_diff: float | None = Field(
        default=None,
        gt=0,
        description="Largest difference of any raw output value from the source model.",
    )
    step_drop: dict[str, Annotated[float, Field(ge=-1, le=1)]] | None = Field(
        default=None,
        description="Largest loss of mAP50-95 of single steps, by name, against their own input; "
        "a negative limit demands a gain.",
    )


def _shorthand_target(value: object) -> object:
    if isinstance(value, str):
        return {"device": value}
    if not isinstance(value, dict | Target):
        raise ValueError(  # noqa: TRY004 - Pydantic's way
            f"`target: {quotable(value)}` must be a device name, or `device:` and `os:`"
        )
    return value


def _shorthand_step(value: object) -> object:
    """`export` and `export: {precision: fp16}` as a StepRequest's keys."""
    if isinstance(value, str):
        return {"name": value, "params": {}}
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError(_not_one_step(value))
    ((name, params),) = value.items()
    if not isinstance(params, dict | None):
        raise ValueError(  # noqa: TRY004
            f"`{quotable(name)}` takes its parameters as a mapping, such as "
            f"`{quotable(name)}: {{name: value}}`, not `{quotable(params)}`"
        )
    return {"name": str(name), "params": params or {}}


def _not_one_step(value: object) -> str:
    if isinstance(value, dict) and value:
        names = ", ".join(map(str, value))
        return f"an entry of `steps` is one step, but here are {len(value)}: {quotable(names)}. Begin each with its own `- `"
    return f"an entry of `steps` is a step's name, alone or with its parameters, not `{quotable(value)}`"


class Recipe(Part):
    """A recipe: which model, which data, which device, which steps in which order, which checks."""

    name: str = Field(pattern=NAME, max_length=100, description="Name of the bundle: dist/<name>.")
    model: Model
    data: Data
    target: Annotated[Target, BeforeValidator(_shorthand_target)]
    steps: tuple[Annotated[StepRequest, BeforeValidator(_shorthand_step)], ...] = Field(
        min_length=1, max_length=64, strict=False, description="Transforms, run in this order."
    )
    checks: Checks = Checks()
    seed: int = Field(default=0, ge=0, description="Seed of everything random in the steps.")


@dataclass(frozen=True)
class RecipeFile:
    """A recipe, where each of its values was written, and what it may read."""

    path: Path
    recipe: Recipe
    document: Document
    trust: Trust

    def where(self, *loc: str | int) -> Position:
        """Position of a value, for messages."""
        return self.document.where(loc)


def load_recipe(path: Path, allowed: Iterable[Path] = ()) -> RecipeFile:
    """Read, merge and validate a recipe; all faults are reported at once, as RecipeError.

    Raises PlanRefused where it names a file outside its project and the `allowed` folders.
    """
    trust = trust_of(path, allowed)
    trust.require(path, Position(path, 1, 1), "the recipe")
    document = _load_extended(path, (), trust)
    document.value.setdefault("name", path.stem)
    try:
        recipe = Recipe.model_validate(document.value)
    except ValidationError as fault:
        raise RecipeError(describe_errors(fault, document, Recipe)) from None
    file = RecipeFile(path, recipe, document, trust)
    trust.require(recipe.model.weights, file.where("model", "weights"), "the weights file")
    trust.require(recipe.data.path, file.where("data", "path"), "the data set")
    return file


def _load_extended(path: Path, children: tuple[Path, ...], trust: Trust) -> Document:
    document = yamlfile.load(path, short=True)
    if not isinstance(document.value, dict):
        raise RecipeError(
            f"{shown(path)}:1:1: a recipe is a mapping with `model:`, `data:`, `target:` and `steps:`"
        )
    _absolute_paths(document.value, path.parent)
    base = document.value.pop("extends", None)
    if base is None:
        return document
    at = document.where(("extends",))
    if not isinstance(base, str) or "\0" in base:
        raise RecipeError(f"{at}: `extends` takes the path of another recipe, not {quotable(base)}")
    parent = Path(os.path.realpath(path.parent / base))
    trust.require(parent, at, "the extended recipe")
    family = (*children, path.resolve())
    if parent in family:
        raise RecipeError(
            f"{at}: `extends: {quotable(base)}` leads back to a file that is already being read"
        )
    if len(family) > MAX_EXTENDS:
        raise RecipeError(f"{at}: more than {MAX_EXTENDS} recipes extend each other")
    if not os.path.exists(parent):  # noqa: PTH110 - unlike Path's, it takes any text
        raise RecipeError(f"{at}: `extends: {quotable(base)}`: no such file")
    above = _load_extended(parent, family, trust)
    above.value.pop("name", None)  # a bundle's name is a file's own
    return _merge(above, document)


def _absolute_paths(value: dict[Any, Any], folder: Path) -> None:
    for block, key in _PATHS:
        part = value.get(block)
        if isinstance(part, dict) and isinstance(part.get(key), str):
            part[key] = str(folder / part[key])


def _merge(parent: Document, child: Document) -> Document:
    """Put the child's values over the parent's: mappings merge, everything else is replaced."""
    replaced: set[Loc] = set()
    value = _merge_values(parent.value, child.value, (), replaced)
    kept = {
        loc: at
        for loc, at in parent.positions.items()
        if not any(loc[:end] in replaced for end in range(len(loc) + 1))
    }
    return Document(child.file, value, {**kept, **child.positions})


def _merge_values(old: object, new: object, loc: Loc, replaced: set[Loc]) -> object:
    if isinstance(old, dict) and isinstance(new, dict):
        merged = {k: _merge_values(old.get(k), v, (*loc, k), replaced) for k, v in new.items()}
        return {**old, **merged}
    replaced.add(loc)
    return new
