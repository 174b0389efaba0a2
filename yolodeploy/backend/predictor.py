"""An opened artifact: what it takes, what it returns, and what it ran on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, get_args

from yolodeploy.errors import StepFailed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Outputs: TypeAlias = "Mapping[str, NDArray[np.float32]]"  # what a model returns, by name
OUTPUT, PROTOTYPES = (
    "output",
    "prototypes",
)  # the name of the main output, and of the others that there are

ROWS = 300  # of an output that ends in rows: the best pairs of an anchor and a class
Layout = Literal["anchors", "rows"]  # of a predictor's output, see `Predictor`


@dataclass(frozen=True)
class Runtime:
    """The runtime of a predictor, for the report.

    `timing` is False where its speed says nothing about the target; then no check uses it. `host` is the machine on which it ran,
    "" for this one.
    """

    name: str
    version: str
    device: str
    threads: int
    note: str = ""
    timing: bool = True
    host: str = ""


class Predictor(Protocol):
    """An opened artifact, ready to run.

    Takes float32 images `[N, channels, H, W]` in 0..1, RGB or grey as the model was trained, and returns float32 arrays by
    name, or one array alone for a task that has one output, see `named_outputs`. `OUTPUT` has per anchor and image
    `[N, 4 + classes + extras, anchors]`: centre x, centre y, width, height in input pixels, one score in 0..1 per class, and
    what the task adds:

    * segment: 32 mask coefficients; `PROTOTYPES` has the maps `[N, 32, H / 4, W / 4]` that they weight;
    * pose: x and y of each keypoint in input pixels, each followed by its visibility in 0..1 if the model has that;
    * obb: the angle in radians by which the box is turned.

    For classify, `OUTPUT` has the probabilities `[N, classes]`.

    One thread at a time calls it, but other copies of the artifact, opened in the same process, may run meanwhile. One
    that is fastest with several images at a time says with how many in an attribute `batch`, see `batch_of`.

    An artifact of a one-to-one head may select the best pairs of an anchor and a class itself. Its predictor has the
    attribute `layout = "rows"` and returns as `OUTPUT` float32 `[N, k, 6 + extras]` with k = min(`ROWS`, anchors): left, top,
    right, bottom in input pixels (for obb centre x, centre y, width, height), score, class index, extras; best first.
    Without the attribute, it is "anchors".
    """

    runtime: Runtime

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32] | Outputs:
        """Run the artifact on a batch."""


def named_outputs(returned: NDArray[np.float32] | Outputs, names: Sequence[str]) -> Outputs:
    """What a predictor returned, by name; an array alone is the one output of its task. StepFailed for other names."""
    found = returned if isinstance(returned, Mapping) else {OUTPUT: returned}
    if sorted(found) != sorted(names):
        raise StepFailed(
            f"a predictor of a model for this task must return {_listed(names)}, and this one returned {_listed(found)}. "
            "Report it to the author of the plugin that opened it."
        )
    return {name: found[name] for name in names}


def _listed(names: Iterable[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def layout_of(predictor: object) -> Layout:
    """What a predictor returns: "anchors" unless its attribute `layout` says "rows"."""
    found: Layout = getattr(predictor, "layout", "anchors")
    if found not in get_args(Layout):
        raise ValueError(f"the layout {found!r} of a predictor must be `anchors` or `rows`")
    return found


def batch_of(predictor: object) -> int:
    """How many images a predictor wants at a time: its `batch`, 1 if it has none. It takes any number."""
    return int(getattr(predictor, "batch", 1))


class Server(Protocol):
    """An artifact opened for throughput; it works on `requests` batches of `batch` images at the same time."""

    batch: int
    requests: int

    def __call__(self, images: NDArray[np.float32], runs: int) -> float:
        """Run `[batch, channels, H, W]` images so many times; returns seconds until the last was done."""
