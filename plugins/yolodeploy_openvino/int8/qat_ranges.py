"""Putting learned ranges into a graph that NNCF quantized.

The quantizers stay where NNCF puts them for calibrated ranges; only their numbers change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolodeploy.compress import Ranges
from yolodeploy.errors import StepFailed
from yolodeploy_openvino import layers

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
            readers = {names.get(reader, "") for reader in layers.readers(node, _KEEPING)}
            found = {learned.reads[name] for name in readers & learned.reads.keys()}
            if not found:
                node.output(0).replace(node.input_value(0))
                continue
            if len(found) > 1:
                raise StepFailed(
                    f"{node.get_friendly_name()} rounds for convolutions of {len(found)} learned ranges; all "
                    "must have the same. Try the NNCF version that the recipe's lock file names."
                )
            wanted = found.pop()
            layers.set_ends(node, wanted.low, wanted.high)
