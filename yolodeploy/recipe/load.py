"""Load a recipe: read the file, follow `extends`, merge, validate, and check what it may read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from yolodeploy.errors import RecipeError
from yolodeploy.recipe.allowed_paths import AllowedPaths, allowed_paths
from yolodeploy.recipe.fields import Recipe
from yolodeploy.recipe.messages import describe_errors
from yolodeploy.recipe.yaml_file import Document, Loc, Position, load_yaml
from yolodeploy.system import quotable, shown

MAX_EXTENDS = 8
_WEIGHTS = (".pt", ".onnx")
_PATHS: tuple[Loc, ...] = (("model", "weights"), ("data", "path"))


@dataclass(frozen=True)
class RecipeFile:
    """A recipe, the position of each of its values, and the paths that it may read."""

    path: Path
    recipe: Recipe
    document: Document
    allowed: AllowedPaths

    def where(self, *loc: str | int) -> Position:
        """Find the position of a value, for messages."""
        return self.document.where(loc)


def load_recipe(path: Path, extra: Iterable[Path] = ()) -> RecipeFile:
    """Read, merge and validate a recipe; raises RecipeError with all its errors at once.

    Raises PlanRefused if it names a file outside its project and the paths in `extra`.
    """
    _require_recipe(path)
    allowed = allowed_paths(path, extra)
    allowed.require(path, Position(path, 1, 1), "the recipe")
    document = _load_extended(path, (), allowed)
    document.value.setdefault("name", path.stem)
    return _validated(path, document, allowed)


def varied(file: RecipeFile, values: Mapping[str, Any]) -> RecipeFile:
    """What a recipe would be that extends this one and has these plain values; raises RecipeError as `load_recipe` does."""
    above = Document(file.path, dict(file.document.value), file.document.positions)
    del above.value["name"]
    above.value.pop("search", None)
    document = _merge(above, Document(file.path, dict(values)))
    document.value.setdefault("name", file.recipe.name)
    return _validated(file.path, document, file.allowed)


def _validated(path: Path, document: Document, allowed: AllowedPaths) -> RecipeFile:
    try:
        recipe = Recipe.model_validate(document.value)
    except ValidationError as error:
        raise RecipeError(describe_errors(error, document, Recipe)) from None
    file = RecipeFile(path, recipe, document, allowed)
    allowed.require(recipe.model.weights, file.where("model", "weights"), "the weights file")
    allowed.require(recipe.data.path, file.where("data", "path"), "the data set")
    return file


def _require_recipe(path: Path) -> None:
    """Raise RecipeError for what people name in place of a recipe, with what they may have meant."""
    if os.path.isdir(path):  # noqa: PTH112 - unlike Path's, it takes any text
        raise RecipeError(
            f"{shown(path)} is a folder. Name the recipes in it: {shown(path / '*.yaml')}"
        )
    if path.suffix in _WEIGHTS:
        raise RecipeError(
            f"{shown(path)} is not a recipe. `yolodeploy init {shown(path)}` writes recipes for a checkpoint or an ONNX file."
        )
    whole = path.with_name(f"{path.name}.yaml")
    if path.name and not os.path.lexists(path) and os.path.isfile(whole):  # noqa: PTH113
        raise RecipeError(f"{shown(path)}: no such file. Perhaps you meant {shown(whole)}.")


def _load_extended(path: Path, children: tuple[Path, ...], allowed: AllowedPaths) -> Document:
    document = load_yaml(path, short=True)
    if not isinstance(document.value, dict):
        raise RecipeError(
            f"{shown(path)}:1:1: a recipe must be a mapping with `model:`, `data:`, `target:` and `steps:`"
        )
    _absolute_paths(document.value, path.parent)
    base = document.value.pop("extends", None)
    if base is None:
        return document
    at = document.where(("extends",))
    if not isinstance(base, str) or "\0" in base:
        raise RecipeError(f"{at}: `extends: {quotable(base)}` must be the path of another recipe")
    parent = Path(os.path.realpath(path.parent / base))
    allowed.require(parent, at, "the extended recipe")
    family = (*children, path.resolve())
    if parent in family:
        raise RecipeError(
            f"{at}: `extends: {quotable(base)}` leads back to a recipe that is already being read"
        )
    if len(family) > MAX_EXTENDS:
        raise RecipeError(f"{at}: a chain of `extends` may have at most {MAX_EXTENDS} links")
    if not os.path.exists(parent):  # noqa: PTH110 - unlike Path's, it takes any text
        raise RecipeError(f"{at}: `extends: {quotable(base)}`: no such file")
    above = _load_extended(parent, family, allowed)
    above.value.pop("name", None)  # or both would write the same bundle
    above.value.pop("search", None)  # it is about that recipe
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

    def kept(loc: Loc) -> bool:
        return not any(loc[:end] in replaced for end in range(len(loc) + 1))

    positions = {loc: at for loc, at in parent.positions.items() if kept(loc)}
    return Document(child.file, value, {**positions, **child.positions})


def _merge_values(old: object, new: object, loc: Loc, replaced: set[Loc]) -> object:
    if isinstance(old, dict) and isinstance(new, dict):
        merged = {k: _merge_values(old.get(k), v, (*loc, k), replaced) for k, v in new.items()}
        return {**old, **merged}
    replaced.add(loc)
    return new
