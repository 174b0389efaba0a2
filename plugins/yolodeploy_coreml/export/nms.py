"""A package that Vision reads as recognised objects: the network, then Core ML's own NMS.

Vision turns a model whose last stage is a NonMaximumSuppression, with outputs `confidence`
[boxes, classes] and `coordinates` [boxes, 4] (centre x, centre y, width, height in 0..1), into
VNRecognizedObjectObservation. Messages: `NonMaximumSuppression.proto` of coremltools.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from yolodeploy.system import ImageShape
from yolodeploy_coreml.mlpackage import RAW_OUTPUTS, messages

if TYPE_CHECKING:
    from yolodeploy_coreml.params import CoreMLExport

THRESHOLDS = ("iouThreshold", "confidenceThreshold")
# From an ML program, Core ML's NMS returned wrong or no boxes on devices unless the number of
# classes was a multiple of 80: github.com/ultralytics/ultralytics/issues/22309, where padding
# with classes that never score was the fix. It can be checked on Apple's systems only.
_CLASS_MULTIPLE = 80


class SplitHead(nn.Module):
    """A detector whose output is what the NMS stage takes.

    Maps [1, channels, height, width] in 0..1 to scores [A, padded classes] and boxes [A, 4], xywh in 0..1.
    """

    def __init__(self, detector: nn.Module, imgsz: ImageShape, classes: int) -> None:
        super().__init__()
        self.detector = detector
        # a number for a square, as ever; a tensor would change the bytes of the program
        size = [float(imgsz.width), float(imgsz.height)] * 2
        square = imgsz.height == imgsz.width
        self.size: float | Tensor = imgsz.width if square else torch.tensor(size)
        self.padding = -classes % _CLASS_MULTIPLE

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Run the detector and split its head output."""
        rows = self.detector(images)[0].transpose(0, 1)
        return functional.pad(rows[:, 4:], (0, self.padding)), rows[:, :4] / self.size


def with_nms(detector: Any, names: Sequence[str], params: CoreMLExport) -> Any:
    """Return a pipeline `Model` message: `detector` (a `Model` message), then suppression."""
    pipeline = messages().Model()
    pipeline.specificationVersion = detector.specificationVersion
    suppression = _suppression(detector, names, params)
    pipeline.pipeline.names.extend(["detector", "nms"])
    pipeline.pipeline.models.extend([detector, suppression])
    description = pipeline.description
    description.input.extend(detector.description.input)
    for name, default in zip(THRESHOLDS, (params.iou, params.confidence), strict=True):
        threshold = description.input.add(name=name)
        threshold.shortDescription = f"Overrides the default, {default}"
        threshold.type.doubleType.SetInParent()
        threshold.type.isOptional = True
    description.output.extend(suppression.description.output)
    return pipeline


def _suppression(detector: Any, names: Sequence[str], params: CoreMLExport) -> Any:
    model = messages().Model()
    model.specificationVersion = detector.specificationVersion
    outputs = {feature.name: feature for feature in detector.description.output}
    model.description.input.extend(outputs[name] for name in RAW_OUTPUTS)
    columns = outputs[RAW_OUTPUTS[0]].type.multiArrayType.shape[-1]
    _add_output(model, "confidence", columns, "Per box, the score of each class")
    _add_output(model, "coordinates", 4, "Per box, x, y, width, height relative to the image")
    nms = model.nonMaximumSuppression
    nms.confidenceInputFeatureName, nms.coordinatesInputFeatureName = RAW_OUTPUTS
    nms.confidenceOutputFeatureName = "confidence"
    nms.coordinatesOutputFeatureName = "coordinates"
    nms.iouThresholdInputFeatureName, nms.confidenceThresholdInputFeatureName = THRESHOLDS
    nms.iouThreshold, nms.confidenceThreshold = params.iou, params.confidence
    nms.pickTop.perClass = True
    unused = [f"unused-{index}" for index in range(len(names), columns)]
    nms.stringClassLabels.vector.extend([*names, *unused])
    return model


def _add_output(model: Any, name: str, columns: int, text: str) -> None:
    feature = model.description.output.add(name=name, shortDescription=text)
    array = feature.type.multiArrayType
    array.dataType = array.FLOAT32
    array.shapeRange.sizeRanges.add(lowerBound=0, upperBound=-1)
    array.shapeRange.sizeRanges.add(lowerBound=columns, upperBound=columns)
