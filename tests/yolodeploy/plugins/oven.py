"""A second fake target, with a step of its own, that this machine cannot run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from yolodeploy.backend import Artifact, Device, Export, Interface, Params, Predictor, Step, Target

NAME = "oven"
DEVICES: Sequence[Device] = (Device("oven-x", "Oven X", "OvenOS"),)


def bake(*_: object) -> None:
    raise NotImplementedError


STEPS: Sequence[Step] = (
    Step("export", "clay", "loaf", Export, bake),  # type: ignore[arg-type]
    Step("bake", "loaf", "loaf", Params, bake),  # type: ignore[arg-type]
)


def versions() -> Mapping[str, str]:
    return {"oven": "missing"}


def problem() -> str | None:
    return "oven not installed. Run: pip install 'yolodeploy[oven]'"


def refuse(step: Step, params: Params, target: Target) -> str | None:
    return None


def open(artifact: Artifact, target: Target, threads: int) -> Predictor:  # noqa: A001
    raise NotImplementedError


def describe(artifact: Artifact) -> Interface:
    raise NotImplementedError
