"""Cut channels out of a model: a smaller table of layers and the weights that remain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from yolodeploy_torch.arch import Arch
from yolodeploy_torch.channels import Channels, Group, Groups

Kept = Mapping[Group, Tensor]  # for every group the indices of its channels that stay, ascending


def cut(
    arch: Arch, state: Mapping[str, Tensor], found: Channels, kept: Kept
) -> tuple[Arch, dict[str, Tensor]]:
    """Return table and weights with only the channels `kept`; the rest of a group is gone.

    The model's output changes by what the lost channels carried, and batch statistics do not fit
    any more: see `recalibrate`.
    """
    smaller: dict[str, Tensor] = dict(state)
    for name, use in found.uses.items():
        rows, columns = _indices(use.outputs, kept), _indices(use.inputs, kept)
        weight = f"{name}.weight"
        smaller[weight] = state[weight][rows][:, columns].contiguous()
        for key in _per_output(name, state):
            smaller[key] = state[key][rows].contiguous()
    return _table(arch, found, kept), smaller


def _per_output(name: str, state: Mapping[str, Tensor]) -> list[str]:
    """The other tensors that hold a value for each output channel of a convolution."""
    norm = f"{name.removesuffix('.conv')}.bn."
    statistics = [f"{norm}{key}" for key in ("weight", "bias", "running_mean", "running_var")]
    return [key for key in (f"{name}.bias", *statistics) if key in state and state[key].ndim]


def _indices(groups: Groups, kept: Kept) -> Tensor:
    """Where the channels that stay lie in the concatenation of the groups."""
    start, parts = 0, []
    for group in groups:
        parts.append(kept[group] + start)
        start += group.size
    return torch.cat(parts)


def taken(found: Channels, name: str, kept: Kept) -> Tensor:
    """Which output channels of a convolution stay."""
    return _indices(found.uses[name].outputs, kept)


def _table(arch: Arch, found: Channels, kept: Kept) -> Arch:
    """The table with the new numbers of channels."""
    raw: dict[str, Any] = arch.model_dump(by_alias=True)
    for row, layer in enumerate(raw["layers"]):
        for key, value in _specs(layer):
            use = found.uses[f"model.{row}{key}"]
            value["inputs"] = len(_indices(use.inputs, kept))
            value["outputs"] = len(_indices(use.outputs, kept))
        if layer["kind"] == "c2f":
            halves = found.uses[f"model.{row}.cv1.conv"].outputs
            layer["split"] = tuple(len(kept[half]) for half in halves)
    smaller = Arch.model_validate(raw)
    smaller.check()
    return smaller


def _specs(layer: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The convolution units of a row: the rest of their name, and their numbers."""
    match layer["kind"]:
        case "conv":
            return [(".conv", layer["conv"])]
        case "c2f":
            blocks = [
                (f".m.{number}.{part}.conv", block[key])
                for number, block in enumerate(layer["blocks"])
                for part, key in (("cv1", "first"), ("cv2", "second"))
            ]
            return [(".cv1.conv", layer["entry"]), *blocks, (".cv2.conv", layer["exit"])]
        case "sppf":
            return [(".cv1.conv", layer["entry"]), (".cv2.conv", layer["exit"])]
        case "detect":
            return [
                (f".{kind}.{level}.{place}.conv", branch[key])
                for kind, branches in (("cv2", layer["boxes"]), ("cv3", layer["scores"]))
                for level, branch in enumerate(branches)
                for place, key in enumerate(("first", "second"))
            ]
        case _:
            return []
