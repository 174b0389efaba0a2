"""Where a plan's artifact is measured, and whether that is the device that its checks demand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from yolodeploy.backend import Hardware, Place, Runtime, load_registry, not_device, place_at
from yolodeploy.errors import HostProblem, PlanRefused
from yolodeploy.hosts import Host
from yolodeploy.planning import Plan
from yolodeploy.system import shown

if TYPE_CHECKING:
    from yolodeploy.backend import Backend, Target


def require_device(plan: Plan, host: Host) -> None:
    """Raise PlanRefused if the plan's checks need a host that is the target, and this one is not.

    HostProblem if the host is another device than hosts.toml says.
    """
    demands = list(_demands(plan))
    if not demands and not host.name:
        return
    hardware = host.hardware(plan.backend)
    if host.claims:
        require_claim(host, hardware)
    device = plan.target.device
    if demands and (why := not_device(device, hardware)):
        where = "this machine" if not host.name else f"the host `{host.name}`"
        asked, line = demands[0]
        raise PlanRefused(
            f"{line}: `{asked}` must be measured on the target itself, `{device.name}` ({device.title}), and {where} is not one: {why}. Name a host of hosts.toml "
            f"that is one, as in `yolodeploy deploy {shown(plan.file.path)} --on HOST`, or remove the check."
        )


def require_claim(host: Host, hardware: Hardware) -> None:
    """Raise HostProblem if the host is another device than hosts.toml says, as far as its hardware tells."""
    device = load_registry().devices().get(host.claims)
    if device is None:
        raise HostProblem(
            f"host `{host.name}`: hosts.toml says `device: {host.claims}`, and no installed plugin has such a device. "
            "`yolodeploy devices` lists them."
        )
    if why := not_device(device, hardware):
        raise HostProblem(
            f"host `{host.name}`: hosts.toml says `device: {device.name}` ({device.title}), but {why}. Correct `device` there, or "
            "remove it: machines are compared with the target anyway."
        )


def _demands(plan: Plan) -> Iterator[tuple[str, str]]:
    """The checks that only the target itself satisfies, and where the recipe has them."""
    checks, file = plan.file.recipe.checks, plan.file
    if checks.on_device:
        yield "on_device: true", str(file.where("checks", "on_device"))
    if checks.latency_ms is not None:
        yield f"latency_ms: {checks.latency_ms:g}", str(file.where("checks", "latency_ms"))


def place_of(backend: Backend, target: Target, host: Host, runtime: Runtime) -> Place:
    """Where an artifact ran; a host is not the target if the runtime did not compute where the device does."""
    hardware = host.hardware(backend)
    why = not_device(target.device, hardware)
    if not why and not runtime.timing:
        why = f"{runtime.name} did not compute on the unit that the artifact is for"
    return place_at(host.name, hardware, (runtime.name, runtime.version), why)
