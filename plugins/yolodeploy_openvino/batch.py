"""Changing how many images an IR takes at once.

A traced model has its batch in the target shapes of Reshape and Broadcast. All but the first number are sizes of
one image and stay. The first becomes -1 for a Reshape (whatever is left) and the new batch for a Broadcast.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from yolodeploy_openvino.graph import sources
from yolodeploy_openvino.toolchain import OTHER_VERSION, failing, openvino


def batch_size(model: Any) -> int:
    """How many images an `openvino.Model` takes at once."""
    return int(model.input(0).shape[0])


def set_batch(model: Any, batch: int) -> None:
    """Make a model take so many images at once, in place; raises StepFailed if it does not allow that."""
    if batch_size(model) == batch:
        return
    ops, first = openvino().opset13, {"Reshape": -1, "Broadcast": batch}
    given = {model.input(0).get_node().get_friendly_name()}  # and what is computed from the images
    for node in model.get_ordered_ops():
        if not given.isdisjoint(source.get_friendly_name() for source in sources(node)):
            given.add(node.get_friendly_name())
            if (kind := node.get_type_name()) in first:
                rest = list(node.get_output_shape(0))[1:]
                shape = ops.constant(np.array([first[kind], *rest], np.int64))
                shape.set_friendly_name(sources(node)[1].get_friendly_name())
                node.input(1).replace_source_output(shape.output(0))
    _, *rest = model.input(0).shape
    with failing(f"change the batch of this model to {batch}", OTHER_VERSION):
        # `Model.reshape` would first check the new shapes against the old batch.
        model.get_parameters()[0].set_partial_shape(openvino().PartialShape([batch, *rest]))
        model.validate_nodes_and_infer_types()
