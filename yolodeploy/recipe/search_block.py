"""The block `search` of a recipe: what may vary, what counts, and how long to search.

    search:
      steps:                                    # as `steps` of a recipe, with open places
        - export
        - one_of:
            - palettize: {optimize: accuracy, max_mb: {from: 1.2, to: 3}}
            - quantize_weights: {bits: {choice: [4, 8]}}
            - nothing
      objectives: {size_mb, map_drop: 0.02}     # as `checks`; a figure is a limit
      budget: {trials: 40}

An open value is `{choice: [...]}` or `{from:, to:}`; an open entry of `steps` is `one_of`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, field_validator, model_validator

from yolodeploy.recipe.messages import suggestion
from yolodeploy.recipe.part import Part
from yolodeploy.system import quotable

NOTHING, ONE_OF = "nothing", "one_of"
_CHOICE, _RANGE = {"choice"}, {"from", "to", "step", "log"}
Number: TypeAlias = int | float


class Choice(Part):
    """One of several values."""

    values: tuple[Any, ...]


class Range(Part):
    """A number between two others, both included: a whole one if both are, in steps, or on a logarithmic scale."""

    low: Number
    high: Number
    step: Number | None = None
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return all(isinstance(number, int) for number in (self.low, self.high, self.step or 0))


Open: TypeAlias = Choice | Range


def opened(value: object) -> object:
    """A value of a recipe with the open places in it as `Choice` and `Range`; raises ValueError for a broken one."""
    if not isinstance(value, dict):
        return value
    keys = set(value)
    if keys & _CHOICE or {"from", "to"} & keys:
        return _open(value, keys)
    return {name: opened(inner) for name, inner in value.items()}


def _open(value: Mapping[str, Any], keys: set[str]) -> Open:
    text = quotable(json.dumps(value, ensure_ascii=False, default=str))
    known = _CHOICE if keys & _CHOICE else _RANGE
    if unknown := sorted(map(str, keys - known)):
        raise ValueError(
            f"`{text}` has the key `{quotable(unknown[0])}`.{suggestion(unknown[0], sorted(known))}"
        )
    if known is _CHOICE:
        values = value["choice"]
        if not isinstance(values, list) or not values:
            raise ValueError(f"`{text}`: `choice` must be a list of at least one value")
        if twice := [value for value in values if values.count(value) > 1]:
            raise ValueError(f"`{text}` names `{quotable(str(twice[0]))}` twice. Remove one")
        return Choice(values=tuple(values))
    return _range(value, text)


def _range(value: Mapping[str, Any], text: str) -> Range:
    if missing := [key for key in ("from", "to") if key not in value]:
        raise ValueError(f"`{text}` lacks `{missing[0]}`. Write {{from: smallest, to: largest}}")
    low, high, step, log = value["from"], value["to"], value.get("step"), value.get("log", False)
    numbers = [low, high, *([] if step is None else [step])]
    if any(isinstance(n, bool) or not isinstance(n, int | float) or not abs(n) < 1e12 for n in numbers):  # fmt: skip
        raise ValueError(f"`{text}`: `from`, `to` and `step` must be numbers")
    if not isinstance(log, bool):
        raise ValueError(f"`{text}`: `log` must be true or false")  # noqa: TRY004
    if low >= high:
        raise ValueError(f"`{text}` is empty: `from` must be less than `to`")
    if log and (low <= 0 or step is not None):
        raise ValueError(
            f"`{text}`: with `log`, `from` must be greater than 0, and there is no `step`"
        )
    if step is not None and not 0 < step <= high - low:
        raise ValueError(f"`{text}`: `step` must lie between 0 and the distance of `from` and `to`")
    return Range(low=low, high=high, step=step, log=log)


class SearchStep(Part):
    """An entry of the steps to search: a step whose parameters may be open, or several ways to go on."""

    name: str = ""
    params: dict[str, Any] = Field(default={})
    one_of: tuple[tuple[SearchEntry, ...], ...] | None = None

    @field_validator("params", mode="after")
    @classmethod
    def _with_open_places(cls, params: dict[str, Any]) -> dict[str, Any]:
        return {name: opened(value) for name, value in params.items()}


def _shorthand_entry(value: object) -> object:
    """Turn `export`, `export: {...}` or `one_of: [...]` into the keys of a SearchStep."""
    if isinstance(value, SearchStep):
        return value
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError(
            f"an entry of `steps` must be a step's name, alone or with its parameters, or `{ONE_OF}:` with a list of ways "
            f"to go on, not `{quotable(value)}`"
        )
    ((name, inner),) = value.items()
    if name == ONE_OF:
        if not isinstance(inner, list) or len(inner) < 2:
            raise ValueError(
                f"`{ONE_OF}` must be a list of at least two ways to go on; `{NOTHING}` is one"
            )
        return {ONE_OF: tuple(_way(way) for way in inner)}
    if not isinstance(inner, dict | None):
        raise ValueError(  # noqa: TRY004 - Pydantic's way
            f"the parameters of `{quotable(name)}` must be a mapping, not `{quotable(inner)}`"
        )
    return {"name": str(name), "params": inner or {}}


def _way(value: object) -> tuple[object, ...]:
    if value == NOTHING:
        return ()
    return tuple(value) if isinstance(value, list) else (value,)


SearchEntry = Annotated[SearchStep, BeforeValidator(_shorthand_entry)]


def _open_images(value: object) -> object:
    found = opened(value)
    numbers = found.values if isinstance(found, Choice) else [found.low] if isinstance(found, Range) else [found]  # fmt: skip
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in numbers):
        raise ValueError(
            "`images` must be whole numbers of at least 1: one, {choice: [...]} or {from: ..., to: ...}"
        )
    return found


def _open_text(value: object) -> object:
    found = opened(value)
    if any(
        not isinstance(v, str) for v in (found.values if isinstance(found, Choice) else [found])
    ):
        raise ValueError('must be text in quotes, such as "17", or {choice: [...]} of such')
    return found


class SearchView(Part):
    """How many images of a view."""

    images: Annotated[Any, BeforeValidator(_open_images)]


class SearchData(Part):
    """Views whose number of images may vary. Those that accuracy is measured on stay the same."""

    calibration: SearchView | None = None
    """Images that steps may look at."""
    training: SearchView | None = None
    """Labelled images that steps may train the model on."""


class SearchTarget(Part):
    """What may vary about the target. The device stays the same."""

    os: Annotated[Any, BeforeValidator(_open_text)]
    """Oldest OS version that the artifact must run on."""


class Objectives(Part):
    """What counts, as in `checks`; a figure is a limit that a recipe must keep to be of use."""

    size_mb: Annotated[float, Field(gt=0)] | None = None
    """Size of the artifact in megabytes (1e6 bytes); the smaller the better."""
    map_drop: Annotated[float, Field(ge=0, le=1)] | None = None
    """Loss of mAP50-95 against the source model."""
    top1_drop: Annotated[float, Field(ge=0, le=1)] | None = None
    """Loss of top-1 accuracy against the source model, for classification."""
    fidelity: Annotated[float, Field(ge=0, le=1)] | None = None
    """AP50-95 of what the artifact finds against what the source model finds; the larger the better. Needs no labels."""
    latency_ratio: Annotated[float, Field(gt=0)] | None = None
    """Median latency relative to the same backend's fp32 export."""
    latency_ms: Annotated[float, Field(gt=0)] | None = None
    """Median latency on the target device itself, in milliseconds; needs a host that is one (`--on`)."""

    @model_validator(mode="after")
    def _at_least_one(self) -> Self:
        if not self.model_fields_set:
            names = ", ".join(type(self).model_fields)
            raise ValueError(f"`objectives` names nothing to improve. Choose from {names}")
        return self


class Budget(Part):
    """How long to search: until so many trials are done, or so many minutes are over. What is begun is finished."""

    trials: int | None = Field(default=None, ge=1, le=10_000)
    """How many recipes to try; 40 if neither is given."""
    minutes: Annotated[float, Field(gt=0)] | None = None
    """How long to search."""


class Search(Part):
    """What `yolodeploy search` may change in the recipe and should improve. A deployment follows the rest of the recipe."""

    steps: tuple[SearchEntry, ...] | None = Field(
        default=None, min_length=1, max_length=64, strict=False
    )
    """Transforms, with open places: `{choice: [...]}` or `{from:, to:}` for a value, `one_of:` for steps. Those of the recipe if left out."""
    data: SearchData | None = None
    """How many images steps may see."""
    target: SearchTarget | None = None
    """The oldest OS version."""
    objectives: Objectives
    """What counts."""
    budget: Budget = Budget()
    """How long to search."""
    sampler: Literal["tpe", "nsga2"] | None = None
    """How recipes are proposed: by a Tree-structured Parzen Estimator or by the genetic algorithm NSGA-II."""
    seed: int = Field(default=0, ge=0)
    """The same seed proposes the same recipes."""
