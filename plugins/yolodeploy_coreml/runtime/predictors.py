"""Opening a package: Core ML itself on a Mac, the executor elsewhere."""

from __future__ import annotations

import ast
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yolodeploy.backend import OUTPUT, PROTOTYPES, Layout, Outputs, Predictor, Remote, Runtime
from yolodeploy.errors import StepFailed
from yolodeploy.system import GREY, installed
from yolodeploy_coreml.mlpackage import (
    LABELLED,
    RAW_OUTPUTS,
    SECOND,
    Package,
    before_rows,
    block_of,
    ends_in_rows,
    inner,
    labels_of,
    read_package,
    report_damage,
    results_of,
)
from yolodeploy_coreml.mlpackage import OUTPUT as PLAIN
from yolodeploy_coreml.runtime.executor import Program
from yolodeploy_coreml.toolchain import coremltools
from yolodeploy_torch.model import threads

Images = NDArray[np.float32]
Tensors = dict[str, Tensor]


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

    def __call__(self, images: Images) -> Images | Outputs:
        """Run the batch image by image; see `yolodeploy.backend.Predictor`."""
        with threads(self.runtime.threads):
            return _joined([self._one(image) for image in images])

    def _one(self, image: Images) -> Tensors:
        if image[None].shape != self._program.shape:
            raise StepFailed(f"the package takes {self._program.shape}, not {image[None].shape}.")
        return self._head(self._program(torch.from_numpy(image)[None] * 255))


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

    def __call__(self, images: Images) -> Images | Outputs:
        """Run the batch image by image; see `yolodeploy.backend.Predictor`."""
        return _joined([self._one(image) for image in images])

    def _one(self, image: Images) -> Tensors:
        from PIL import Image

        pixels = (image.transpose(1, 2, 0) * 255).round().clip(0, 255).astype(np.uint8)
        outputs = self._model.predict(
            {"image": Image.fromarray(pixels[..., 0] if pixels.shape[2] == GREY else pixels)}
        )
        return self._head(self._head.tensors(outputs))


def remote(path: Path) -> Remote:
    """How a Mac runs an .mlpackage; see `worker`. StepFailed if it is damaged."""
    package = read_package(path)
    head = Head(package)
    names, shapes = _returned(package)
    labels = [str(label) for label in labels_of(package.spec)]

    def of_image(found: Mapping[str, NDArray[np.float32]], place: int) -> Tensors:
        ours = {name: torch.from_numpy(each[place]) for name, each in found.items()}
        return head({head.reads[0]: ours[LABELLED][None]} if labels else ours)

    def finish(found: Mapping[str, NDArray[np.float32]]) -> Images | Outputs:
        return _joined([of_image(found, place) for place in range(len(found[names[0]]))])

    return Remote(
        outputs=tuple(names),
        finish=finish,
        options={"package": path.name, "input": "image", "outputs": names, "labels": labels},
        layout=head.layout,
        note="Apple's runtime",
        shapes=lambda: shapes,
    )


def _returned(package: Package) -> tuple[list[str], list[tuple[int, ...]]]:
    """The outputs of a program that hold numbers, and their shapes."""
    if labels := labels_of(package.spec):
        return [LABELLED], [(len(labels),)]
    features = inner(package.spec).description.output
    shapes = [tuple(map(int, feature.type.multiArrayType.shape)) for feature in features]
    return [feature.name for feature in features], shapes


def _joined(found: list[Tensors]) -> Images | Outputs:
    """What a predictor returns for several images: an array, or a mapping where there are several outputs."""
    arrays = {name: torch.cat([each[name] for each in found]).numpy() for name in found[0]}
    return arrays if len(arrays) > 1 else arrays[OUTPUT]


class Head:
    """Turns a program's outputs into those of a predictor, see `yolodeploy.backend.Predictor`.

    `task`, `classes` (their number) and `kpt_shape` are those of the model, `size` is width and height of the image,
    twice. `layout` says how the main output is laid out, and `reads` names the values that it takes
    if these are not the program's outputs: the probabilities of a classifier, and with `raw` those from which a program
    that ends in rows chooses.
    """

    @report_damage("the description of the saved program")
    def __init__(self, package: Package, *, raw: bool = False) -> None:
        description = package.spec.description
        self._names = [feature.name for feature in inner(package.spec).description.output]
        image = description.input[0].type.imageType
        self.size = torch.tensor([image.width, image.height] * 2)
        said, block = description.metadata.userDefined, block_of(package.spec)
        self.classes = len(ast.literal_eval(said["names"]).values())
        self.task = str(said["task"])
        count, numbers = ast.literal_eval(said.get("kpt_shape", "[0, 0]"))
        self.kpt_shape = int(count), int(numbers)
        rows = ends_in_rows(package.spec)
        self._behind = [SECOND] if SECOND in self._names else []
        self._chosen = before_rows(block) if rows and raw else ()
        self._labels = [str(label) for label in labels_of(package.spec)]
        self.reads = (*self._chosen, *self._behind) if self._chosen else ()
        if self._labels:
            self.reads = results_of(block)
        self.layout: Layout = "rows" if rows and not raw else "anchors"

    @report_damage("the output of the saved program")
    def __call__(self, outputs: Tensors) -> Tensors:
        """Join the outputs of a program by name; the results keep their gradients."""
        found = {OUTPUT: self._main(outputs)}
        if self._behind:
            found[PROTOTYPES] = outputs[SECOND]
        return found

    def tensors(self, outputs: Mapping[str, Any]) -> Tensors:
        """What Core ML returned; of a classifier, a mapping from class names to probabilities becomes a tensor."""
        if not self._labels:
            return {name: torch.from_numpy(value) for name, value in outputs.items()}
        shares = outputs[LABELLED]
        numbers = [float(shares[label]) for label in self._labels]
        return {self.reads[0]: torch.tensor([numbers], dtype=torch.float32)}

    def _main(self, outputs: Tensors) -> Tensor:
        if self._labels:
            return outputs[self.reads[0]]
        if self._chosen:
            boxes, scores, *extras = (outputs[name] for name in self._chosen)
            if self.task != "obb":  # whose rows have centre and size too
                low, high = boxes[:, :2], boxes[:, 2:]
                boxes = torch.cat(((low + high) / 2, high - low), 1)
            return torch.cat((boxes, scores, *extras), 1)
        if self._names[0] not in RAW_OUTPUTS:
            return outputs[PLAIN]
        confidence, coordinates = (outputs[name] for name in RAW_OUTPUTS)
        rows = torch.cat((coordinates * self.size, confidence[:, : self.classes]), 1)
        return rows.transpose(0, 1)[None]
