"""Images per second: with as many requests in flight as the runtime finds best, on all processors.

What a box that serves several cameras gets, where a latency is what one camera waits for. Artifact and reference
take turns in windows, so that a drift of the machine's speed affects both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from yolodeploy.worker.noise import Ratio, ratio_of
from yolodeploy.worker.run_delay import RunDelay

WINDOWS = 12  # of each: enough for the interval of the sign test
WINDOW = 0.1  # seconds, at least


class Server(Protocol):
    """A model that works on several requests at the same time, see `backend.Server`."""

    @property
    def batch(self) -> int:
        """Images of a request."""

    @property
    def requests(self) -> int:
        """Requests in flight."""

    def __call__(self, images: Any, runs: int) -> float:
        """Run a batch so many times; returns seconds."""


@dataclass(frozen=True)
class Throughput:
    """Images per second of an artifact, `rate`, and of its reference; `ratio` is the one over the other.

    The figures are medians over windows with their intervals. `requests` are the artifact's in flight, of `batch`
    images each, on `threads` threads, which waited for a processor for the share `waited` of the time (None: not
    known).
    """

    rate: Ratio
    reference: Ratio
    ratio: Ratio
    batch: int
    requests: int
    threads: int
    waited: float | None


def measure_throughput(server: Server, reference: Server, tensor: Any, threads: int) -> Throughput:
    """Run copies of an image `[1, channels, H, W]` through both, in turns."""
    loads = [_Load(server, tensor), _Load(reference, tensor)]
    rates: tuple[list[float], list[float]] = [], []
    with RunDelay(threads) as delay:
        for number in range(WINDOWS):
            for which in (number % 2, 1 - number % 2):
                rates[which].append(loads[which].rate())
    ours, theirs = rates
    return Throughput(
        rate=_median(ours),
        reference=_median(theirs),
        ratio=ratio_of(ours, theirs),
        batch=server.batch,
        requests=server.requests,
        threads=threads,
        waited=delay.share,
    )


def _median(rates: Sequence[float]) -> Ratio:
    return ratio_of(rates, [1.0] * len(rates))


class _Load:
    """A full batch, and how many runs of it fill a window."""

    def __init__(self, server: Server, tensor: Any) -> None:
        self._server, self._images = server, tensor.repeat(server.batch, 0)
        server(self._images, server.requests)  # wakes threads and caches
        seconds = server(self._images, server.requests)
        # Whole rounds of requests, or some processors would wait at the end of a window for the others.
        self._runs = server.requests * max(1, math.ceil(WINDOW / seconds))

    def rate(self) -> float:
        """Images per second in one window."""
        return self._runs * self._server.batch / self._server(self._images, self._runs)
