"""How an app feeds a package and reads it, as the package describes itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolodeploy.backend import Interface, Tensor
from yolodeploy.compress import read_layers
from yolodeploy.system import GREY, RGB, ImageShape
from yolodeploy_coreml.mlpackage.layers import block_of, ends_in_rows, stored_layers
from yolodeploy_coreml.mlpackage.package import PACKAGE, read_package, report_damage

OUTPUT = "output0"  # of a network alone
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
_OBJECTS = (
    "A VNCoreMLRequest gives VNRecognizedObjectObservation. Classes that are called unused-N "
    "only fill up the table and never score."
)


@report_damage("the saved program")
def read_interface(folder: Path) -> Interface:
    """Describe the package in `folder`: inputs, outputs, and how Vision returns them."""
    spec = read_package(folder / PACKAGE).spec
    description = spec.description
    outputs = tuple(_array(feature) for feature in description.output)
    suppression = spec.pipeline.models[-1].nonMaximumSuppression if len(outputs) > 1 else None
    use = _PLAIN if suppression is None else _OBJECTS
    if ends_in_rows(spec):
        use = _ROWS
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


def _array(feature: Any) -> Tensor:
    """One array output; -1 stands for a size that depends on the image."""
    array = feature.type.multiArrayType
    ranges = [(size.lowerBound, size.upperBound) for size in array.shapeRange.sizeRanges]
    varying = tuple(low if low == high else -1 for low, high in ranges)
    return Tensor(feature.name, tuple(array.shape) or varying, "float32", feature.shortDescription)
