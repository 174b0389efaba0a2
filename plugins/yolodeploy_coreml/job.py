"""A package whose weights a step is about to compress."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from yolodeploy.errors import PlanRefused
from yolodeploy_coreml import encodings
from yolodeploy_coreml.calibrate import moments
from yolodeploy_coreml.compensate import Moments, Rounding
from yolodeploy_coreml.graph import block_of
from yolodeploy_coreml.package import PACKAGE, read_package, write_package
from yolodeploy_coreml.pairs import is_quantized
from yolodeploy_coreml.program import Editor, Encoded, floats
from yolodeploy_coreml.schemes import Scheme
from yolodeploy_torch.compute import threads
from yolodeploy_torch.structure import choose

if TYPE_CHECKING:
    from yolodeploy.backend import Artifact, Context
    from yolodeploy_coreml.params import WeightParams

_SHARE = 0.5  # of the progress bar, for the images


@dataclass(frozen=True)
class Form:
    """A layer in compressed form.

    With calibration, `shift` `[out]` is what its bias needs and `noise` what it adds to the output.
    """

    encoded: Encoded
    shift: NDArray[np.float32] | None = None
    noise: float = math.nan


class Job:
    """The package, the layers that may be compressed, and what calibration says of them.

    `free` are the layers, by name in order of execution, that are weights in floating point now
    and that nothing keeps so; of sparse ones, those of a step that can keep their zeros (`joint`).
    Raises PlanRefused for a selector that matches nothing, for sparse layers in a program for an
    older iOS than 18, and without `joint` for layers that are compressed already.
    """

    def __init__(
        self, artifact: Artifact, params: WeightParams, context: Context, *, joint: bool = True
    ) -> None:
        self._folder = artifact.path
        self._context = context
        self._calibrated = params.calibrated
        self.editor = Editor(read_package(artifact.path / PACKAGE))
        kept = choose(params.keep_float, self.editor.parts, "keep_float")
        sparse = self.editor.sparse if joint else {}
        self._layers = {**self.editor.layers, **sparse}
        self.free = tuple(n for n in self.editor.parts if n in self._layers and n not in kept)
        self._sparse = sparse.keys() & set(self.free)
        if self._sparse and not self.editor.is_ios18:
            raise PlanRefused(
                f"the weights of {min(self._sparse)} are sparse, and before iOS 18 Core ML has no "
                'form for sparse weights of fewer bits. Write os: "18", or remove `sparsify` or the '
                "step after it."
            )
        compressed = [n for n in self.editor.parts if n not in self._layers and n not in kept]
        if compressed and not joint:
            raise PlanRefused(
                f"the weights of {compressed[0]} are compressed already; only float ones can become "
                "sparse. Write the step that makes them sparse first, and once."
            )
        if not self.free:
            raise PlanRefused("no float weights are left to compress. Remove the step.")
        if self._calibrated and is_quantized(block_of(self.editor.spec)):
            raise PlanRefused(
                "after `quantize` no gradient passes, which `compensate` and `optimize` need. Leave them "
                "out, or leave out `quantize`."
            )

    @cached_property
    def _moments(self) -> Mapping[str, Moments]:
        view, progress = self._context.data["calibration"].to_calibrate(), self._context.progress

        def images() -> Any:
            for number, image in enumerate(view.letterboxed(self._context.imgsz)):
                progress(_SHARE * number / len(view), f"{number}/{len(view)} calibration images")
                yield image

        package = read_package(self._folder / PACKAGE)
        layers = [self._layers[name] for name in self.free]
        return moments(package, layers, images(), self._context.seed)

    @property
    def size(self) -> int:
        """Bytes of the package as it is."""
        files = (self._folder / PACKAGE).rglob("*")
        return sum(path.stat().st_size for path in files if path.is_file())

    def weight(self, name: str) -> NDArray[Any]:
        """A layer's weights `[out, in, height, width]`."""
        return self.editor.weight(self._layers[name])

    def current(self, name: str) -> Encoded:
        """A layer's weights as they are stored now."""
        kept = self._kept(name)
        if kept is None:
            return Encoded("const", {"val": floats(self.weight(name))})
        return encodings.sparse(self.weight(name), kept, ios18=True)

    def _kept(self, name: str) -> NDArray[np.bool_] | None:
        return self.editor.kept(self._layers[name]) if name in self._sparse else None

    def forms(self, name: str, schemes: Iterable[Scheme]) -> Iterator[Form]:
        """One layer by each of the schemes."""
        weight, kept = self.weight(name), self._kept(name)
        rounding = None
        with threads(1):
            if self._calibrated:
                rows = torch.from_numpy(weight.reshape(len(weight), -1).astype(np.float32))
                rounding = Rounding(rows, self._moments[name])
            for scheme in schemes:
                found = scheme(weight, rounding, kept)
                if rounding is None:
                    yield Form(found.encoded)
                else:
                    shift, noise = rounding.shift(found.dense), rounding.noise(found.dense)
                    yield Form(found.encoded, shift.numpy(), noise)

    def compressed(
        self, schemes: Mapping[str, Scheme], size: Callable[[Encoded], int] = Encoded.size
    ) -> dict[str, Form]:
        """The layers by one scheme each, without those that it would make larger by `size`.

        Raises PlanRefused if it would all.
        """
        found = {}
        for number, (name, scheme) in enumerate(schemes.items()):
            (form,) = self.forms(name, [scheme])
            if size(form.encoded) < size(self.current(name)):
                found[name] = form
            self.progress(number, len(schemes))
        if not found:
            raise PlanRefused("no float weights are left that this makes smaller. Remove the step.")
        return found

    def progress(self, done: int, total: int) -> None:
        """Report layers that are done, after the images if there were any."""
        start = _SHARE if self._calibrated else 0.0
        self._context.progress(start + (1 - start) * done / total, f"{done}/{total} layers")

    def write(self, forms: Mapping[str, Form], what: str, folder: Path) -> None:
        """Write the package with these layers compressed into `folder`, replacing what is there.

        `what` is added to the description of the model.
        """
        editor = Editor(read_package(self._folder / PACKAGE))
        weights = self._context.work / "weights"
        shutil.rmtree(weights, ignore_errors=True)
        weights.mkdir()
        encoded = {name: form.encoded for name, form in forms.items()}
        editor.write(encoded, self._biases(forms), weights)
        editor.spec.description.metadata.shortDescription += f", {what}"
        shutil.rmtree(folder / PACKAGE, ignore_errors=True)
        write_package(folder / PACKAGE, editor.spec, weights)

    def _biases(self, forms: Mapping[str, Form]) -> dict[str, NDArray[Any]]:
        changed = {}
        for name, form in forms.items():
            bias = self.editor.bias(self._layers[name])
            if bias is not None and form.shift is not None:
                changed[name] = (bias.astype(np.float32) + form.shift).astype(bias.dtype)
        return changed
