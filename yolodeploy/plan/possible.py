"""What recipes can do with a model, target by target, before anybody has written one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from yolodeploy.backend import (
    Backend,
    Device,
    Params,
    Registry,
    Step,
    Target,
    problem_of,
)


@dataclass(frozen=True)
class Option:
    """A step that a recipe can name; `refused` gives the devices that cannot run what it makes, with the reason."""

    step: str
    produces: str
    refused: Mapping[str, str]


@dataclass(frozen=True)
class Possible:
    """What one backend offers: `source` steps that any recipe can name, and `own` steps, in order of the formats.

    `problem` says why this machine cannot run the backend, None if it can.
    """

    backend: str
    devices: tuple[str, ...]
    source: tuple[Option, ...]
    own: tuple[Option, ...]
    problem: str | None


def possibilities(registry: Registry, given: str) -> list[Possible]:
    """What every backend with devices offers for a file of the format or suffix `given`.

    Steps are asked with their defaults; one that has none for a parameter is not asked which devices refuse it.
    """
    found = []
    for backend in registry.backends.values():
        steps = list(_reached(registry, backend, given))
        own = tuple(_option(backend, step) for owner, step in steps if owner is backend)
        source = tuple(
            Option(step.name, step.produces, {})
            for owner, step in steps
            if owner is not backend and not step.accepts.startswith(".")
        )
        runs = any(step.produces == given for step in backend.STEPS)
        if backend.DEVICES and (own or runs):
            devices = tuple(device.name for device in backend.DEVICES)
            found.append(Possible(backend.NAME, devices, source, own, problem_of(backend)))
    return found


def _reached(registry: Registry, backend: Backend, given: str) -> Iterator[tuple[Backend, Step]]:
    """The steps that a recipe for a backend can name, format after format."""
    offered, formats = registry.offered(backend), [given]
    for format_ in formats:  # grows meanwhile
        for owner, step in offered:
            if step.accepts == format_:
                yield owner, step
                if step.produces not in formats:
                    formats.append(step.produces)


def _option(backend: Backend, step: Step) -> Option:
    params = _defaults(step)
    if params is None:
        return Option(step.name, step.produces, {})
    asked = ((device, _refusal(backend, step, params, device)) for device in backend.DEVICES)
    return Option(step.name, step.produces, {d.name: reason for d, reason in asked if reason})


def _refusal(backend: Backend, step: Step, params: Params, device: Device) -> str | None:
    return backend.refuse(step, params, Target(device, device.os_default))


def _defaults(step: Step) -> Params | None:
    try:
        return step.params()
    except ValidationError:
        return None
