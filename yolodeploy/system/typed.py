"""Reads plain data as typed values."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_T = TypeVar("_T")


def adapter(kind: type[_T]) -> TypeAdapter[_T]:
    """Pydantic's adapter of a type, made once: making it takes longer than most readings."""
    made: TypeAdapter[_T] = _made(cast("Any", kind))
    return made


@functools.cache
def _made(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
