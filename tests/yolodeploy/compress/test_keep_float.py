"""What `keep_float` leaves to quantize, and the requests that are refused."""

from __future__ import annotations

import pytest

from yolodeploy.compress.keep_float import layers_to_quantize, refuse_compressed, refuse_missing
from yolodeploy.compress.layers import Part
from yolodeploy.compress.learned_ranges import Range, Ranges
from yolodeploy.errors import PlanRefused

PARTS: dict[str, Part] = {"a.conv": "backbone", "b.conv": "head", "b.2": "head.last", "dfl": "dfl"}


def test_parts_that_must_stay_float_are_asked_for() -> None:
    assert refuse_missing(("dfl", "decode"), "boxes break") is None
    assert refuse_missing(("decode",), "boxes break", ("decode",)) is None
    assert refuse_missing(("head.last",), "boxes break") == (
        "`keep_float` leaves out `dfl` and `decode`: boxes break. Write keep_float: [head.last, dfl, decode]."
    )


def test_layers_that_nothing_keeps_are_quantized() -> None:
    kept = ("dfl", "decode", "head.last")
    assert layers_to_quantize(kept, PARTS, PARTS) == ("a.conv", "b.conv")
    assert layers_to_quantize(kept, PARTS, ["b.conv"]) == ("b.conv",)
    with pytest.raises(PlanRefused, match=r"`keep_float` selects every convolution\. Remove"):
        layers_to_quantize(("dfl", "?.*"), PARTS, PARTS)


def test_layers_must_be_those_of_training() -> None:
    span = Range(low=-1, high=1)
    learned = Ranges(reads={"a.conv": span, "b.conv": span}, makes={})
    kept = ("dfl", "decode", "head.last")
    assert layers_to_quantize(kept, PARTS, PARTS, learned) == ("a.conv", "b.conv")
    with pytest.raises(PlanRefused, match=r"`qat` trained b\.2 in floating point"):
        layers_to_quantize(("dfl", "decode"), PARTS, PARTS, learned)


def test_compressed_weights_are_not_rounded_again() -> None:
    refuse_compressed({"a": "fp16", "b": "fp32"}, "w8")
    with pytest.raises(PlanRefused, match=r"quantized already\. Remove the second `quantize`"):
        refuse_compressed({"a": "int8 weights", "b": "int8"}, "w8")
    with pytest.raises(
        PlanRefused, match=r"weights of b are compressed already \(4-bit palette\).*Put `w8` after"
    ):
        refuse_compressed({"a": "fp16", "b": "4-bit palette"}, "w8")
