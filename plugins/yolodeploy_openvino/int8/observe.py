"""Running parts of a float model on images, for what lies inside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy_openvino.toolchain import openvino


def observe(
    outputs: Sequence[Any],
    parameters: Sequence[Any],
    images: Iterable[NDArray[np.float32]],
    threads: int,
) -> Iterator[list[NDArray[np.float32]]]:
    """The values of `outputs` for each image; `parameters` are the inputs of their graph.

    They hold until the next image.
    """
    ov = openvino()
    model = ov.Model([ov.opset13.result(output) for output in outputs], list(parameters))
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    request = ov.Core().compile_model(model, "CPU", config).create_infer_request()
    for image in images:
        request.infer([image], share_inputs=True)
        yield [request.get_output_tensor(port).data for port in range(len(outputs))]
