"""Devices, as rows of a plugin's table, what a recipe targets, and what this machine has in place of its GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Identity:
    """How a machine is recognised as a device.

    `arch` is "arm64" or "x86-64" ("": any). One of the machine's names must fit one of `names`, patterns with `*`, where case does
    not matter; `cpu` must be in the name of its processor. A device that is not generic has one of the two, or no machine is it.
    """

    arch: str = ""
    names: tuple[str, ...] = ()
    cpu: str = ""


ANY = Identity()


@dataclass(frozen=True)
class Device:
    """A real device, as data.

    `os_min` and `os_max` bound the versions of `os` that it runs (None: not applicable or open); a recipe that
    names no version gets `os_default`, older than `os_min` where artifacts for older systems run too. `features`
    are the instruction sets and compute units that decide what pays off there. `options` are hints that only the
    owning plugin reads. `threads` is a number of threads on which latency is measured besides one (None: on one
    only). `generic`: a stand-in for any device of a kind, with what all of them have. `identity` is how a machine is
    recognised as the device; it decides no step's bytes, so no id has it. `gpus` are the interfaces that `target: {gpu: ...}`
    may name, each with a part of the GPU's name as drivers give it; `no_gpu` says why there is none ("has a GPU that ...").
    """

    name: str
    title: str
    os: str
    os_min: str | None = None
    os_max: str | None = None
    features: frozenset[str] = frozenset()
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    source: str = ""
    os_default: str | None = None
    threads: int | None = None
    generic: bool = False
    identity: Identity = ANY
    gpus: Mapping[str, str] = field(default_factory=dict)
    no_gpu: str = ""


@dataclass(frozen=True)
class Target:
    """A device, the OS version that the artifact has to run on (None: does not matter), and the interface to its GPU.

    `gpu` is one of the device's `gpus`, None where the recipe asks for none.
    """

    device: Device
    os_version: str | None = None
    gpu: str | None = None


@dataclass(frozen=True)
class GpuHere:
    """What this machine has in place of the target's GPU.

    `problem` says why it has nothing, with the remedy; None if it has something. `conditions` name the GPU and its
    driver: what was measured with others is measured again.
    """

    problem: str | None = None
    conditions: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Accelerated(Protocol):
    """A plugin whose devices have `gpus`; its `open` runs the artifact on one where the target names it."""

    def gpu_here(self, target: Target) -> GpuHere:
        """Say what this machine has in place of the target's GPU; asked only if the target names one."""
