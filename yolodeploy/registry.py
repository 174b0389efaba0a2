"""Installed plugins, found through entry points. A broken one is reported and left out."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

from yolodeploy.backend import Backend, Device, Step
from yolodeploy.transforms import Params

GROUP = "yolodeploy.backends"
_MEMBERS: dict[str, Any] = {
    "NAME": str, "STEPS": Iterable, "DEVICES": Iterable,
    "versions": Callable, "problem": Callable, "refuse": Callable, "open": Callable,
    "describe": Callable,
}  # fmt: skip


@dataclass(frozen=True)
class Registry:
    """The usable backends by name, and for each unusable plugin the reason."""

    backends: Mapping[str, Backend]
    broken: Mapping[str, str]

    def devices(self) -> dict[str, Device]:
        """All devices by name."""
        return {device.name: device for b in self.backends.values() for device in b.DEVICES}

    def backend_of(self, device: str) -> Backend | None:
        """The backend that ships to a device."""
        return next(
            (b for b in self.backends.values() if device in (d.name for d in b.DEVICES)), None
        )

    def offered(self, target: Backend) -> list[tuple[Backend, Step]]:
        """Steps that a recipe for `target` may name: those of the sources and its own."""
        usable = [b for b in self.backends.values() if b is target or not b.DEVICES]
        return [(b, step) for b in usable for step in b.STEPS]


def load_registry() -> Registry:
    """Import every installed plugin; the order of installation does not matter."""
    backends: dict[str, Backend] = {}
    broken: dict[str, str] = {}
    for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda e: e.name):
        try:
            plugin = cast("object", entry.load())
            reason = _fault(plugin, backends)
        except (Exception, SystemExit) as fault:  # noqa: BLE001 - a third-party plugin may fail in any way
            broken[entry.name] = f"cannot be imported: {type(fault).__name__}: {fault}"
            continue
        if reason is None:
            backends[plugin.NAME] = plugin  # type: ignore[attr-defined,assignment]
        else:
            broken[entry.name] = reason
    return Registry(backends, broken)


def _fault(plugin: object, others: Mapping[str, Backend]) -> str | None:
    for member, kind in _MEMBERS.items():
        if not isinstance(getattr(plugin, member, None), kind) or not hasattr(plugin, member):
            return f"lacks `{member}`, which the contract in yolodeploy/backend.py asks for"
    backend = cast("Backend", plugin)
    where = plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__name__
    if backend.NAME in others:
        return f"{where} calls itself `{backend.NAME}`, as another plugin does"
    if not all(
        isinstance(step, Step) and isinstance(step.params, type) and issubclass(step.params, Params)
        for step in backend.STEPS
    ):
        return "its STEPS must be `yolodeploy.backend.Step`s with `Params` subclasses"
    if not all(isinstance(device, Device) for device in backend.DEVICES):
        return "its DEVICES must be `yolodeploy.backend.Device`s"
    taken = {d.name: b.NAME for b in others.values() for d in b.DEVICES}
    twice = [d.name for d in backend.DEVICES if d.name in taken]
    if twice:
        return f"its device `{twice[0]}` is already offered by `{taken[twice[0]]}`"
    return None


def problem_of(plugin: Backend) -> str | None:
    """Why a plugin cannot run here; a plugin that fails to answer is a problem too."""
    try:
        plugin.versions()
        return plugin.problem()
    except Exception as fault:  # noqa: BLE001 - as on loading
        return f"cannot say whether it works: {type(fault).__name__}: {fault}"
