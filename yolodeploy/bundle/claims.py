"""What a bundle says of itself, for whoever finds one: recipe, target, steps, classes and accuracy."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from yolodeploy.backend import Place
from yolodeploy.bundle.evidence_sets import EvidenceSet
from yolodeploy.bundle.integrity import inspect_bundle
from yolodeploy.errors import VerificationFailed
from yolodeploy.system import shown
from yolodeploy.tasks import Key


class _Target(BaseModel):
    device: str
    title: str
    os: str | None
    gpu: str | None = None


class _Step(BaseModel):
    name: str


class _Model(BaseModel):
    task: str = "detect"
    head: str
    classes: list[str]


class _Measure(BaseModel):
    key: str
    source: float | None
    artifact: float | None


class _Artifact(BaseModel):
    format: str
    bytes: int


class _Conditions(BaseModel):
    place: Place | None = None


class _Report(BaseModel):
    """The parts of report.json that are shown."""

    name: str
    target: _Target
    backend: str
    steps: list[_Step]
    artifact: _Artifact
    measures: list[_Measure]
    model: _Model | None = None
    scores: list[str] = ["map50_95"]
    conditions: _Conditions = _Conditions()


def bundle_claims(folder: Path) -> dict[str, Any]:
    """Read a bundle's claims as plain data, with the problems that `verify` finds; VerificationFailed if it has none.

    The key `problems` is empty if every file is as the manifest lists it.
    """
    found = inspect_bundle(folder)
    try:
        report = _Report.model_validate(found.report)
    except ValidationError as error:
        why = found.problems[0] if found.problems else f"its report lacks {_where(error)}"
        raise VerificationFailed(f"{shown(folder)} is no readable bundle: {why}") from error
    accuracy = next((each for each in report.measures if each.key in report.scores[:1]), None)
    place = report.conditions.place
    return {
        "recipe": report.name,
        "id": found.id,
        "target": report.target.model_dump(),
        "backend": report.backend,
        "steps": [step.name for step in report.steps],
        "format": report.artifact.format,
        "artifact_bytes": report.artifact.bytes,
        "head": report.model.head if report.model else None,
        "classes": report.model.classes if report.model else None,
        "task": report.model.task if report.model else None,
        "accuracy": accuracy and accuracy.model_dump(),
        "place": place and asdict(place),
        "sets": [_claim(each, report.scores[:1]) for each in found.sets],
        "problems": list(found.problems),
    }


def _claim(found: EvidenceSet, primary: list[str]) -> dict[str, Any]:
    """What a set of evidence says, in short."""
    figures = {str(m.key): m.artifact for m in found.measures if not m.group}
    return {
        "place": asdict(found.place),
        "words": found.words(),
        "accuracy": next((figures.get(key) for key in primary), None),
        "latency_ms": figures.get(Key.LATENCY),
        "checks": {check.name: check.verdict for check in found.checks},
    }


def _where(error: ValidationError) -> str:
    return ".".join(str(step) for step in error.errors()[0]["loc"]) or "its table"
