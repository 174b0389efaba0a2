"""Find installed plugins through entry points. A broken one is reported and left out."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

from yolodeploy.backend.contract import Backend, Step
from yolodeploy.backend.device import Device
from yolodeploy.backend.params import Params

GROUP = "yolodeploy.backends"
_MEMBERS: dict[str, Any] = {
    "NAME": str, "STEPS": Iterable, "DEVICES": Iterable,
    "versions": Callable, "problem": Callable, "refuse": Callable, "open": Callable,
    "describe": Callable,
}  # fmt: skip


@dataclass(frozen=True)
class Registry:
    """The usable backends by name, and for each broken plugin the reason."""

    backends: Mapping[str, Backend]
    broken: Mapping[str, str]

    def devices(self) -> dict[str, Device]:
        """Collect all devices by name."""
        return {device.name: device for b in self.backends.values() for device in b.DEVICES}

    def backend_of(self, device: str) -> Backend | None:
        """Find the backend that ships to a device."""
        return next(
            (b for b in self.backends.values() if device in (d.name for d in b.DEVICES)), None
        )

    def offered(self, target: Backend) -> list[tuple[Backend, Step]]:
        """List the steps that a recipe for `target` may name: those of the sources and its own."""
        usable = [b for b in self.backends.values() if b is target or not b.DEVICES]
        return [(b, step) for b in usable for step in b.STEPS]


def load_registry() -> Registry:
    """Import every installed plugin, in the order of their names."""
    backends: dict[str, Backend] = {}
    broken: dict[str, str] = {}
    for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda e: e.name):
        try:
            plugin = cast("object", entry.load())
            reason = _contract_error(plugin, backends)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a third-party plugin may fail in any way
            reason = f"cannot be imported: {type(error).__name__}: {error}"
        if reason is None:
            backends[plugin.NAME] = plugin  # type: ignore[attr-defined,assignment]
        else:
            broken[entry.name] = reason
    return Registry(backends, broken)


def _contract_error(plugin: object, others: Mapping[str, Backend]) -> str | None:
    """Say how a plugin breaks the contract, as the rest of a sentence; None if it does not."""
    for member, kind in _MEMBERS.items():
        if not isinstance(getattr(plugin, member, None), kind):
            return f"has no `{member}` of the type that yolodeploy/backend/contract.py requires"
    backend = cast("Backend", plugin)
    where = plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__name__
    if backend.NAME in others:
        return f"{where} uses the NAME `{backend.NAME}` of another plugin"
    if not all(
        isinstance(step, Step) and isinstance(step.params, type) and issubclass(step.params, Params)
        for step in backend.STEPS
    ):
        return "has STEPS that are not all `yolodeploy.backend.Step`s with subclasses of `Params`"
    if not all(isinstance(device, Device) for device in backend.DEVICES):
        return "has DEVICES that are not all `yolodeploy.backend.Device`s"
    taken = {d.name: b.NAME for b in others.values() for d in b.DEVICES}
    twice = next((d.name for d in backend.DEVICES if d.name in taken), None)
    if twice is None:
        return None
    return f"offers the device `{twice}`, which `{taken[twice]}` offers already"


def problem_of(plugin: Backend) -> str | None:
    """Say why a plugin cannot run here; that it fails to answer is a reason too."""
    try:
        plugin.versions()
        return plugin.problem()
    except Exception as error:  # noqa: BLE001 - as on loading
        return f"cannot say whether it works: {type(error).__name__}: {error}"
