"""Opening a package: Core ML itself on a Mac, the executor elsewhere."""

from __future__ import annotations

import ast
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yolodeploy.backend import Layout, Predictor, Runtime
from yolodeploy.errors import StepFailed
from yolodeploy.system import GREY, installed
from yolodeploy_coreml.mlpackage import (
    RAW_OUTPUTS,
    Package,
    before_rows,
    block_of,
    ends_in_rows,
    inner,
    read_package,
    report_damage,
)
from yolodeploy_coreml.runtime.executor import Program
from yolodeploy_coreml.toolchain import coremltools
from yolodeploy_torch.model import threads

Images = NDArray[np.float32]


def open_package(path: Path, threads: int) -> Predictor:
    """Open an .mlpackage; StepFailed if it is damaged or holds an unknown operation."""
    predictor = CoreMLPredictor if sys.platform == "darwin" else ExecutorPredictor
    return predictor(path, threads)


class ExecutorPredictor:
    """Runs the saved program in `executor.Program`.

    The app's image input holds 8-bit pixels, so the 0..1 images are scaled to 0..255 before the
    file's own preprocessing. An nms pipeline is run up to its suppression stage. With `raw`, a program
    that ends in rows returns the anchors from which it chooses: so two programs can be compared number by
    number, where a small change would move whole rows.
    """

    def __init__(self, path: Path, threads: int, *, raw: bool = False) -> None:
        package = read_package(path)
        self._head: Head = Head(package, raw=raw)
        self._program = Program(package, self._head.reads)
        self.layout: Layout = self._head.layout
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
        return self._head(self._program(torch.from_numpy(image)[None] * 255)).numpy()


class CoreMLPredictor:
    """Runs the package in Core ML (macOS only).

    Written from the API reference of coremltools ("Model Prediction"); no test covers it off
    a Mac. Images are rounded to the 8-bit pixels that Core ML takes; it chooses its threads.
    """

    def __init__(self, path: Path, threads: int) -> None:
        ct = coremltools()
        package = read_package(path)
        self._head: Head = Head(package)
        self.layout: Layout = self._head.layout
        units = ct.ComputeUnit.ALL
        # A pipeline's suppression stage is left out: every backend is decoded by the same code.
        self._model: Any = ct.models.MLModel(
            ct.proto.Model_pb2.Model.FromString(inner(package.spec).SerializeToString()),
            weights_dir=str(package.weights),
            compute_units=units,
        )
        version = f"macOS {platform.mac_ver()[0]}, coremltools {ct.__version__}"
        self.runtime = Runtime(
            "Core ML", version, f"compute units: {units.name}", threads, note="Apple's runtime"
        )

    def __call__(self, images: Images) -> Images:
        """Run the batch image by image; see `yolodeploy.backend.Predictor`."""
        return np.concatenate([self._one(image) for image in images])

    def _one(self, image: Images) -> Images:
        from PIL import Image

        pixels = (image.transpose(1, 2, 0) * 255).round().clip(0, 255).astype(np.uint8)
        outputs = self._model.predict(
            {"image": Image.fromarray(pixels[..., 0] if pixels.shape[2] == GREY else pixels)}
        )
        return self._head({name: torch.from_numpy(v) for name, v in outputs.items()}).numpy()


class Head:
    """Turns a program's outputs into the output of a predictor, see `yolodeploy.backend.Predictor`.

    `layout` says which of the two it is, and `reads` names the values that it takes if these are not the
    program's outputs: with `raw`, those from which a program that ends in rows chooses.
    """

    @report_damage("the description of the saved program")
    def __init__(self, package: Package, *, raw: bool = False) -> None:
        description = package.spec.description
        self._names = [feature.name for feature in inner(package.spec).description.output]
        image = description.input[0].type.imageType
        self._size = torch.tensor([image.width, image.height] * 2)
        self._classes = len(ast.literal_eval(description.metadata.userDefined["names"]).values())
        rows = ends_in_rows(package.spec)
        self.reads = before_rows(block_of(package.spec)) if rows and raw else ()
        self.layout: Layout = "rows" if rows and not raw else "anchors"

    @report_damage("the output of the saved program")
    def __call__(self, outputs: dict[str, Tensor]) -> Tensor:
        """Join the outputs of a program by name; the result keeps its gradient."""
        if self.reads:
            corners, scores = (outputs[name] for name in self.reads)
            low, high = corners[:, :2], corners[:, 2:]
            return torch.cat(((low + high) / 2, high - low, scores), 1)
        if len(self._names) == 1:
            return outputs[self._names[0]]
        confidence, coordinates = (outputs[name] for name in RAW_OUTPUTS)
        rows = torch.cat((coordinates * self._size, confidence[:, : self._classes]), 1)
        return rows.transpose(0, 1)[None]
