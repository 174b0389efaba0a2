"""Where something was measured, and whether that machine is the device that a recipe ships to.

Nobody's word is taken for it: what the machine says of its hardware is compared with what is known of the device.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yolodeploy.backend.device import Device

_ARCHES = {"aarch64": "arm64", "amd64": "x86-64", "x86_64": "x86-64"}
# What Linux calls the features that devices have, in /proc/cpuinfo
# (https://docs.kernel.org/arch/arm64/elf_hwcaps.html, arch/x86/include/asm/cpufeatures.h); any of them will do.
_FLAGS = {
    "fp16": ("asimdhp",),
    "dotprod": ("asimddp",),
    "i8mm": ("i8mm",),
    "bf16": ("bf16",),
    "avx2": ("avx2",),
    "avx512": ("avx512f",),
    "vnni": ("avx512_vnni", "avx_vnni"),
    "amx": ("amx_int8",),
}


@dataclass(frozen=True)
class Hardware:
    """What a machine says of itself.

    `board` is what people call it ("" if it does not say), `names` is what else it is known by: model and compatible strings of the
    device tree, `hw.model` of a Mac, `ro.product.model` and `ro.soc.model` of an Android phone. `features` are the
    processor's as Linux lists them (none: not known). `emulated` says that other hardware pretends to be this.
    """

    system: str
    release: str
    arch: str
    cpu: str
    processors: int
    board: str = ""
    names: tuple[str, ...] = ()
    features: frozenset[str] = frozenset()
    emulated: bool = False

    @property
    def called(self) -> str:
        """The board's name, or else the processor's."""
        return self.board or self.cpu


@dataclass(frozen=True)
class Place:
    """Where something was measured: `host` ("": this machine), its hardware, and the runtime there.

    `on_device` says whether it was the device that the recipe ships to, `reason` why not, as the end of a sentence.
    """

    host: str
    system: str
    arch: str
    board: str
    cpu: str
    processors: int
    runtime: str
    version: str
    on_device: bool
    reason: str = ""

    def words(self) -> str:
        """The place in words, as in "measured on ..."."""
        machine = f"{self.host or 'this machine'} ({self.board or self.cpu})"
        if self.on_device:
            return f"{machine}, the target device"
        return f"{machine}, not on the target device: {self.reason}"


def place_at(host: str, hardware: Hardware, runtime: tuple[str, str], reason: str) -> Place:
    """The place of measurements; `runtime` is its name and version, `reason` why the machine is not the device."""
    return Place(
        host,
        hardware.system,
        _arch(hardware.arch),
        hardware.board,
        hardware.cpu,
        hardware.processors,
        *runtime,
        on_device=not reason,
        reason=reason,
    )


def not_device(device: Device, hardware: Hardware) -> str:
    """Why a machine is not a device, as the end of a sentence; "" if it is."""
    return next(_differences(device, hardware), "")


def _differences(device: Device, hardware: Hardware) -> Iterator[str]:
    known = device.identity
    if hardware.emulated:
        yield f"it emulates {hardware.called}"
    if device.os.casefold() != hardware.system.casefold():
        yield f"its system is {hardware.system}, not {device.os}"
    if known.arch and known.arch != _arch(hardware.arch):
        yield f"its processor is {_arch(hardware.arch)}, not {known.arch}"
    if not (device.generic or known.names or known.cpu):
        yield f"nothing is known by which a machine could be recognised as the {device.title}"
    if known.names and not _named(known.names, hardware):
        yield f"it says that it is {_called(hardware)}"
    if known.cpu and not _has_word(known.cpu, hardware.cpu):
        yield f"its processor is the {hardware.cpu}"
    yield from _lacking(device, hardware)


def _lacking(device: Device, hardware: Hardware) -> Iterator[str]:
    """Features of the processor that it lacks, or of a generic device, which nothing else tells, does not mention."""
    wanted = _flags_of(device)
    if not hardware.features:
        if device.generic and wanted:
            yield f"it does not say whether its processor has {', '.join(sorted(wanted))}"
    elif lacking := [n for n, flags in sorted(wanted.items()) if not hardware.features & {*flags}]:
        yield f"its processor lacks {', '.join(lacking)}"


def _flags_of(device: Device) -> dict[str, tuple[str, ...]]:
    return {name: _FLAGS[name] for name in device.features if name in _FLAGS}


def _arch(name: str) -> str:
    return _ARCHES.get(name.lower(), name)


def _named(patterns: tuple[str, ...], hardware: Hardware) -> bool:
    names = [name.casefold() for name in (hardware.board, *hardware.names)]
    return any(fnmatchcase(name, each.casefold()) for each in patterns for name in names)


def _called(hardware: Hardware) -> str:
    if hardware.board or hardware.names:
        return f"a {hardware.board or hardware.names[0]}"
    return f"a machine with the processor {hardware.cpu}"


def _has_word(part: str, name: str) -> bool:
    """Whether a name has a part that is not the beginning or end of a longer word: `N100` is none of `N1000`."""
    return bool(re.search(rf"(?<!\w){re.escape(part)}(?![\w+])", name, re.IGNORECASE))
