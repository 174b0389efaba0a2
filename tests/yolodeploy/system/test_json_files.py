"""Plain data as typed values."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from pydantic import ValidationError

from yolodeploy.system import adapter


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 0


def test_a_type_gets_one_adapter_that_reads_and_writes_it() -> None:
    assert adapter(Point).validate_python({"x": 1}) == Point(1)
    assert adapter(Point).dump_python(Point(1, 2), mode="json") == {"x": 1, "y": 2}
    assert adapter(Point) is adapter(Point)
    assert adapter(dict[str, int]).validate_python({"x": 1}) == {"x": 1}
    with pytest.raises(ValidationError):
        adapter(Point).validate_python({"x": "much"})
