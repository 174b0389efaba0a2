"""This machine: artifacts are opened in this process, and timed in one of their own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from yolodeploy.backend import Hardware
from yolodeploy.hosts.host import Timed
from yolodeploy.hosts.timing import Request, time_apart
from yolodeploy.system import conditions, described, threads

if TYPE_CHECKING:
    from yolodeploy.backend import Artifact, Backend, Predictor, Target
    from yolodeploy.worker.turns import Timing


class LocalHost:
    """The machine on which yolodeploy runs."""

    name = claims = untimed = ""

    @property
    def processors(self) -> int:
        """Those that this process may use."""
        return threads()

    def hardware(self, backend: Backend) -> Hardware:  # noqa: ARG002 - the same for all
        """This machine."""
        return _hardware()

    def conditions(self, backend: Backend) -> Mapping[str, Any]:  # noqa: ARG002 - its versions are in the plan's
        """This machine and the libraries that read images."""
        return conditions()

    def open(self, backend: Backend, artifact: Artifact, target: Target, threads: int) -> Predictor:
        """Open an artifact in this process."""
        return backend.open(artifact, target, threads)

    def time(self, timed: Timed) -> Timing:
        """Time an artifact in a fresh process."""
        device = timed.target.device.name
        request = Request(
            backend=timed.backend.NAME,
            device=device,
            os_version=timed.target.os_version,
            gpu=timed.target.gpu,
            brief=timed.brief,
            format=timed.artifact.format,
            artifact=str(timed.artifact.path),
            others={name: str(other.path) for name, other in timed.others.items()},
            tensor=timed.tensor,
            threads=timed.threads,
            limits=timed.limits,
            serving=timed.serving,
            reference=timed.reference,
        )
        return time_apart(request)

    def close(self) -> None:
        """Nothing runs on."""


@cache
def _hardware() -> Hardware:
    about = described()
    return Hardware(
        about["system"],
        about["release"],
        about["arch"],
        about["cpu"],
        about["processors"],
        about["board"],
        tuple(about["names"]),
        frozenset(about["features"]),
    )


LOCAL: LocalHost = LocalHost()
