"""The torch module of a node that has weights or a name of its own, and where it lies."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from yolodeploy_torch.graph.operations import Activation, AnyNode
from yolodeploy_torch.graph.weighted import BatchNorm, Conv, ConvTranspose, Linear

_MOMENTUM = 0.03  # of batch statistics in training, as the checkpoints have it


def module_of(node: AnyNode) -> nn.Module | None:
    """The module of a node that has weights or a name of its own, on no device; None for other nodes."""
    match node:
        case Conv():
            module: nn.Module = nn.Conv2d(
                *node.channels,
                node.kernel,
                node.stride,
                node.padding,
                node.dilation,
                node.groups,
                node.bias,
                device="meta",
            )
        case ConvTranspose():
            module = nn.ConvTranspose2d(
                *node.channels,
                node.kernel,
                node.stride,
                node.padding,
                bias=node.bias,
                device="meta",
            )
        case Linear():
            module = nn.Linear(*node.channels, bias=node.bias, device="meta")
        case BatchNorm():
            module = _BatchNorm(node.channels, node.eps, _MOMENTUM, device="meta")
            module.num_batches_tracked = None
        case Activation():
            module = _activation(node)
        case _:
            return None
    return module


class _BatchNorm(nn.BatchNorm2d):
    """One that does not count batches; PyTorch would add a count to weights that come without their versions."""

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, *rest: Any
    ) -> None:
        versioned = {**local_metadata, "version": self._version}
        super()._load_from_state_dict(state_dict, prefix, versioned, *rest)


def _activation(node: Activation) -> nn.Module:
    match node.kind:
        case "silu":
            return nn.SiLU()
        case "relu":
            return nn.ReLU()
        case "leaky_relu":
            return nn.LeakyReLU(node.slope)
        case "hardswish":
            return nn.Hardswish()


def parent_of(root: nn.Module, path: str) -> nn.Module:
    """The module that a path leads to, made where it is missing."""
    for name in path.split(".") if path else ():
        if name not in root._modules:  # noqa: SLF001 - `get_submodule` raises where one is missing
            root.register_module(name, nn.Module())
        root = cast("nn.Module", root._modules[name])  # noqa: SLF001
    return root
