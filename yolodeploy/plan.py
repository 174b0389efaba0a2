"""Recipe -> Plan: resolve every step, refuse what cannot work, and give each step its id.

Pure: imports no toolchain, and reads nothing of the weights but their digest. An id is the
digest of all that determines a step's bytes; it contains its input's id, so the last id stands
for the whole chain.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from yolodeploy.backend import Backend, Step, Target, installed
from yolodeploy.checks import refuse_unknown_steps
from yolodeploy.dataset import Dataset
from yolodeploy.digest import StatCache, digest_of
from yolodeploy.errors import ModelError, PlanRefused, RecipeError
from yolodeploy.pinned import verify_pinned
from yolodeploy.recipe import RecipeFile, StepRequest
from yolodeploy.registry import Registry
from yolodeploy.transforms import Params
from yolodeploy.views import Link, load_views, refuse_overlap
from yolodeploy.wording import describe_errors, suggestion
from yolodeploy.yamlfile import Position, shown

IMAGE_LIBRARIES = ("numpy", "opencv-python-headless")


@dataclass(frozen=True)
class PlannedStep:
    """A step with its parameters, its id, and where the recipe asks for it."""

    backend: Backend
    step: Step
    params: Params
    id: str
    at: Position

    @property
    def versions(self) -> dict[str, str]:
        """Versions of everything that can change the bytes of this step."""
        return _versions(self.backend, self.step, self.params)

    @property
    def varies(self) -> str | None:
        """Why another run of this step may give other bytes; None if it gives the same."""
        return self.step.varies(self.params) if self.step.varies else None


@dataclass(frozen=True)
class Plan:
    """Everything that a build does, in order.

    `steps[0]` loads the weights; the others are the recipe's. `floats` are the plain float exports
    that latencies are compared with, by index of the step whose result they export: of every model
    before `steps[export]` in the format that it takes. `views` are the
    data views by name ("evaluation", "calibration"), `digests` those of the inputs.
    """

    file: RecipeFile
    backend: Backend
    target: Target
    steps: tuple[PlannedStep, ...]
    export: int
    floats: Mapping[int, PlannedStep]
    views: Mapping[str, Dataset]
    weights_digest: str
    view_digests: Mapping[str, str]

    @property
    def final(self) -> PlannedStep:
        """The step whose result ships."""
        return self.steps[-1]

    @property
    def reference(self) -> PlannedStep:
        """The plain float export of the model that `steps[export]` exports."""
        return self.floats[self.export - 1]

    def versions(self) -> dict[str, dict[str, str]]:
        """Tool versions by backend, of the backends and steps that take part."""
        found: dict[str, dict[str, str]] = {}
        for planned in self.steps:
            found.setdefault(planned.backend.NAME, {}).update(planned.versions)
        return dict(sorted(found.items()))


def make_plan(file: RecipeFile, registry: Registry, cache: StatCache) -> Plan:
    """Resolve and check a recipe; raises PlanRefused, RecipeError, ModelError or DataError."""
    backend, target = _find_target(file, registry)
    chain = _resolve(file, registry, backend)
    for number, (step, params, at) in enumerate(chain):
        reason = backend.refuse(step, params, target) if step in backend.STEPS else None
        if step.then and not reason:
            reason = step.then(params, [(later, its) for later, its, _ in chain[number + 1 :]])
        if reason:
            raise PlanRefused(f"{at}: {reason}")
    export = _find_export(file, backend, chain)
    refuse_unknown_steps(file, [step.name for step, _, _ in chain[1:]])
    views = load_views(file, chain)
    weights_digest = _digest_weights(file, cache)
    view_digests = {name: view.digest(cache) for name, view in views.items()}
    refuse_overlap(file, views, cache)
    for _, params, at in chain:
        verify_pinned(params, at, cache, file.trust)
    identify = _Identifier(file, target, registry, view_digests)
    steps: list[PlannedStep] = []
    for step, params, at in chain:
        steps.append(identify(step, params, at, steps[-1].id if steps else weights_digest))
    step, params, at = chain[export]
    float_params = step.reference(params) if step.reference else params
    floats = {
        index: identify(step, float_params, at, model.id)
        for index, model in enumerate(steps[:export])
        if model.step.produces == step.accepts
    }
    cache.save()
    return Plan(
        file, backend, target, tuple(steps), export, floats, views, weights_digest, view_digests
    )


def _find_target(file: RecipeFile, registry: Registry) -> tuple[Backend, Target]:
    wanted, at = file.recipe.target, file.where("target", "device")
    devices = registry.devices()
    backend = registry.backend_of(wanted.device)
    if backend is None:
        hint = suggestion(wanted.device, devices)
        broken = "".join(f" Plugin `{name}` {reason}." for name, reason in registry.broken.items())
        raise PlanRefused(f"{at}: no installed backend ships to `{wanted.device}`.{hint}{broken}")
    device = devices[wanted.device]
    floor, ceiling = device.os_min, device.os_max
    if wanted.os and not floor and not ceiling:
        raise PlanRefused(
            f"{file.where('target', 'os')}: {device.title} has no OS versions to choose from. Leave `os` out."
        )
    if wanted.os and floor and _version(wanted.os) < _version(floor):
        raise PlanRefused(
            f"{file.where('target', 'os')}: {device.title} never ran {device.os} {wanted.os}; it starts "
            f'at {floor}. Write os: "{floor}" or leave `os` out.'
        )
    if wanted.os and ceiling and _version(wanted.os)[:1] > _version(ceiling)[:1]:
        raise PlanRefused(
            f"{file.where('target', 'os')}: {device.title} cannot run {device.os} {wanted.os}; its last is "
            f'{ceiling}. Write os: "{ceiling}" or an older one.'
        )
    return backend, Target(device, wanted.os or device.os_default)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall("[0-9]+", text))


def _resolve(file: RecipeFile, registry: Registry, backend: Backend) -> list[Link]:
    """Turn the names into steps whose formats chain, starting with the one that loads the weights."""
    offered = [step for _, step in registry.offered(backend)]
    chain = [_loader(file, offered)]
    for index, request in enumerate(file.recipe.steps):
        at = file.where("steps", index)
        named = [step for step in offered if step.name == request.name]
        if not named:
            raise PlanRefused(f"{at}: {_unknown(request.name, offered, registry, backend)}")
        current = chain[-1][0].produces
        fitting = [step for step in named if step.accepts == current]
        if not fitting:
            raise PlanRefused(f"{at}: {_misplaced(named[0], current, index, file, offered)}")
        chain.append((fitting[0], _params(file, index, request, fitting[0]), at))
    return chain


def _loader(file: RecipeFile, offered: Sequence[Step]) -> Link:
    at = file.where("model", "weights")
    suffix = file.recipe.model.weights.suffix.lower()
    for step in offered:
        if step.accepts == suffix:
            return step, step.params(), at
    known = ", ".join(sorted({step.accepts for step in offered if step.accepts.startswith(".")}))
    raise PlanRefused(
        f"{at}: no installed backend loads `{file.recipe.model.weights.name}`. Loadable: {known or 'nothing'}."
    )


def _params(file: RecipeFile, index: int, request: StepRequest, step: Step) -> Params:
    try:
        folder = file.where("steps", index).file.parent
        return step.params.model_validate(request.params, context={"folder": folder})
    except ValidationError as fault:
        prefix = ("steps", index, request.name)
        raise RecipeError(describe_errors(fault, file.document, step.params, prefix)) from None


def _unknown(name: str, offered: Sequence[Step], registry: Registry, backend: Backend) -> str:
    if reason := getattr(backend, "REFUSED_STEPS", {}).get(name):
        return f"`{name}` {reason}"
    elsewhere = [b.NAME for b in registry.backends.values() if name in (s.name for s in b.STEPS)]
    if elsewhere:
        return (
            f"`{name}` is a step of {', '.join(elsewhere)}, but the device is served by {backend.NAME}. "
            "Remove it or choose another device."
        )
    usable = sorted({step.name for step in offered if not step.accepts.startswith(".")})
    return f"there is no step `{name}`.{suggestion(name, usable)}"


def _misplaced(
    step: Step, current: str, index: int, file: RecipeFile, offered: Sequence[Step]
) -> str:
    makers = [other for other in offered if other.produces == step.accepts and other != step]
    names = {other.name for other in makers}
    later = [request.name for request in file.recipe.steps[index + 1 :] if request.name in names]
    here = [other.name for other in makers if other.accepts == current]
    if later:
        remedy = f"Move it after `{later[0]}`."
    elif here:
        remedy = f"Put `{here[0]}` before it."
    else:
        remedy = "Remove it, or move it to where the model has that format."
    return f"`{step.name}` takes {_a(step.accepts)}, but here the model is {_a(current)}. {remedy}"


def _a(format_: str) -> str:
    return f"{'an' if format_[0] in 'aeiou' or format_.startswith('m') else 'a'} `{format_}`"


def _find_export(file: RecipeFile, backend: Backend, chain: Sequence[Link]) -> int:
    own = [index for index, (step, _, _) in enumerate(chain) if step in backend.STEPS]
    if own and own[-1] == len(chain) - 1:
        return next((i for i in own if chain[i][0].reference), own[0])
    last = chain[-1][0]
    exports = [step.name for step in backend.STEPS if step.accepts == last.produces]
    raise PlanRefused(
        f"{file.where('steps')}: the last step leaves {_a(last.produces)}, which no device runs. "
        f"End with `{exports[0] if exports else 'export'}`."
    )


def _digest_weights(file: RecipeFile, cache: StatCache) -> str:
    model, at = file.recipe.model, file.where("model", "weights")
    if not os.path.isfile(model.weights):  # noqa: PTH113 - unlike Path's, it takes any text
        folder, there = os.path.isdir(model.weights), os.path.exists(model.weights)  # noqa: PTH110, PTH112
        what = "is a folder" if folder else "is a pipe or a device" if there else "does not exist"
        raise ModelError(f"{at}: the weights file {shown(model.weights)} {what}")
    try:
        digest = cache.digest(model.weights)
    except OSError as fault:
        raise ModelError(f"{at}: {shown(model.weights)} cannot be read: {fault.strerror}") from None
    if model.sha256 not in (None, digest):
        raise ModelError(
            f"{file.where('model', 'sha256')}: {shown(model.weights)} has sha256 {digest}, not the pinned one. "
            "Restore the file, or change the pin if the new weights are meant."
        )
    return digest


@dataclass(frozen=True)
class _Identifier:
    file: RecipeFile
    target: Target
    registry: Registry
    view_digests: Mapping[str, str]

    def __call__(self, step: Step, params: Params, at: Position, input_id: str) -> PlannedStep:
        backend = next(b for b in self.registry.backends.values() if step in b.STEPS)
        id_ = digest_of(
            {
                "step": [backend.NAME, step.name, step.revision],
                "params": params.model_dump(mode="json"),
                "input": input_id,
                "imgsz": self.file.recipe.model.imgsz,
                "seed": self.file.recipe.seed,
                "target": described_target(self.target) if backend.DEVICES else None,
                "data": {name: self.view_digests[name] for name in step.needs(params)},
                "versions": _versions(backend, step, params),
            }
        )
        return PlannedStep(backend, step, params, id_, at)


def described_target(target: Target) -> list[Any]:
    """All of a target that a step may read, as plain data."""
    device = target.device
    return [device.name, sorted(device.features), dict(device.options), target.os_version]


def _versions(backend: Backend, step: Step, params: Params) -> dict[str, str]:
    """Those of the backend and the step, and of what decodes and resizes the images it reads."""
    readers = installed(*IMAGE_LIBRARIES) if step.needs(params) else {}
    return {**step.versions(backend), **readers}


def weights_path(plan: Plan) -> Path:
    """The weights file that the first step loads."""
    return plan.file.recipe.model.weights
