"""What recipes can do with a model, target by target, before anybody has written one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from yolodeploy.backend import (
    Backend,
    ModelInfo,
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


def possibilities(registry: Registry, given: str, model: ModelInfo | None = None) -> list[Possible]:
    """What every backend with devices offers for a file of the format or suffix `given`.

    Steps are asked with their defaults; one that has none for a parameter is not asked which devices refuse it. A step
    that cannot work on the `model` is refused on every device.
    """
    found = []
    for backend in registry.backends.values():
        layered = {step.produces for _, step in registry.offered(backend) if _loads(step)}
        source, own = list[Option](), list[Option]()
        for owner, step in _reached(registry, backend, given):
            unfit = _unfit(step, model, layered) if model else None
            if owner is backend:
                own.append(_option(backend, step, unfit))
            elif not _loads(step):
                source.append(Option(step.name, step.produces, _everywhere(backend, unfit)))
        runs = any(step.produces == given for step in backend.STEPS)
        if backend.DEVICES and (own or runs):
            devices = tuple(device.name for device in backend.DEVICES)
            problem = problem_of(backend)
            found.append(Possible(backend.NAME, devices, tuple(source), tuple(own), problem))
    return found


def _loads(step: Step) -> bool:
    return step.accepts.startswith(".")


def _reached(registry: Registry, backend: Backend, given: str) -> Iterator[tuple[Backend, Step]]:
    """The steps that a recipe for a backend can name, format after format."""
    offered, formats = registry.offered(backend), [given]
    for format_ in formats:  # grows meanwhile
        for owner, step in offered:
            if step.accepts == format_:
                yield owner, step
                if step.produces not in formats:
                    formats.append(step.produces)


def _unfit(step: Step, model: ModelInfo, layered: Collection[str]) -> str | None:
    """Why a step cannot work on a model; None if it can."""
    if model.known == "outputs" and step.accepts in layered and not step.takes_onnx:
        return f"it works on the layers of a model, and this one can only be passed on as it is: {model.obstacle}"
    params = _defaults(step)
    return step.fits(params, model) if step.fits and params else None


def _option(backend: Backend, step: Step, unfit: str | None) -> Option:
    params = _defaults(step)
    if unfit or params is None:
        return Option(step.name, step.produces, _everywhere(backend, unfit))
    asked = (
        (device.name, backend.refuse(step, params, Target(device, device.os_default)))
        for device in backend.DEVICES
    )
    return Option(step.name, step.produces, {name: reason for name, reason in asked if reason})


def _everywhere(backend: Backend, reason: str | None) -> dict[str, str]:
    return {device.name: reason for device in backend.DEVICES} if reason else {}


def _defaults(step: Step) -> Params | None:
    try:
        return step.params()
    except ValidationError:
        return None
