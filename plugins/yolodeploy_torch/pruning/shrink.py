"""Remove channels from a model: a smaller table of layers, and the weights that remain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from yolodeploy_torch.model import Arch, Group, Groups, Structure

Kept = Mapping[Group, Tensor]  # for every group the indices of its channels that stay, ascending


def shrink(
    arch: Arch, state: Mapping[str, Tensor], found: Structure, kept: Kept
) -> tuple[Arch, dict[str, Tensor]]:
    """Return table and weights with only the channels in `kept`.

    The model's output changes by what the removed channels carried, and the batch statistics no longer
    fit: see `recalibrate`.
    """
    smaller: dict[str, Tensor] = dict(state)
    for name, conv in found.convolutions.items():
        rows, columns = kept_channels(conv.outputs, kept), kept_channels(conv.inputs, kept)
        weight = f"{name}.weight"
        smaller[weight] = state[weight][rows][:, columns].contiguous()
        for key in _per_output(name, state):
            smaller[key] = state[key][rows].contiguous()
    return _smaller_table(arch, found, kept), smaller


def kept_channels(groups: Groups, kept: Kept) -> Tensor:
    """Where the channels that stay lie in the concatenation of the groups."""
    start, parts = 0, []
    for group in groups:
        parts.append(kept[group] + start)
        start += group.size
    return torch.cat(parts)


def _per_output(name: str, state: Mapping[str, Tensor]) -> list[str]:
    """The other tensors that hold a value for each output channel of a convolution."""
    norm = f"{name.removesuffix('.conv')}.bn."
    statistics = [f"{norm}{key}" for key in ("weight", "bias", "running_mean", "running_var")]
    return [key for key in (f"{name}.bias", *statistics) if key in state and state[key].ndim]


def _smaller_table(arch: Arch, found: Structure, kept: Kept) -> Arch:
    """The table with the new numbers of channels."""
    table: dict[str, Any] = arch.model_dump(by_alias=True)
    units = [conv for name, conv in found.convolutions.items() if name.endswith(".conv")]
    for spec, conv in zip(_specs(table["layers"]), units, strict=True):
        spec["inputs"] = len(kept_channels(conv.inputs, kept))
        spec["outputs"] = len(kept_channels(conv.outputs, kept))
    for row, layer in enumerate(table["layers"]):
        if layer["kind"] == "c2f":
            halves = found.convolutions[f"model.{row}.cv1.conv"].outputs
            layer["split"] = tuple(len(kept[half]) for half in halves)
    return Arch.model_validate(table)


def _specs(item: object) -> Iterator[dict[str, Any]]:
    """The convolution units in a dumped table, which has them in order of execution."""
    if isinstance(item, dict) and "inputs" in item:
        yield item
    elif isinstance(item, dict | tuple):
        for value in item.values() if isinstance(item, dict) else item:
            yield from _specs(value)
