"""Fake target: `export` (clay -> brick) and `press` (brick -> brick, reads calibration images)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import clay
from pydantic import Field

from yolodeploy.backend import (
    Artifact,
    Context,
    Device,
    Export,
    GpuHere,
    Identity,
    Interface,
    Params,
    Predictor,
    Probe,
    Remote,
    Step,
    Target,
    Tensor,
    Trial,
    Worker,
)
from yolodeploy.worker import turns

NAME = "kiln"
WORKER = Worker("brick_worker", requires=("numpy",), pinned=("numpy",))
DEVICES: Sequence[Device] = (
    Device(
        "kiln-a",
        "Kiln A (2021)",
        "KilnOS",
        "3",
        "5",
        frozenset({"fire"}),
        {"heat": 900},
        identity=Identity(names=("kiln-a-*",)),
    ),
    Device(
        "kiln-b",
        "Kiln B (2024)",
        "KilnOS",
        "4",
        None,
        frozenset({"fire", "glaze"}),
        identity=Identity(names=("kiln-b-*",)),
        gpus={"embers": "Ember 7"},
    ),
)


class Press(Params):
    """Press a brick."""

    strength: float = Field(default=0.5, gt=0, le=1, description="How hard.")
    method: Literal["flat", "round"] = "flat"


def export(given: Artifact, params: Params, context: Context) -> Path:
    """clay -> brick."""
    assert isinstance(params, Export)
    clay.ran("export")
    context.progress(0.5, "half way")
    if clay.wants("export:tool-left"):
        tool = subprocess.Popen(
            ["sleep", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        (context.work / "tool").write_text(str(tool.pid), encoding="utf-8")
        clay.ran("tool")
    clay.misbehave("export")
    model = json.loads((given.path / "model.json").read_text(encoding="utf-8"))
    damage = dict(model.get("damage", {}).get(params.precision, {}))
    if model.get("miss"):
        damage["miss"] = [*damage.get("miss", []), *model["miss"]]
    if model.get("echo"):
        damage["echo"] = True
    brick = {
        "names": list(context.names),
        "damage": damage,
        "precision": params.precision,
        "seconds": model.get("seconds", 0.0) * model.get("width", 4),
    }
    if model.get("topk") and (context.head == "one-to-one" or clay.wants("export:rows")):
        brick["rows"] = True
    if params.precision == "fp16" and model.get("batch"):  # the reference takes one image
        brick["batch"] = model["batch"]
    if clay.wants("export:clock"):
        brick["clock"] = int(time.time())
    home = context.work / "brick"
    home.mkdir()
    (home / "brick.json").write_text(json.dumps(brick, sort_keys=True), encoding="utf-8")
    size = int(model.get("padding", 0)) // (2 if params.precision == "fp16" else 1)
    noise = os.urandom(size) if clay.wants("export:random") else b"\0" * size
    (home / "weights.bin").write_bytes(noise)
    return _odd(home)


def _odd(home: Path) -> Path:
    if clay.wants("export:file"):
        return home / "brick.json"
    if clay.wants("export:words"):
        raise RuntimeError("SafeError: I/O error: No space left on device (os error 28)")
    if clay.wants("export:clash"):
        (home / "labels.txt").write_text("mine", encoding="utf-8")
    if link := clay.argument("export:link"):
        (home / "linked").symlink_to(link)
    if clay.wants("export:hollow"):
        (home / "hollow").mkdir()
    if clay.wants("export:empty"):
        for file in home.iterdir():
            file.unlink()
    return Path("/tmp") if clay.wants("export:elsewhere") else home


def press(given: Artifact, params: Params, context: Context) -> Path:
    """brick -> brick."""
    clay.ran("press")
    means = []
    for number, image in enumerate(context.data["calibration"].letterboxed(context.imgsz)):
        means.append(round(float(image.mean()), 6))
        context.progress((number + 1) / len(context.data["calibration"]), "")
    clay.misbehave("press")
    brick = json.loads((given.path / "brick.json").read_text(encoding="utf-8"))
    brick["means"] = means
    (context.work / "brick.json").write_text(json.dumps(brick, sort_keys=True), encoding="utf-8")
    raw = (given.path / "weights.bin").read_bytes()
    (context.work / "weights.bin").write_bytes(raw[: len(raw) // 2])
    return context.work


def probe(given: Artifact, params: Params, context: Context) -> Probe:
    """Three layers: one that changes nothing, one that shifts boxes, one that is blind to red."""
    clay.ran("probe")
    damages: dict[str, dict[str, Any]] = {"a": {}, "b": {"shift": 1.0}, "c": {"miss": ["red"]}}

    def write(trial: Trial, folder: Path) -> None:
        clay.ran(f"alone-{trial.layer}")
        brick = json.loads((given.path / "brick.json").read_text(encoding="utf-8"))
        text = json.dumps({**brick, "damage": damages[trial.layer]})
        (folder / "brick.json").write_text(text, encoding="utf-8")

    trials = tuple(Trial(name, "head", "pressed", 9) for name in damages)
    return Probe(trials, write, {"strength": params.model_dump()["strength"]})


STEPS: Sequence[Step] = (
    Step("export", "clay", "brick", Export, export, reference=lambda p: Export(precision="fp32")),
    Step("press", "brick", "brick", Press, press, reads=("calibration",), probe=probe),
)

REFUSED_STEPS: Mapping[str, str] = {
    "glaze": "gains nothing here: a kiln fires glazed bricks as long as plain ones. Remove it.",
}
REFUSED_PARAMETERS: Mapping[str, Mapping[str, str]] = {
    "press": {"speed": "gains nothing here: a kiln presses at one speed. Remove it."}
}


def versions() -> Mapping[str, str]:
    return {"kiln": os.environ.get("KILN_VERSION", "2.0")}


def problem() -> str | None:
    return os.environ.get("KILN_PROBLEM")


def refuse(step: Step, params: Params, target: Target) -> str | None:
    round_press = step.name == "press" and getattr(params, "method", "") == "round"
    if round_press and "glaze" not in target.device.features:
        return f"{target.device.title} cannot press `round`. Write method: flat."
    return None


def open(artifact: Artifact, target: Target, threads: int) -> Predictor:  # noqa: A001
    timing = "yolodeploy.hosts.timing" in " ".join(sys.orig_argv)
    clay.misbehave("open-worker" if timing else "open")
    if timing:  # as briefly as tests time in their own process
        turns.SETTLE = turns.BURST = 0.0
    return Brick(json.loads((artifact.path / "brick.json").read_text(encoding="utf-8")))


def gpu_here(target: Target) -> GpuHere:
    """An optional member of the contract."""
    if driver := os.environ.get("KILN_GPU"):
        return GpuHere(None, {"driver": driver})
    return GpuHere("no embers glow. Light a fire.")


def remote(artifact: Artifact, target: Target) -> Remote:
    """An optional member of the contract: bricks run elsewhere, too."""
    return Remote(outputs=("raw",), finish=lambda found: found["raw"])


class Server:
    """Two requests at once, each of as many seconds as a run takes, however many images it has."""

    requests = 2

    def __init__(self, brick: Brick) -> None:
        self.batch, self.seconds = brick.batch, brick.seconds

    def __call__(self, images: Any, runs: int) -> float:
        assert images.shape == (self.batch, 3, 64, 64)
        return float(self.seconds * runs / self.requests)


def serve(artifact: Artifact, target: Target, threads: int) -> Server:
    """An optional member of the contract."""
    return Server(Brick(json.loads((artifact.path / "brick.json").read_text(encoding="utf-8"))))


class Brick(clay.Finder):
    def __init__(self, brick: Mapping[str, Any]) -> None:
        super().__init__(brick, brick["damage"])
        self.seconds = brick["seconds"]
        if brick.get("rows"):
            self.layout = "rows"
        self.batch = brick.get("batch", 1)
        if clay.wants("runtime:untimed"):
            self.runtime = replace(self.runtime, timing=False)

    def __call__(self, images: Any) -> Any:
        clay.misbehave("infer")
        time.sleep(self.seconds)
        out = super().__call__(images)
        if clay.wants("infer:nan"):
            out[:, 0, 0] = float("nan")
        if getattr(self, "layout", "anchors") == "rows":
            out = _rows(out)
        if clay.wants("infer:class"):
            out[0, 0, 5] = 7
        return out[:, :-1] if clay.wants("infer:shape") else out


def _rows(outputs: Any) -> Any:
    """As many of the best pairs as there are anchors; of equal scores the last anchor goes first, as in some tools."""
    import numpy as np

    images = []
    for raw in outputs:
        anchors, classes = raw.shape[1], len(raw) - 4
        pairs = [(-raw[4 + c, a], -a, c) for a in range(anchors) for c in range(classes)]
        rows = []
        for score, anchor, cls in sorted(pairs)[:anchors]:
            x, y, w, h = raw[:4, -anchor]
            rows.append((x - w / 2, y - h / 2, x + w / 2, y + h / 2, -score, cls))
        images.append(rows)
    return np.array(images, np.float32)


def describe(artifact: Artifact) -> Interface:
    clay.misbehave("describe")
    brick = json.loads((artifact.path / "brick.json").read_text(encoding="utf-8"))
    return Interface(
        "brick.json",
        (Tensor("image", (brick.get("batch", 1), 3, 64, 64), "float32", "RGB in 0..1"),),
        (Tensor("raw", (1, 7, 8), "float32", "boxes and scores"),),
        1 / 255,
    )
