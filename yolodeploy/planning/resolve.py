"""Turns the names in a recipe into a device and steps, or into a refusal that says what to write."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from pydantic import ValidationError

from yolodeploy.backend import Backend, Device, Params, Registry, Serving, Step, Target
from yolodeploy.errors import PlanRefused, RecipeError
from yolodeploy.recipe import Position, RecipeFile, StepRequest, describe_errors, suggestion
from yolodeploy.system import quotable

_MANY = 20  # devices, more than which a message does not list

ResolvedStep = tuple[
    Step, Params, Position
]  # a step, its parameters, and where the recipe asks for it


def find_target(file: RecipeFile, registry: Registry) -> tuple[Backend, Target]:
    """The backend that ships to the recipe's device, and the device with its OS version."""
    requested, at = file.recipe.target, file.where("target", "device")
    devices, backend = registry.devices(), registry.backend_of(requested.device)
    if backend is None:
        hint = _other_devices(requested.device, registry)
        broken = "".join(f" Plugin `{name}` {reason}." for name, reason in registry.broken.items())
        raise PlanRefused(
            f"{at}: no installed backend ships to `{requested.device}`.{hint}{broken}"
        )
    device = devices[requested.device]
    floor, ceiling = device.os_min, device.os_max
    remedy = None
    if requested.os and not floor and not ceiling:
        remedy = "has no OS versions to choose from. Leave `os` out."
    elif (
        requested.os
        and floor
        and _version(requested.os) < _version(floor)
        and not _runs_older(device)
    ):
        remedy = (
            f"never ran {device.os} {requested.os}; it starts at {floor}. "
            f'Write os: "{floor}" or leave `os` out.'
        )
    elif requested.os and ceiling and _version(requested.os)[:1] > _version(ceiling)[:1]:
        remedy = (
            f"cannot run {device.os} {requested.os}; its last is {ceiling}. "
            f'Write os: "{ceiling}" or an older one.'
        )
    if remedy:
        raise PlanRefused(f"{file.where('target', 'os')}: {device.title} {remedy}")
    _require_gpu(file, registry, device)
    return backend, Target(device, requested.os or device.os_default, requested.gpu)


def _require_gpu(file: RecipeFile, registry: Registry, device: Device) -> None:
    """Raise PlanRefused if the recipe asks for a GPU that the device does not offer."""
    if (gpu := file.recipe.target.gpu) in (None, *device.gpus):
        return
    at, wanted = file.where("target", "gpu"), f"`gpu: {quotable(str(gpu))}`"
    if device.gpus:
        allowed = _either(list(device.gpus))
        raise PlanRefused(f"{at}: {wanted} is not what {device.title} offers. Write {allowed}.")
    others = [each.name for each in registry.devices().values() if gpu in each.gpus]
    reason = device.no_gpu or "offers no GPU to choose"
    hint = f", or target a device that offers it: {_either(others[:3])}" if others else ""
    raise PlanRefused(f"{at}: {wanted}: {device.title} {reason}. Leave `gpu` out{hint}.")


def _other_devices(word: str, registry: Registry) -> str:
    """Close a message about an unknown device: near names, the generic ones beside them, where the rest is."""
    devices = registry.devices()
    near = difflib.get_close_matches(word.lower(), devices, n=3, cutoff=0.6)
    systems = {devices[name].os for name in near or devices}
    generic = [
        d.name for d in devices.values() if d.generic and d.os in systems and d.name not in near
    ]
    hint = f" Perhaps you meant {_either(near)}." if near else ""
    if generic:
        hint += f" Generic: {_either(generic)}."
    if len(devices) > _MANY:
        return f"{hint} `yolodeploy devices` lists all {len(devices)}."
    return f"{hint} Allowed: {', '.join(devices)}." if devices else hint


def _either(names: Sequence[str]) -> str:
    quoted = [f"`{name}`" for name in names]
    return " or ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))


def _runs_older(device: Device) -> bool:
    """Whether the device runs artifacts for systems older than its first; the backend says how old."""
    first, default = device.os_min, device.os_default
    return bool(first and default) and _version(str(default)) < _version(str(first))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall("[0-9]+", text))


def resolve_steps(
    file: RecipeFile, registry: Registry, backend: Backend, target: Target, loader: ResolvedStep
) -> list[ResolvedStep]:
    """The step that loads the weights and the recipe's steps; each takes the format that the one before leaves."""
    offered = [step for _, step in registry.offered(backend)]
    resolved = [loader]
    for index, request in enumerate(file.recipe.steps):
        at = file.where("steps", index)
        named = [step for step in offered if step.name == request.name]
        if not named:
            raise PlanRefused(f"{at}: {_unknown(request.name, offered, registry, backend)}")
        current = resolved[-1][0].produces
        fitting = [step for step in named if step.accepts == current]
        if not fitting:
            raise PlanRefused(f"{at}: {_misplaced(named[0], current, index, file, offered)}")
        _require_wanted(file, index, request, fitting[0], backend)
        resolved.append((fitting[0], _params(file, index, request, fitting[0]), at))
    _require_accepted(resolved, backend, target)
    return resolved


def _require_wanted(
    file: RecipeFile, index: int, request: StepRequest, step: Step, backend: Backend
) -> None:
    """Raise PlanRefused for a parameter that other backends have, and that gains nothing in this one."""
    refused = getattr(backend, "REFUSED_PARAMETERS", {}).get(step.name, {})
    for name in request.params:
        if name in refused:
            at = file.where("steps", index, step.name, name)
            raise PlanRefused(f"{at}: `{name}` {refused[name]}")


def _require_accepted(resolved: Sequence[ResolvedStep], backend: Backend, target: Target) -> None:
    """Raise PlanRefused if the backend refuses a step, or a step the steps that follow it."""
    for number, (step, params, at) in enumerate(resolved):
        reason = backend.refuse(step, params, target) if step in backend.STEPS else None
        if step.then and not reason:
            reason = step.then(params, [(later, its) for later, its, _ in resolved[number + 1 :]])
        if reason:
            raise PlanRefused(f"{at}: {reason}")


def find_export(file: RecipeFile, backend: Backend, resolved: Sequence[ResolvedStep]) -> int:
    """Index of the step that exports; PlanRefused if the last step is not the backend's."""
    own = [index for index, (step, _, _) in enumerate(resolved) if step in backend.STEPS]
    if own and own[-1] == len(resolved) - 1:
        return next((i for i in own if resolved[i][0].reference), own[0])
    last = resolved[-1][0]
    exports = [step.name for step in backend.STEPS if step.accepts == last.produces]
    raise PlanRefused(
        f"{file.where('steps')}: the last step leaves {_with_article(last.produces)}, which no device runs. "
        f"End with `{exports[0] if exports else 'export'}`."
    )


def refuse_unknown_checks(
    file: RecipeFile, backend: Backend, resolved: Sequence[ResolvedStep]
) -> None:
    """Raise PlanRefused if a check names a step that the recipe does not have, or cannot be measured."""
    names = [step.name for step, _, _ in resolved[1:]]
    checks = file.recipe.checks
    drops = checks.map_drop, checks.top1_drop, checks.class_ap_drop
    if checks.confidence and drops == (None, None, None):
        raise PlanRefused(
            f"{file.where('checks', 'confidence')}: `confidence` decides `map_drop`, `top1_drop` and `class_ap_drop`, and "
            "the recipe checks none of them. Add one, or remove it."
        )
    if checks.throughput_ratio is not None and not isinstance(backend, Serving):
        raise PlanRefused(
            f"{file.where('checks', 'throughput_ratio')}: `throughput_ratio` compares images per second with several "
            f"requests in flight, and {backend.NAME} works on one at a time. Check `latency_ratio` instead, or remove it."
        )
    for name in checks.step_drop or ():
        if name not in names:
            raise PlanRefused(
                f"{file.where('checks', 'step_drop', name)}: `step_drop` names `{name}`, which is not a step "
                f"of this recipe.{suggestion(name, dict.fromkeys(names))}"
            )


def refuse_checks_of_other_tasks(file: RecipeFile, task: str) -> None:
    """Raise PlanRefused if a check measures what a model of this task does not have."""
    wanted, other = ("top1_drop", "map_drop") if task == "classify" else ("map_drop", "top1_drop")
    if getattr(file.recipe.checks, other) is not None:
        raise PlanRefused(
            f"{file.where('checks', other)}: a model for `{task}` has no {'mAP' if task == 'classify' else 'top-1 accuracy'} to lose. "
            f"Write `{wanted}` instead."
        )


def _params(file: RecipeFile, index: int, request: StepRequest, step: Step) -> Params:
    try:
        folder = file.where("steps", index).file.parent
        return step.params.model_validate(request.params, context={"folder": folder})
    except ValidationError as error:
        prefix = ("steps", index, request.name)
        raise RecipeError(describe_errors(error, file.document, step.params, prefix)) from None


def _unknown(name: str, offered: Sequence[Step], registry: Registry, backend: Backend) -> str:
    if reason := getattr(backend, "REFUSED_STEPS", {}).get(name):
        return f"`{name}` {reason}"
    owners = [b.NAME for b in registry.backends.values() if name in (s.name for s in b.STEPS)]
    if owners:
        return (
            f"`{name}` is a step of {', '.join(owners)}, but the device is served by {backend.NAME}. "
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
    return f"`{step.name}` takes {_with_article(step.accepts)}, but here the model is {_with_article(current)}. {remedy}"


def _with_article(format_: str) -> str:
    return f"{'an' if format_[0] in 'aeiou' or format_.startswith('m') else 'a'} `{format_}`"
