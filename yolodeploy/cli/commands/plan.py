"""`yolodeploy plan`: what a deployment would do, and which results are stored already."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import TYPE_CHECKING, Any

from yolodeploy.cli.common import add_recipe, open_store, print_result
from yolodeploy.system import WIDTH, Console, shown

if TYPE_CHECKING:
    from yolodeploy.planning import Plan

HELP = "show the steps, their ids, and what is cached"
add_options = add_recipe


def run(options: argparse.Namespace, console: Console) -> int:
    """Show the steps in order."""
    from yolodeploy.hosts import LOCAL
    from yolodeploy.measure import evidence_id
    from yolodeploy.planning import plan_recipe, problem_here

    store = open_store(options, console)
    plan = plan_recipe(options.recipe, store.root, options.allow, trusted=options.trusted)
    for text in plan.warnings:
        console.warn(text)
    steps = [
        {
            "name": planned.step.name,
            "backend": planned.backend.NAME,
            "makes": planned.step.produces,
            "params": planned.params.model_dump(mode="json"),
            "id": planned.id,
            "cached": store.peek(planned.id),
        }
        for planned in plan.steps
    ]
    value = {
        "name": plan.file.recipe.name,
        "device": plan.target.device.name,
        **({"gpu": plan.target.gpu} if plan.target.gpu else {}),
        "backend": plan.backend.NAME,
        "imgsz": plan.imgsz.plain,
        "model": _model(plan),
        "warnings": list(plan.warnings),
        "steps": steps,
        "measured": store.peek(evidence_id(plan, LOCAL)),
        "problem": problem_here(plan),
    }
    print_result(console, options, value, _text(plan, value))
    return 0


def _text(plan: Plan, value: dict[str, Any]) -> str:
    data, weights = plan.views["evaluation"], shown(plan.file.recipe.model.weights)
    lines = [
        f"{value['name']}: {weights} -> {plan.target.device.title}{_on_gpu(plan)}, {plan.imgsz} px"
    ]
    for step in value["steps"]:
        params = " ".join(f"{key}={_plain(item)}" for key, item in step["params"].items())
        line = f"  {_state(step['cached'])}  {step['id'][:12]}  {step['name']:<10} -> {step['makes']:<10}"
        fits = len(line) + 1 + len(params) <= WIDTH
        lines += [f"{line} {params}".rstrip()] if fits else [line.rstrip(), *_wrapped(params)]
    lines += [line for text in plan.notes for line in _noted(text)]
    images = f"{len(data)} images of {shown(data.file)}"
    lines.append(f"  {_state(value['measured'])}  {'':<12}  measure    {images}")
    if value["problem"]:
        lines.append(f"  cannot run here: {value['problem']}")
    return "\n".join(lines)


def _model(plan: Plan) -> dict[str, Any] | None:
    """Which head runs, of which, and the classes, of how many; None if the weights cannot be read here."""
    model, facts = plan.model, plan.facts
    if model is None or facts is None:
        return None
    heads = {"head": model.head, "heads": list(facts.heads)}
    return {**heads, "classes": list(model.names), "of": len(facts.names)}


def _on_gpu(plan: Plan) -> str:
    return f", GPU through {plan.target.gpu}" if plan.target.gpu else ""


def _noted(text: str) -> list[str]:
    return textwrap.wrap(f"note: {text}", WIDTH, initial_indent="  ", subsequent_indent="    ")


def _state(cached: object) -> str:
    return "cached  " if cached else "will run"


def _wrapped(text: str) -> list[str]:
    indent = " " * 26
    return textwrap.wrap(text, 80, initial_indent=indent, subsequent_indent=indent)


def _plain(item: object) -> str:
    return json.dumps(item) if not isinstance(item, str) else item
