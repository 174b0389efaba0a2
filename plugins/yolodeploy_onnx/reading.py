"""From an ONNX file to a graph of primitives, or to a file with the common interface where it has other operations."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor

from yolodeploy.errors import ModelError
from yolodeploy.recipe import Head, Preprocess
from yolodeploy.system import ImageShape, shown
from yolodeploy_onnx.building import built
from yolodeploy_onnx.examination import examine
from yolodeploy_onnx.graph import Wanted
from yolodeploy_onnx.interface import (
    Model,
    Purpose,
    Unclear,
    end_in_common,
    purpose,
    strides,
    take_plain_images,
)
from yolodeploy_onnx.params import LoadOnnx
from yolodeploy_onnx.understanding import understood
from yolodeploy_torch.graph import Graph

_MOST_CLASSES, _MOST_LETTERS = 10_000, 200
_COARSE = 32  # the stride of a usual classifier
Floats = NDArray[np.float32]


class Nameless(ModelError, exit_code=ModelError.exit_code, kind=ModelError.kind):
    """A file that does not name its classes, and nothing else does."""


@dataclass(frozen=True)
class Read:
    """A model that was read: its graph and tensors, or the whole file and the `obstacle` that is no primitive."""

    names: tuple[str, ...]
    strides: tuple[int, ...]
    imgsz: ImageShape
    fixed: bool
    selected: Head
    model: Graph | ModelProto
    state: Mapping[str, Tensor]
    obstacle: str = ""
    stored: Mapping[str, int] = field(default_factory=dict)


def read(path: Path, params: LoadOnnx, imgsz: ImageShape | None) -> Read:
    """Read a file for images of a size; None: its own. Raises ModelError for what cannot be used."""
    preprocess = params.preprocess or Preprocess()
    found = examine(path, imgsz, preprocess)
    names = _names(found.metadata, params, path)
    model = Model(found.model, found.image, found.imgsz)
    for values in (found.outputs, *found.cuts):
        model.measured({name: value.shape for name, value in values.items()})
    try:
        aim = purpose(names, found.metadata, found.outputs, params.layout, params.kpt_shape)
        form, expected, single = understood(model, found, aim, params.layout)
    except Unclear as error:
        raise ModelError(
            f"{shown(path)} cannot be used: {error}. Give a data set with the model's classes, say what the outputs are "
            "with `head: {layout: ...}`, or export the network without its post-processing."
        ) from error
    selected: Head = "one-to-one" if single else "one-to-many"
    end_in_common(model, form)
    take_plain_images(model, preprocess)
    steps = _steps(aim, expected, found.imgsz)
    wanted = Wanted(aim, params.head or selected, found.imgsz)
    outcome = (expected, *([found.outputs[form.prototypes]] if form.prototypes else []))
    result = built(model, wanted, steps, outcome, path)
    fixed = not found.dynamic
    return Read(names, steps, found.imgsz, fixed, wanted.selected, *result, found.stored)


def _steps(aim: Purpose, expected: Floats, imgsz: ImageShape) -> tuple[int, ...]:
    """What the sides of an image are multiples of."""
    if aim.task == "classify":
        return (math.gcd(_COARSE, imgsz.height, imgsz.width),)
    return strides(expected.shape[2], imgsz)


def _names(metadata: Mapping[str, str], params: LoadOnnx, path: Path) -> tuple[str, ...]:
    """The classes that the metadata names, else those of the data set."""
    named = _parsed(metadata.get("names", ""))
    if named:
        return named
    if params.names:
        return params.names
    raise Nameless(f"{shown(path)} does not name its classes. Give it with a data set that does.")


def _parsed(text: str) -> tuple[str, ...]:
    """Names as Ultralytics writes them, a mapping from numbers, or as a list in JSON."""
    if not text or len(text) > _MOST_CLASSES * _MOST_LETTERS:
        return ()
    for reader in (ast.literal_eval, json.loads):
        try:
            value = reader(text)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, dict):
            value = [value.get(i, value.get(str(i))) for i in range(len(value))]
        usable = isinstance(value, list) and 0 < len(value) <= _MOST_CLASSES
        if usable and all(
            isinstance(n, str) and n.isprintable() and 0 < len(n) <= _MOST_LETTERS for n in value
        ):
            return tuple(value)
    return ()
