"""Which devices recipes are written for, and what their backends advise for them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from yolodeploy.backend import (
    Advice,
    AdvisedStep,
    Advising,
    Backend,
    Device,
    Params,
    Registry,
    Situation,
    Step,
    Target,
    problem_of,
)
from yolodeploy.errors import EnvironmentProblem, PlanRefused
from yolodeploy.system import quotable

_FEW = 3


@dataclass(frozen=True)
class Advised:
    """A device, and what its backend advises; `chosen` says that somebody named the device."""

    backend: Backend
    device: Device
    advice: Advice
    chosen: bool

    def reads(self, view: str) -> bool:
        """Whether one of the steps reads a data view."""
        return any(view in step.needs(params) for step, params in self._resolved())

    def _resolved(self) -> Iterator[tuple[Step, Params]]:
        for advised in self.advice.steps:
            for step in self.backend.STEPS:
                if step.name == advised.name:
                    yield step, step.params.model_validate(dict(advised.params))


def suggested(registry: Registry) -> list[str]:
    """A device of every backend that can run here: the one that it suggests, else a generic one, else its first.

    Raises EnvironmentProblem if none can.
    """
    usable = [b for b in registry.backends.values() if b.DEVICES and problem_of(b) is None]
    if not usable:
        reasons = "; ".join(
            f"{b.NAME}: {problem_of(b)}" for b in registry.backends.values() if b.DEVICES
        )
        raise EnvironmentProblem(
            f"no backend can run here, so there is no device to write a recipe for. {reasons or 'None is installed.'}"
        )
    return [_representative(backend) for backend in usable]


def _representative(backend: Backend) -> str:
    names = [device.name for device in backend.DEVICES]
    if isinstance(backend, Advising) and backend.SUGGESTED in names:
        return backend.SUGGESTED
    return next((device.name for device in backend.DEVICES if device.generic), names[0])


def known_devices(names: Sequence[str], registry: Registry) -> list[str]:
    """The names, each once; raises PlanRefused for one that no installed backend ships to."""
    devices = registry.devices()
    for name in names:
        if name not in devices:
            near = difflib.get_close_matches(name.lower(), devices, n=_FEW, cutoff=0.5)
            meant = f" Perhaps you meant {' or '.join(near)}." if near else ""
            raise PlanRefused(
                f"--device: no installed backend ships to `{quotable(name)}`.{meant} `yolodeploy devices` lists all {len(devices)}."
            )
    return list(dict.fromkeys(names))


def advise(
    name: str, registry: Registry, situation: Situation, suffix: str, *, chosen: bool
) -> Advised:
    """What the backend of a device advises; of one that has no advice, its plain export."""
    backend, device = registry.backend_of(name), registry.devices()[name]
    if backend is None:
        raise ValueError(f"`{name}` is not a known device")
    target = Target(device, device.os_default)
    if isinstance(backend, Advising):
        return Advised(backend, device, backend.advise(situation, target), chosen)
    return Advised(backend, device, _plain(backend, registry, suffix), chosen)


def _plain(backend: Backend, registry: Registry, suffix: str) -> Advice:
    """The backend's first step that takes what the weights become when they are loaded."""
    loaded = [s.produces for _, s in registry.offered(backend) if s.accepts == suffix]
    step = next((s for s in backend.STEPS if s.accepts in loaded and _has_defaults(s)), None)
    if step is None:
        raise PlanRefused(
            f"the {backend.NAME} backend has no step that takes {suffix} files as they are. Name a device of another backend."
        )
    why = "The plain export; `yolodeploy inspect` lists the other steps that this device offers."
    return Advice((AdvisedStep(step.name, why=why),), drop=0.02, fidelity=0.9)


def _has_defaults(step: Step) -> bool:
    try:
        step.params()
    except ValidationError:
        return False
    return True
