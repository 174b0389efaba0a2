"""What of a network ncnn runs on a Vulkan device, and what the report says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yolodeploy_ncnn.devices import VULKAN

if TYPE_CHECKING:
    import ncnn

    from yolodeploy.backend import Device
    from yolodeploy_ncnn.gpu.device import Gpu

_PRECISION = ("packed", "storage", "arithmetic")


@dataclass(frozen=True)
class Placement:
    """Where ncnn runs the layers of a network, as it says itself once the graph is loaded.

    `chosen` is how many layers the file keeps on the CPU, `fallen` names those without a form for the GPU, with their
    types. `up` and `down` count the tensors that are copied to the GPU and back for an image; `precision` are the kinds
    of fp16 that are on.
    """

    chosen: int
    fallen: tuple[str, ...]
    up: int
    down: int
    precision: tuple[str, ...]


def placement(net: ncnn.Net, kept: frozenset[str]) -> Placement:
    """Ask a loaded network where its layers run; `kept` are those that the file keeps on the CPU."""
    layers: Sequence[ncnn.Layer] = net.layers()
    # ncnn says that its input layer supports Vulkan, but what it holds comes from the app.
    on_gpu = {la.name: la.support_vulkan and la.type != "Input" for la in layers}
    makers = {blob: la.name for la in layers for blob in la.tops}
    moved = [
        on_gpu[la.name] for la in layers for b in la.bottoms if on_gpu[makers[b]] != on_gpu[la.name]
    ]
    left = [makers[blob] for blob in net.output_indexes()]
    fallen = [
        la for la in layers if not on_gpu[la.name] and la.name not in kept and la.type != "Input"
    ]
    return Placement(
        chosen=len(kept),
        fallen=tuple(f"{la.type} {la.name}" for la in fallen),
        up=sum(moved),
        down=len(moved) - sum(moved) + sum(on_gpu[name] for name in left),
        precision=tuple(kind for kind in _PRECISION if getattr(net.opt, f"use_fp16_{kind}")),
    )


def note(gpu: Gpu, placed: Placement, device: Device) -> str:
    """What the report says of a network on this machine's Vulkan device."""
    where = f"ncnn's Python wheel on {gpu}"
    if gpu.software:
        where += f", in place of the target's {device.gpus[VULKAN]}: it runs the same shaders, and its speed says nothing"
    elif not on_target(gpu, device):
        where += f", which is not the target's {device.gpus[VULKAN]}"
    precision = f"fp16 {', '.join(placed.precision)}" if placed.precision else "fp32"
    kept = f"{placed.chosen} layers of the decoding stay on the CPU in fp32"
    fallen = f"no layer falls back to it; {kept}"
    if placed.fallen:
        fallen = f"{kept}, and {len(placed.fallen)} that have no form for a GPU fall back to it: {', '.join(placed.fallen)}"
    moves = f"copies of tensors: {placed.up} to the GPU, {placed.down} back, for an image"
    return f"{where}; options as in an app: {precision}; {fallen}; {moves}"


def on_target(gpu: Gpu, device: Device) -> bool:
    """Whether this is the target's GPU, by the name that its driver gives."""
    return device.gpus[VULKAN].lower() in gpu.name.lower()
