"""The recipe's `imgsz`: the side of a square, or [height, width]."""

from __future__ import annotations

from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from yolodeploy.system import ImageShape

MULTIPLE, LEAST, MOST = 32, 32, 4096  # px; 32 is the coarsest stride of the models
_SIDE = {"type": "integer", "minimum": LEAST, "maximum": MOST, "multipleOf": MULTIPLE}
_PAIR = {"type": "array", "items": _SIDE, "minItems": 2, "maxItems": 2}


def _parsed(value: object) -> ImageShape:
    """Read a size; raises an error that Pydantic reports, worded to follow the key and the value."""
    if isinstance(value, ImageShape):
        return value
    sides = value if isinstance(value, list | tuple) else [value, value]
    if len(sides) != 2 or not all(type(side) is int for side in sides):
        raise PydanticCustomError("image_size_type", "must be a whole number, or [height, width]")
    for side, name in zip(sides, ("height", "width"), strict=True):
        if problem := _problem(side):
            text = f"has the {name} {side}, which {problem}" if sides is value else problem
            raise PydanticCustomError("image_size", text)
    return ImageShape(*sides)


def _problem(side: int) -> str | None:
    if side < LEAST:
        return f"must be at least {LEAST}"
    if side > MOST:
        return f"must be at most {MOST}"
    below = side // MULTIPLE * MULTIPLE
    if side != below:
        return f"is not a multiple of {MULTIPLE}: use {below} or {below + MULTIPLE}"
    return None


ImageSize = Annotated[
    ImageShape,
    PlainValidator(_parsed),
    PlainSerializer(lambda shape: shape.plain),
    WithJsonSchema({"anyOf": [_SIDE, _PAIR]}),
]
