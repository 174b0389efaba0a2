"""Whether what came back from a host is what an artifact returns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from yolodeploy.errors import HostProblem

if TYPE_CHECKING:
    from yolodeploy.backend import Remote

Floats = NDArray[np.float32]


class Expected:
    """The outputs of an artifact on a host."""

    def __init__(self, remote: Remote, host: str) -> None:
        self._remote, self._host = remote, host

    def fit(self, shapes: Mapping[str, tuple[int, ...]], count: int) -> None:
        """Raise HostProblem unless these are all outputs, for so many images, in the shapes that the artifact has."""
        if list(shapes) == list(self._remote.outputs):
            sizes = all(min(s, default=0) > 0 and s[0] == count for s in shapes.values())
            if sizes and self._shapes in (None, [shape[1:] for shape in shapes.values()]):
                return
        images = f"{count} image{'s' * (count != 1)}"
        raise self.refused(f"the answer has other outputs than {self._wanted()} of {images}")

    def size(self, count: int) -> int | None:
        """The bytes of the outputs of so many images; None if the shapes are not known."""
        if self._shapes is None:
            return None
        return 4 * count * sum(map(math.prod, self._shapes))

    def finite(self, arrays: Mapping[str, Floats]) -> None:
        """Raise HostProblem for numbers that are not finite."""
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise self.refused(
                    f"the output {name} has values that are not finite (its arithmetic overflows, or it is broken)"
                )

    def refused(self, what: str) -> HostProblem:
        """What is wrong, with the host named."""
        return HostProblem(
            f"host `{self._host}`: {what}, so nothing that it said is used. Run again."
        )

    @cached_property
    def _shapes(self) -> Sequence[tuple[int, ...]] | None:
        found = self._remote.shapes() if self._remote.shapes else None
        return found if found is None else list(found)

    def _wanted(self) -> str:
        sides = [f" {list(shape)}" for shape in self._shapes or ()]
        pairs = zip(self._remote.outputs, sides or [""] * len(self._remote.outputs), strict=False)
        return ", ".join(f"{name}{side}" for name, side in pairs)
