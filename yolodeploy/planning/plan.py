"""What a build will do: the steps in order with their ids, and the digests of the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolodeploy.backend import (
    Accelerated,
    Backend,
    GpuHere,
    ModelInfo,
    Params,
    Step,
    Target,
    problem_of,
)
from yolodeploy.data import Dataset
from yolodeploy.errors import EnvironmentProblem
from yolodeploy.planning.facts import size_note, size_warning
from yolodeploy.planning.model_choice import loaded, model_notes
from yolodeploy.recipe import Position, RecipeFile
from yolodeploy.system import ImageShape, installed

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
        return step_versions(self.backend, self.step, self.params)

    @property
    def varies(self) -> str | None:
        """Why another run of this step may give other bytes; None if it gives the same."""
        return self.step.varies(self.params) if self.step.varies else None

    @property
    def loads_weights(self) -> bool:
        """Whether the step reads the weights file, not the result of another step."""
        return self.step.accepts.startswith(".")

    @property
    def data(self) -> tuple[str, ...]:
        """The data views that the step reads."""
        return self.step.needs(self.params)


@dataclass(frozen=True)
class Plan:
    """Everything that a build does, in order.

    `steps[0]` loads the weights, `steps[export]` exports the model. `floats` are the plain float exports that
    latencies are compared with, by index of the step whose result they export; results in a format that the
    export does not take have none. `views` are the data views by name ("evaluation", "calibration",
    "training"), `view_digests` their digests. `imgsz` is the size of the input in pixels. `facts` are
    what the weights say of their model (None if the plugin that loads them reads none, or cannot run here):
    all classes and heads, of which `model` has those that the recipe keeps.
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
    imgsz: ImageShape
    facts: ModelInfo | None = None

    @property
    def final(self) -> PlannedStep:
        """The step whose result ships."""
        return self.steps[-1]

    @property
    def reference(self) -> PlannedStep:
        """The plain float export of the model that `steps[export]` exports."""
        return self.floats[self.export - 1]

    @property
    def model(self) -> ModelInfo | None:
        """The model as the first step loads it: with the head that runs, and the classes that stay."""
        return loaded(self.facts, self.steps[0].params) if self.facts else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the figures must know about model and data, one sentence each."""
        found = [size_note(self.facts, self.imgsz)]
        if self.steps[0].step.executes:
            found.append(
                f"the weights file was trusted, and the {self.steps[0].backend.NAME} loader executes it and the "
                "modules that it names"
            )
        view = self.views["evaluation"]
        if view.merged:
            several = f"{view.merged} are measured as one," if view.merged > 1 else "one is called"
            found.append(
                "the model was trained with all classes taken for one (`single_cls`), so the data set's "
                f"{several} `{view.names[0]}`"
            )
        if self.facts and self.model:
            found += model_notes(self.facts, self.model)
        if left_out := view.counts.left_out:
            found.append(
                f"{left_out} images of other classes are left out of the evaluation"
                if view.place
                else f"{left_out} labelled objects of other classes are left out of the evaluation, and images that show "
                "only such objects count as background"
            )
        return tuple(filter(None, found))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What may not be meant, one sentence or two each."""
        found = size_warning(self.file, self.facts, self.imgsz)
        return (found,) if found else ()

    @property
    def weights(self) -> Path:
        """The weights file that the first step loads."""
        return self.file.recipe.model.weights

    def versions(self) -> dict[str, dict[str, str]]:
        """Tool versions of the steps, by backend."""
        found: dict[str, dict[str, str]] = {}
        for planned in self.steps:
            found.setdefault(planned.backend.NAME, {}).update(planned.versions)
        return dict(sorted(found.items()))


def described_target(target: Target) -> list[Any]:
    """Everything about a target that a step may read, as plain data."""
    device = target.device
    gpu = [target.gpu] if target.gpu else []
    return [device.name, sorted(device.features), dict(device.options), target.os_version, *gpu]


def named_target(target: Target) -> dict[str, str | None]:
    """A target as locks and bundles name it; one without `gpu` as they did before there was that."""
    gpu = {"gpu": target.gpu} if target.gpu else {}
    return {"device": target.device.name, "os": target.os_version, **gpu}


def step_versions(backend: Backend, step: Step, params: Params) -> dict[str, str]:
    """Versions of the tools of a backend and a step, and of the image libraries if the step reads images."""
    readers = installed(*IMAGE_LIBRARIES) if step.needs(params) else {}
    return {**step.versions(backend), **readers}


def problem_here(plan: Plan) -> str | None:
    """Why this machine cannot run the plan, with the remedy; None if it can."""
    backends = {planned.backend.NAME: planned.backend for planned in plan.steps}
    problem = next((text for text in map(problem_of, backends.values()) if text), None)
    return problem or gpu_here(plan).problem


def gpu_here(plan: Plan) -> GpuHere:
    """What this machine has in place of the GPU that the recipe asks for, if it asks for one."""
    if plan.target.gpu is None or not isinstance(plan.backend, Accelerated):
        return GpuHere()
    return plan.backend.gpu_here(plan.target)


def require_gpu(plan: Plan) -> None:
    """Raise EnvironmentProblem if the recipe asks for a GPU and this machine has nothing to measure with in its place."""
    if problem := gpu_here(plan).problem:
        at = plan.file.where("target", "gpu")
        raise EnvironmentProblem(
            f"{at}: `gpu: {plan.target.gpu}` cannot be measured here: {problem}"
        )
