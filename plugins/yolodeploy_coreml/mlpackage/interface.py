"""How an app feeds a package and reads it, as the package describes itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolodeploy.backend import Interface, Tensor
from yolodeploy.compress import read_layers
from yolodeploy.system import GREY, RGB, ImageShape
from yolodeploy_coreml.mlpackage.layers import (
    block_of,
    ends_in_rows,
    labels_of,
    stored_layers,
)
from yolodeploy_coreml.mlpackage.package import PACKAGE, read_package, report_damage

OUTPUT, SECOND = (
    "output0",
    "output1",
)  # of a network alone: the main output, and prototypes of masks
LABEL, LABELLED = "classLabel", "classLabel_probs"  # of a classifier, as coremltools names them
RAW_OUTPUTS = (
    "raw_confidence",
    "raw_coordinates",
)  # of a network with a suppression stage behind it
# The first iOS that reads each version of the specification (Model.proto of coremltools).
_IOS = {6: 15, 7: 16, 8: 17, 9: 18, 10: 26}
_PLAIN = (
    "Pass a CVPixelBuffer to MLModel, or a VNCoreMLRequest and read its "
    "VNCoreMLFeatureValueObservation. Non-maximum suppression is the app's."
)
_ROWS = (
    "Pass a CVPixelBuffer to MLModel, or a VNCoreMLRequest and read its VNCoreMLFeatureValueObservation. "
    "The output holds the best boxes, best first: drop those below a score. It needs no non-maximum suppression."
)
_CLASSES = (
    "A VNCoreMLRequest gives VNClassificationObservation, best class first. Set its imageCropAndScaleOption to "
    "centerCrop, or give it the cropped image."
)
_OBJECTS = (
    "A VNCoreMLRequest gives VNRecognizedObjectObservation. Classes that are called unused-N "
    "only fill up the table and never score."
)


@report_damage("the saved program")
def read_interface(folder: Path) -> Interface:
    """Describe the package in `folder`: inputs, outputs, and how Vision returns them."""
    spec = read_package(folder / PACKAGE).spec
    description = spec.description
    arrays = (it for it in description.output if it.type.WhichOneof("Type") == "multiArrayType")
    outputs = tuple(_array(feature) for feature in arrays)
    stages = spec.pipeline.models
    suppression = stages[-1].nonMaximumSuppression if stages else None
    use = _PLAIN if suppression is None else _OBJECTS
    if ends_in_rows(spec):
        use = _ROWS
    if labels := labels_of(spec):
        use, outputs = _CLASSES, _labelled(description.output, len(labels))
    needs = f"Needs iOS {_IOS[spec.specificationVersion]} or newer. "
    return Interface(
        entry=PACKAGE,
        inputs=tuple(_input(feature) for feature in description.input),
        outputs=outputs,
        scale=1.0,
        note=needs + use,
        confidence=suppression and suppression.confidenceThreshold,
        iou=suppression and suppression.iouThreshold,
        layers=stored_layers(block_of(spec), read_layers(folder)),
    )


def _input(feature: Any) -> Tensor:
    if feature.type.WhichOneof("Type") == "imageType":
        image = feature.type.imageType
        channels = GREY if image.colorSpace == image.GRAYSCALE else RGB
        shape = ImageShape(image.height, image.width, channels).batch
        return Tensor(feature.name, shape, "uint8", feature.shortDescription)
    return Tensor(feature.name, (), "float64", f"optional: {feature.shortDescription}")


def _labelled(features: Any, classes: int) -> tuple[Tensor, ...]:
    """The outputs of a classifier: the probabilities, a dictionary, and the most probable class."""
    said = {feature.name: feature.shortDescription for feature in features}
    return (
        Tensor(LABELLED, (classes,), "float64", said[LABELLED]),
        Tensor(LABEL, (), "string", said[LABEL]),
    )


def _array(feature: Any) -> Tensor:
    """One array output; -1 stands for a size that depends on the image."""
    array = feature.type.multiArrayType
    ranges = [(size.lowerBound, size.upperBound) for size in array.shapeRange.sizeRanges]
    varying = tuple(low if low == high else -1 for low, high in ranges)
    return Tensor(feature.name, tuple(array.shape) or varying, "float32", feature.shortDescription)
