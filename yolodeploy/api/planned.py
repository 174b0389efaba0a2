"""`plan`: what a deployment would do, and which results are stored already."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.api.session import PathLike, Session
from yolodeploy.system import WIDTH, ImageShape, shown

if TYPE_CHECKING:
    from rich.text import Text

    from yolodeploy.planning import Plan as Resolved
    from yolodeploy.planning import PlannedStep
    from yolodeploy.store import Store


@dataclass(frozen=True)
class PlanStep:
    """A step of a plan: its parameters, the format that it makes, its id, and whether the store had its result when it was planned."""

    name: str
    backend: str
    makes: str
    params: Mapping[str, Any]
    id: str
    cached: bool


@dataclass(frozen=True, repr=False)
class Plan:
    """What a deployment of a recipe would do. `yolodeploy.deploy` takes it, and refuses it once the recipe would do something else.

    `device` and `gpu` are those of the target, `title` is the device in words, `imgsz` the size of the input in pixels. `model` says which
    head runs, of which, and the classes, of how many (None if nothing here can read the weights). `images` is the number of evaluation
    images, `data` the file of the data set. `measured` says whether the store has the evidence, `problem` why this machine cannot run the
    plan (None: it can). `notes` are what a reader of the figures must know, `warnings` what may not be meant.
    """

    recipe: Path
    name: str
    weights: Path
    device: str
    title: str
    gpu: str | None
    backend: str
    imgsz: ImageShape
    model: Mapping[str, Any] | None
    steps: tuple[PlanStep, ...]
    data: Path
    images: int
    measured: bool
    problem: str | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    session: Session = field(default_factory=Session, compare=False)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the steps; the last one stands for everything that decides the artifact's bytes."""
        return tuple(step.id for step in self.steps)

    def plain(self) -> dict[str, Any]:
        """As plain data, as `yolodeploy plan --json` prints it."""
        return {
            "name": self.name,
            "device": self.device,
            **({"gpu": self.gpu} if self.gpu else {}),
            "backend": self.backend,
            "imgsz": self.imgsz.plain,
            "model": self.model,
            "warnings": list(self.warnings),
            "steps": [asdict(step) for step in self.steps],
            "measured": self.measured,
            "problem": self.problem,
        }

    def __repr__(self) -> str:
        steps = ", ".join(step.name for step in self.steps)
        return f"<Plan {self.name}: {steps} for {self.device}, {self.ids[-1][:12]}>"

    def __str__(self) -> str:
        return _text(self)

    def __rich__(self) -> Text:
        from rich.text import Text

        return Text(str(self))

    def _repr_html_(self) -> str:
        from yolodeploy.api.notebook import head, table, text

        rows = [
            (step.name, step.makes, _said(step.params), step.id[:12], _state(step.cached))
            for step in self.steps
        ]
        images = f"{self.images} images of {shown(self.data)}"
        rows.append(("measure", "", images, "", _state(self.measured)))
        verdict = f"cannot run here: {self.problem}" if self.problem else ""
        top = head(self.name, verdict, f" {self.title}, {self.imgsz} px", good=not self.problem)
        steps = table(("step", "makes", "parameters", "id", ""), rows, left=(1, 2, 3, 4))
        notes = "\n".join((*self.notes, *self.warnings))
        return top + steps + (text(notes) if notes else "")


def plan(recipe: PathLike, *, session: Session | None = None) -> Plan:
    """Plan a recipe; nothing runs, but weights that nobody has read yet are read in a child process.

    Raises RecipeError, PlanRefused, ModelError or DataError for what cannot be deployed.
    """
    from yolodeploy.hosts import LOCAL
    from yolodeploy.measure import evidence_id
    from yolodeploy.planning import problem_here

    session, path = session or Session(), Path(recipe)
    store = session.open_store()
    run = session.run_of("plan", [path])
    with session.planner(store, run) as planner:
        resolved = planner.plan(path)
    for text in resolved.warnings:
        session.console.warn(text)
    if session.console.level >= 1:
        _explain(resolved, store, session)
    steps = tuple(_step(planned, cached=store.peek(planned.id)) for planned in resolved.steps)
    asked, target = resolved.file.recipe, resolved.target
    return Plan(
        recipe=path,
        name=asked.name,
        weights=asked.model.weights,
        device=target.device.name,
        title=target.device.title,
        gpu=target.gpu,
        backend=resolved.backend.NAME,
        imgsz=resolved.imgsz,
        model=_model(resolved),
        steps=steps,
        data=resolved.views["evaluation"].file,
        images=len(resolved.views["evaluation"]),
        measured=store.peek(evidence_id(resolved, LOCAL)),
        problem=problem_here(resolved),
        notes=resolved.notes,
        warnings=resolved.warnings,
        session=session,
    )


def _explain(resolved: Resolved, store: Store, session: Session) -> None:
    from yolodeploy.execution import explain
    from yolodeploy.planning import LockFile

    for line in explain(resolved, store, LockFile.beside(resolved)):
        session.console.detail(line)


def _step(planned: PlannedStep, *, cached: bool) -> PlanStep:
    params = planned.params.model_dump(mode="json")
    step = planned.step
    return PlanStep(step.name, planned.backend.NAME, step.produces, params, planned.id, cached)


def _model(resolved: Resolved) -> dict[str, Any] | None:
    """Which head runs, of which, and the classes, of how many; None if the weights cannot be read here."""
    model, facts = resolved.model, resolved.facts
    if model is None or facts is None:
        return None
    heads = {"head": model.head, "heads": list(facts.heads)}
    return {**heads, "classes": list(model.names), "of": len(facts.names)}


def _text(plan: Plan) -> str:
    """The steps in order, what is cached, and what a reader must know."""
    on_gpu = f", GPU through {plan.gpu}" if plan.gpu else ""
    lines = [f"{plan.name}: {shown(plan.weights)} -> {plan.title}{on_gpu}, {plan.imgsz} px"]
    for step in plan.steps:
        params = _said(step.params)
        line = f"  {_state(step.cached):<8}  {step.id[:12]}  {step.name:<10} -> {step.makes:<10}"
        fits = len(line) + 1 + len(params) <= WIDTH
        lines += [f"{line} {params}".rstrip()] if fits else [line.rstrip(), *_wrapped(params)]
    lines += [line for text in plan.notes for line in _noted(text)]
    images = f"{plan.images} images of {shown(plan.data)}"
    lines.append(f"  {_state(plan.measured):<8}  {'':<12}  measure    {images}")
    if plan.problem:
        lines.append(f"  cannot run here: {plan.problem}")
    return "\n".join(lines)


def _noted(text: str) -> list[str]:
    return textwrap.wrap(f"note: {text}", WIDTH, initial_indent="  ", subsequent_indent="    ")


def _state(cached: object) -> str:
    return "cached" if cached else "will run"


def _wrapped(text: str) -> list[str]:
    indent = " " * 26
    return textwrap.wrap(text, 80, initial_indent=indent, subsequent_indent=indent)


def _said(params: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={_plain(item)}" for key, item in params.items())


def _plain(item: object) -> str:
    return json.dumps(item) if not isinstance(item, str) else item
