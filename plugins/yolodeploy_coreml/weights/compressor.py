"""Compressing the weights of a package, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from yolodeploy.compress import carry_layers, choose, read_layers
from yolodeploy.errors import PlanRefused
from yolodeploy.system import tree_bytes
from yolodeploy_coreml.mlpackage import PACKAGE, Editor, Encoded, is_quantized, read_package
from yolodeploy_coreml.params import Sparsify
from yolodeploy_coreml.weights.gptq import GroupedRounding, Moments, Rounding
from yolodeploy_coreml.weights.moments import moments
from yolodeploy_coreml.weights.schemes import Scheme
from yolodeploy_torch.model import threads

if TYPE_CHECKING:
    from yolodeploy.backend import Artifact, Context
    from yolodeploy_coreml.params import WeightParams


_SHARE = 0.5  # of the progress bar, for the images


@dataclass(frozen=True)
class CompressedLayer:
    """A layer in compressed form, and what reports call that form.

    With calibration, `shift` `[out]` is what its bias needs and `noise` what it adds to the output.
    """

    encoded: Encoded
    label: str
    shift: NDArray[np.float32] | None = None
    noise: float = math.nan


class Compressor:
    """A package, its layers that may be compressed, and what calibration images say of them.

    `names` are the layers, in order of execution, whose weights are floating point now and that
    `keep_float` does not select. Sparse ones are among them, unless the step makes layers sparse itself.
    Raises PlanRefused for a selector that matches nothing, for sparse layers in a program for an
    older iOS than 18, and if `sparsify` meets layers that are compressed already.
    """

    def __init__(self, artifact: Artifact, params: WeightParams, context: Context) -> None:
        self._folder = artifact.path
        self._context = context
        self._calibrated = params.calibrated
        self._named = read_layers(artifact.path)
        self.editor = Editor(read_package(artifact.path / PACKAGE), self._named)
        sparse = {} if isinstance(params, Sparsify) else self.editor.sparse
        self._layers = {**self.editor.layers, **sparse}
        kept = choose(params.keep_float, self.editor.parts, "keep_float")
        self.names = tuple(n for n in self.editor.parts if n in self._layers and n not in kept)
        compressed = [name for name in self.editor.compressed if name not in kept]
        to_compress_again = sparse.keys() & set(self.names)
        if to_compress_again and not self.editor.is_ios18:
            raise PlanRefused(
                f"the weights of {min(to_compress_again)} are sparse, and before iOS 18 Core ML cannot store "
                'sparse weights in fewer bits. Write os: "18", or remove `sparsify` or the step after it.'
            )
        if compressed and isinstance(params, Sparsify):
            raise PlanRefused(
                f"the weights of {compressed[0]} are compressed already; only float ones can become "
                "sparse. Write the step that makes them sparse first, and once."
            )
        if not self.names:
            raise PlanRefused("no float weights are left to compress. Remove the step.")
        if self._calibrated and is_quantized(self.editor.block):
            raise PlanRefused(
                "`compensate` and `optimize` need gradients, and none pass through a model after "
                "`quantize`. Leave them out, or leave out `quantize`."
            )

    @cached_property
    def _moments(self) -> Mapping[str, Moments]:
        context, view = self._context, self._context.data["calibration"].to_calibrate()

        def images() -> Iterator[NDArray[np.float32]]:
            for number, image in enumerate(view.letterboxed(context.imgsz)):
                text = f"{number}/{len(view)} calibration images"
                context.progress(_SHARE * number / len(view), text)
                yield image

        package = read_package(self._folder / PACKAGE)
        layers = [self._layers[name] for name in self.names]
        return moments(package, layers, images(), context.seed)

    @property
    def size(self) -> int:
        """Bytes of the package as it is."""
        return tree_bytes(self._folder / PACKAGE)

    def weight(self, name: str) -> NDArray[Any]:
        """A layer's weights `[out, in, height, width]`."""
        return self.editor.weight(self._layers[name])

    def current(self, name: str) -> Encoded:
        """A layer's weights as they are stored now."""
        return self.editor.encoded(self._layers[name])

    def variants(self, name: str, schemes: Iterable[Scheme]) -> Iterator[CompressedLayer]:
        """Compress one layer by each of the schemes."""
        weight, kept = self.weight(name), self.editor.kept(self._layers[name])
        rounding = None
        with threads(1):
            if self._calibrated:
                rows = torch.from_numpy(weight.reshape(len(weight), -1).astype(np.float32))
                known = self._moments[name]
                grouped = known.second.dim() > 2
                rounding = (GroupedRounding if grouped else Rounding)(rows, known)
            for scheme in schemes:
                encoded, dense = scheme.compress(weight, rounding, kept)
                if rounding is None:
                    yield CompressedLayer(encoded, scheme.label)
                else:
                    shift, noise = rounding.shift(dense).numpy(), rounding.noise(dense)
                    yield CompressedLayer(encoded, scheme.label, shift, noise)

    def compressed(
        self, schemes: Mapping[str, Scheme], size: Callable[[Encoded], int] = Encoded.size
    ) -> dict[str, CompressedLayer]:
        """Compress each layer by its scheme; leaves out layers that get no smaller, as `size` tells.

        Raises PlanRefused if none gets smaller.
        """
        found = {}
        for number, (name, scheme) in enumerate(schemes.items()):
            (layer,) = self.variants(name, [scheme])
            if size(layer.encoded) < size(self.current(name)):
                found[name] = layer
            self.progress(number, len(schemes))
        if not found:
            raise PlanRefused("no float weights are left that this makes smaller. Remove the step.")
        return found

    def progress(self, done: int, total: int) -> None:
        """Report how many layers are done, after the images if there were any."""
        start = _SHARE if self._calibrated else 0.0
        self._context.progress(start + (1 - start) * done / total, f"{done}/{total} layers")

    def write(self, layers: Mapping[str, CompressedLayer], text: str, folder: Path) -> None:
        """Write the package with these layers compressed into `folder`, replacing what is there.

        `text` is added to the description of the model.
        """
        biases = {}
        for name, layer in layers.items():
            bias = self.editor.bias(self._layers[name])
            if bias is not None and layer.shift is not None:
                biases[name] = (bias.astype(np.float32) + layer.shift).astype(bias.dtype)
        encoded = {name: layer.encoded for name, layer in layers.items()}
        editor = Editor(read_package(self._folder / PACKAGE), self._named)
        editor.save(encoded, biases, text, folder / PACKAGE)
        carry_layers(self._folder, folder)
