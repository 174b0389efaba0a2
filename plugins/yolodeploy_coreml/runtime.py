"""Opening a package: Core ML itself on a Mac, the executor elsewhere."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from yolodeploy.backend import Predictor, Runtime, installed
from yolodeploy.errors import StepFailed
from yolodeploy_coreml import nms
from yolodeploy_coreml.executor import Program
from yolodeploy_coreml.package import Package, inner, read_package, reading
from yolodeploy_coreml.toolchain import coremltools
from yolodeploy_torch.compute import threads

Images = NDArray[np.float32]


def open_package(path: Path, threads: int) -> Predictor:
    """Open an .mlpackage; StepFailed if it is damaged or holds an unknown operation."""
    return (
        CoreMLPredictor(path, threads)
        if sys.platform == "darwin"
        else ExecutorPredictor(path, threads)
    )


class ExecutorPredictor:
    """Runs the saved program in our executor; see `yolodeploy_coreml.executor`.

    The app's image input holds 8-bit pixels, so the 0..1 images are brought to 0..255 and the
    file's own preprocessing is applied to them. An nms pipeline is run up to its
    suppression stage.
    """

    def __init__(self, path: Path, threads: int) -> None:
        package = read_package(path)
        self._head: Head = Head(package)
        self._program = Program(package)
        pipeline = package.spec.WhichOneof("Type") == "pipeline"
        suppression = "; its suppression stage was not run" if pipeline else ""
        self.runtime = Runtime(
            "yolodeploy MIL executor",
            installed("yolodeploy")["yolodeploy"],
            "CPU (torch)",
            threads,
            note="executes the saved program; does not reproduce the Neural Engine's arithmetic "
            f"or scheduling; latency here says nothing about a phone{suppression}",
            timing=False,
        )

    def __call__(self, images: Images) -> Images:
        """Run the batch image by image; see `yolodeploy.backend.Predictor`."""
        with threads(self.runtime.threads):
            return np.concatenate([self._one(image) for image in images])

    def _one(self, image: Images) -> Images:
        if image[None].shape != self._program.shape:
            raise StepFailed(f"the package takes {self._program.shape}, not {image[None].shape}.")
        outputs = self._program(torch.from_numpy(image)[None] * 255)
        return self._head(outputs)


class CoreMLPredictor:
    """Runs the package in Core ML (macOS only).

    Written from the API reference of coremltools ("Model Prediction"); no test covers it off
    a Mac. Images are rounded to the 8-bit pixels that Core ML takes; it chooses its threads.
    """

    def __init__(self, path: Path, threads: int) -> None:
        ct = coremltools()
        package = read_package(path)
        self._head: Head = Head(package)
        units = ct.ComputeUnit.ALL
        # Of a pipeline, the network alone: suppression is the same code for every backend.
        self._model: Any = ct.models.MLModel(
            ct.proto.Model_pb2.Model.FromString(inner(package.spec).SerializeToString()),
            weights_dir=str(package.weights),
            compute_units=units,
        )
        version = f"macOS {installed_macos()}, coremltools {ct.__version__}"
        self.runtime = Runtime(
            "Core ML", version, f"compute units: {units.name}", threads, note="Apple's runtime"
        )

    def __call__(self, images: Images) -> Images:
        """Run the batch image by image; see `yolodeploy.backend.Predictor`."""
        return np.concatenate([self._one(image) for image in images])

    def _one(self, image: Images) -> Images:
        from PIL import Image

        pixels = (image.transpose(1, 2, 0) * 255).round().clip(0, 255).astype(np.uint8)
        outputs = self._model.predict({"image": Image.fromarray(pixels)})
        return self._head({name: torch.from_numpy(value) for name, value in outputs.items()})


class Head:
    """Turns a program's outputs into the raw head output [1, 4 + classes, anchors]."""

    @reading("the description of the saved program")
    def __init__(self, package: Package) -> None:
        self._names = [feature.name for feature in inner(package.spec).description.output]
        self._side: int = package.spec.description.input[0].type.imageType.width
        self._classes = len(class_names(package.spec))

    def __call__(self, outputs: dict[str, torch.Tensor]) -> Images:
        """Join the outputs of a program by name."""
        return self.joined(outputs).numpy()

    @reading("the output of the saved program")
    def joined(self, outputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """The same as a tensor that keeps its gradient."""
        if len(self._names) == 1:
            return outputs[self._names[0]]
        confidence, coordinates = (outputs[name] for name in nms.RAW_OUTPUTS)
        return nms.joined_head(confidence, coordinates, self._side, self._classes)


def class_names(spec: Any) -> tuple[str, ...]:
    """Class names that the export step wrote into the metadata."""
    return tuple(ast.literal_eval(spec.description.metadata.userDefined["names"]).values())


def installed_macos() -> str:
    """Version of macOS that this process runs on."""
    import platform

    return platform.mac_ver()[0]
