"""Putting learned ranges into a graph that NNCF quantized.

The quantizers stay where NNCF puts them for calibrated ranges; only their numbers change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from yolodeploy.compress import Range, Ranges
from yolodeploy.errors import StepFailed
from yolodeploy_openvino import layers
from yolodeploy_openvino.toolchain import openvino

# Operations that move values, or add values of one grid, which gives values of that grid again.
_KEEPING = frozenset({*layers.MOVING, "Add", "FakeQuantize"})


def set_ranges(model: Any, convolutions: Mapping[str, Any], learned: Ranges) -> None:
    """Give every quantizer of an activation the range of the convolutions that read from it.

    `convolutions` are those of the model by layer name. A quantizer that feeds no trained convolution
    is bypassed: NNCF rounds the operands of additions even in parts that stay float. Raises
    StepFailed if one feeds convolutions of different ranges.
    """
    names = {node.get_friendly_name(): name for name, node in convolutions.items()}
    for node in model.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize":
            readers = {names.get(reader, "") for reader in _readers(node)}
            found = {learned.reads[name] for name in readers & learned.reads.keys()}
            if not found:
                node.output(0).replace(node.input_value(0))
                continue
            if len(found) > 1:
                raise StepFailed(
                    f"{node.get_friendly_name()} rounds for convolutions of {len(found)} learned ranges; all "
                    "must have the same. Try the NNCF version that the recipe's lock file names."
                )
            _set(node, found.pop())


def _readers(quantizer: Any) -> set[str]:
    """Names of the convolutions that the values of a quantizer reach."""
    found: set[str] = set()
    queue, seen = [quantizer], {quantizer.get_friendly_name()}
    while queue:
        for output in queue.pop().outputs():
            for port in output.get_target_inputs():
                node = port.get_node()
                name, kind = node.get_friendly_name(), node.get_type_name()
                if kind == "Convolution":
                    found.add(name)
                elif kind in _KEEPING and name not in seen:
                    seen.add(name)
                    queue.append(node)
    return found


def _set(quantizer: Any, wanted: Range) -> None:
    """Set the range of a quantizer, its low end moved so that 0 is one of the levels."""
    ops = openvino().opset13
    steps = int(quantizer.get_attributes()["levels"]) - 1
    below = round(-wanted.low / (wanted.high - wanted.low) * steps)
    ends = (-below * wanted.high / (steps - below), wanted.high)
    for number in (1, 2, 3, 4):  # low and high of the input, and of the output
        port = quantizer.input(number)
        old = port.get_source_output().get_node()
        value = np.full(old.get_output_shape(0), ends[(number - 1) % 2], np.float32)
        constant = ops.constant(value)
        constant.set_friendly_name(old.get_friendly_name())
        port.replace_source_output(constant.output(0))
