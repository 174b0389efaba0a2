"""The Vulkan device of this machine.

Without a GPU, Mesa's lavapipe stands in for one: a conformant Vulkan device that runs ncnn's shaders, fp16 included, on
the CPU. Its arithmetic is what the shaders say, so it shows wrong results; its speed says nothing about any GPU.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from yolodeploy.backend import GpuHere
from yolodeploy.errors import EnvironmentProblem

if TYPE_CHECKING:
    from typing import IO

_KINDS = (
    "discrete GPU",
    "integrated GPU",
    "virtual GPU",
    "software on the CPU",
)  # ncnn, src/gpu.h, GpuInfo::type
_SOFTWARE = 3
_NO_DEVICE = (
    "ncnn finds no Vulkan device{said}. Install the driver of the GPU, or Mesa's software device, which is enough to see "
    "whether results are right: apt-get install mesa-vulkan-drivers"
)


@dataclass(frozen=True)
class Gpu:
    """A Vulkan device: its name and driver version as the driver gives them, and its kind."""

    name: str
    driver: str
    kind: int

    @property
    def software(self) -> bool:
        """Whether the CPU computes what a GPU should."""
        return self.kind == _SOFTWARE

    def __str__(self) -> str:
        return f"{self.name}, driver {self.driver}, {_KINDS[self.kind]}"


@dataclass(frozen=True)
class _Found:
    gpu: Gpu | None
    said: list[str] = field(default_factory=list)


def gpu_here() -> GpuHere:
    """The device on which artifacts for a GPU are measured here, or why there is none."""
    found = _found()
    if found.gpu is None:
        said = f" ({'; '.join(found.said[-2:])})" if found.said else ""
        return GpuHere(_NO_DEVICE.format(said=said))
    return GpuHere(None, {"name": found.gpu.name, "driver": found.gpu.driver})


def require_gpu() -> Gpu:
    """The device that ncnn chooses by itself; EnvironmentProblem if there is none."""
    found = _found()
    if found.gpu is None:
        raise EnvironmentProblem(str(gpu_here().problem))
    return found.gpu


@cache
def _found() -> _Found:
    """Ask ncnn once; what it prints meanwhile is kept for the message."""
    try:
        import ncnn
    except ImportError as error:
        return _Found(None, [str(error)])
    with tempfile.TemporaryFile() as log:
        with _native_messages(log):
            index = ncnn.get_default_gpu_index()  # the one that an app gets
        log.seek(0)
        said = [line.decode("utf-8", "replace").strip()[:200] for line in log]
    if index < 0:
        return _Found(None, said)
    info = ncnn.get_gpu_info(index)
    return _Found(Gpu(info.device_name(), str(info.driver_version()), info.type()))


@contextlib.contextmanager
def _native_messages(log: IO[bytes]) -> Iterator[None]:
    """Send what native code prints as errors to a file: ncnn lists the features of every device."""
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
