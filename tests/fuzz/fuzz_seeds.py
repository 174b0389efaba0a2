"""Small good files of every kind, which the fuzzing starts from."""

from __future__ import annotations

import json
import shutil
import struct
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from fuzz_parsers import SET, bundle_signer

from yolodeploy.backend import NO_MODEL, Artifact, Context, Target
from yolodeploy.backend.registry import load_registry
from yolodeploy.planning.lock import LockFile, lock_of
from yolodeploy.planning.planner import plan_recipe
from yolodeploy.store.objects import Entry
from yolodeploy.store.remote.tarball import pack
from yolodeploy.store.store import Store
from yolodeploy.system import ImageShape
from yolodeploy.tasks import Picture, Pictures, Shape
from yolodeploy.worker.frames import write_frame
from yolodeploy.worker.machine import described
from yolodeploy.worker.noise import Ratio
from yolodeploy.worker.turns import Timing

SIDE = 32
TARGETS = {"ncnn": "pixel-8", "openvino": "xeon-icelake", "coreml": "iphone-13"}
RECIPE = """\
# a comment
model: {weights: tiny.pt, imgsz: 32}
data:
  path: data.yaml
  evaluation: {split: val, images: 2}
  calibration: {split: train}
  seed: 7
target: {device: iphone-13, os: "17"}
steps:
  - prune: {keep: 0.75, multiple: 8}
  - export: {precision: fp16}
  - palettize: {bits: 6, keep_float: [dfl, decode, head.last, "model.0.*"]}
checks: {size_mb: 3.5, map_drop: 0.02, step_drop: {prune: 0.1}}
"""
PHONE = """\
ro.product.model=Pixel 8
ro.build.version.release=16
ro.product.cpu.abilist=arm64-v8a
system=Linux
machine=aarch64
features=fp asimd asimdhp
core.0=1704000
core.8=2914000
zone=41200
governor=sched_pixel
status= 1
battery.level= 85
battery.temperature= 312
battery.status= 3
"""
HOSTS = """\
# what a project may say
[pi]
kind = "ssh"
address = "pi@raspberrypi.local"
port = 2222
device = "raspberry-pi-5"

[shared]
kind = "ssh"
address = "bench-7"
"""
DATA = (
    "path: .\ntrain: images/train\nval: [images/val, more.txt]\nnames:\n  0: circle\n  1: square\n"
)


def make_seeds(folder: Path, backends: Iterable[str] = TARGETS) -> None:
    """Write all of them into an empty folder; each backend takes some seconds of CPU."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    _write_data(folder)
    _write_results(folder / "results.bin")
    _write_times(folder / "times.bin")
    (folder / "phone.txt").write_text(PHONE, encoding="utf-8")
    _write_checkpoint(folder / "tiny.pt")
    _write_onnx(folder / "small.onnx")
    model = _run("torch", "load", Artifact(".pt", folder / "tiny.pt", ""), folder / "yolo")
    for name in backends:
        _run(name, "export", model, folder / name)
    _write_state(folder)
    (folder / "hosts.toml").write_text(HOSTS, encoding="utf-8")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    age = time.time() - (folder / "tiny.pt").stat().st_mtime
    time.sleep(max(0.0, 2.2 - age))  # digests of younger files are not remembered
    plan = plan_recipe(folder / "recipe.yaml", folder / "store")
    LockFile.beside(plan).replace(lock_of(plan, {}), print)
    store = Store(folder / "store", print)
    stored = store.obtain(Entry("ab" * 32, "seed", "json"), _some_data)
    pack(stored.meta, stored.path, folder / "object.tar")
    _write_bundle(folder / "bundle")
    _write_answers(folder)
    _write_set(folder / "sets" / SET)
    _write_pictures(folder / "pictures.json")


def _write_pictures(file: Path) -> None:
    """One image with a shape of every kind."""
    box = Shape("circle", 0.9, (((1, 1), (9, 1), (9, 9), (1, 9)),), mark="lost")
    pose = Shape("square", None, (), ((1, 2, 3, 4),), ((1, 2), (3, 4)))
    _, jpeg = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))
    about = "a.png", f"sha256:{'0' * 64}", 8, 8, "worst", 0.25, jpeg.tobytes()
    picture = Picture(*about, truth=(pose,), source=(box, box), artifact=())
    file.write_bytes(Pictures("detect", (picture,)).encoded())


def _write_answers(folder: Path) -> None:
    """What a host answers: the bytes of three messages, and what the heads of others may hold."""
    ratio = {"value": 0.5, "low": 0.4, "high": 0.6}
    waits = {"batch": 1, "requests": 4, "threads": 4, "waited": None}
    timing = Timing(
        5.0, 6.0, {"float": 9.0}, {"float": Ratio(**ratio)}, 80.0, 100, 1, "Cortex-A76", 0.01
    )
    about = {"name": "ncnn", "version": "1.0", "device": "Cortex-A76", "note": "computed in fp16"}
    kept = {"distributions": {"ncnn": "1.0"}, "free_bytes": 1 << 30, "kept": ["ab" * 32]}
    answers = {
        "machine": {**described(), **kept},
        "opened": {"runtime": about, "batch": 1},
        "predicted": {"outputs": [{"name": "output", "shape": [2, 6, 4]}]},
        "timing": {
            **asdict(timing),
            "image": ratio,
            "samples_ms": {"": [5.0, 5.5], "float": [9.0]},
            "throughput": {"rate": ratio, "reference": ratio, "ratio": ratio, **waits},
            "climate": {"before": {"celsius": 41.5, "governors": ["schedutil"]}},
        },
    }
    (folder / "answers.json").write_text(json.dumps(answers), encoding="utf-8")
    with (folder / "frames.bin").open("wb") as stream:
        for number, (name, answer) in enumerate(answers.items()):
            if name != "timing":
                write_frame(stream, {"id": number, "result": answer}, [b"\0" * 64, b""])


def runner_job(mode: Literal["predict", "time"]) -> Any:
    """The job of `results.bin`, and of `times.bin`."""
    from yolodeploy_ncnn.runner import Job, JobModel

    model = JobModel("a", "b", "in0", ("out0",))
    return Job("0" * 32, mode, (model,), (3, 8, 8), "images", "u8-chw", 2, rounds=2)


def _write_results(path: Path) -> None:
    """Two outputs [2, 3] between two records of text."""
    records = [(b"META", b"ncnn 1.0\n"), (b"META", b"after.khz.cpu0 1\n")]
    for image in range(2):
        head = struct.pack("<5I", image, 0, 2, 2, 3)
        records.insert(1 + image, (b"OUTP", head + np.ones(6, "<f4").tobytes()))
    _write_records(path, records)


def _write_times(path: Path) -> None:
    """Two bursts of one model."""
    bursts = b"delay counted\nburst 0 0 2.5:0.1 3:0\nburst 1 0 2.5:0 3:0\n"
    _write_records(path, [(b"META", b"peak_memory 5000 kB\n"), (b"TIME", bursts)])


def _write_records(path: Path, records: Sequence[tuple[bytes, bytes]]) -> None:
    data = b"YDRESULT" + struct.pack("<I", 1) + b"0" * 32
    data += b"".join(tag + struct.pack("<Q", len(text)) + text for tag, text in records)
    end = struct.pack("<2I", len(records), zlib.crc32(data))
    path.write_bytes(data + b"END!" + struct.pack("<Q", 8) + end)


def _write_data(folder: Path) -> None:
    rng = np.random.default_rng(3)
    for split, suffixes in (
        ("train", ("png", "jpg")),
        ("val", ("png", "jpg", "bmp", "webp", "tif")),
    ):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        for number, suffix in enumerate(suffixes):
            image = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / "images" / split / f"{number}.{suffix}"), image)
            label = folder / "labels" / split / f"{number}.txt"
            label.write_text("0 0.5 0.5 0.25 0.25\n1 0.1 0.2 0.3 0.4 0.5 0.6\n", encoding="utf-8")
    (folder / "more.txt").write_text("images/val/0.png\nimages/val/1.jpg\n", encoding="utf-8")
    (folder / "data.yaml").write_text(DATA, encoding="utf-8")


def _write_checkpoint(path: Path) -> None:
    from ultralytics.nn.tasks import DetectionModel, yaml_model_load

    table = yaml_model_load("yolov8n.yaml")
    table["scales"] = {"n": [0.33, 0.03, 64]}
    torch.manual_seed(0)
    model = DetectionModel(table, nc=2, verbose=False)
    model.names = {0: "circle", 1: "square"}
    torch.save({"model": model.half(), "ema": None, "epoch": -1, "train_args": {"a": 1}}, path)


def _write_onnx(path: Path) -> None:
    from hostile_onnx_graphs import (
        base,
    )  # beside other tests: the children that read need not find it

    path.write_bytes(base().SerializeToString())


def _run(backend: str, step: str, artifact: Artifact, folder: Path) -> Artifact:
    registry = load_registry()
    found = next(s for s in registry.backends[backend].STEPS if s.name == step)
    device = registry.devices()[TARGETS.get(backend, "iphone-13")]
    work = folder.parent / f"{folder.name}.work"
    work.mkdir()
    target = Target(device, device.os_default)
    context = Context(
        work,
        0,
        ImageShape.square(SIDE),
        1,
        target,
        replace(NO_MODEL, names=("circle", "square")),
        {},
        lambda *_: None,
    )
    shutil.move(found.run(artifact, found.params(), context), folder)
    shutil.rmtree(work, ignore_errors=True)
    return Artifact(found.produces, folder, "")


def _write_state(folder: Path) -> None:
    from yolodeploy_torch.training.state import write_state

    write_state(folder, progress())


def progress() -> Any:
    """A training that has begun."""
    from yolodeploy_torch.training.state import Progress

    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    made = Progress(model, torch.nn.Module(), optimizer)
    made.history.loss.append(1.5)
    made.end_epoch(0, 0.25)
    return made


def _some_data(work: Path) -> Path:
    (work / "data.json").write_text('{"a": [1, 2.5], "b": "text"}', encoding="utf-8")
    return work


def _write_set(file: Path) -> None:
    """A set of evidence with a measure, a check and a climate."""
    from dataclasses import asdict

    from yolodeploy.backend import Place
    from yolodeploy.system.json_files import write_json
    from yolodeploy.tasks import Key, Measure, plain_measures

    place = Place(
        "pi5", "Linux", "arm64", "Pi", "A76", 4, "ncnn", "1.0", on_device=False, reason="no"
    )
    measures = [Measure(Key.MAP50_95, 0.5, 0.4, interval=(0.0, 0.2), count=3)]
    check = {
        "name": "map_drop",
        "limit": 0.1,
        "value": 0.1,
        "verdict": "ok",
        "note": "",
        "doubt": "",
    }
    file.parent.mkdir(parents=True)
    value = {
        "artifact": "a" * 64,
        "device": "n100",
        "recipe": "small",
        "plan": "b" * 64,
        "place": asdict(place),
        "measures": plain_measures(measures),
        "conditions": {"runs": 3, "climate": {"before": {"celsius": 50.1}}},
        "checks": [{**check, "least": False, "interval": [0.0, 0.2], "ok": True}],
        "missing": ["the weather"],
    }
    write_json(file, value)


def _write_bundle(folder: Path) -> None:
    """A signed bundle of nothing, and its lock."""
    from yolodeploy.backend.bundle_files import APP_FILES
    from yolodeploy.bundle.attest.provenance import BuildRecord, statement
    from yolodeploy.bundle.bundle import digests, seal_bundle
    from yolodeploy.bundle.manifest import identify
    from yolodeploy.system.digest import digest_of, file_digest
    from yolodeploy.system.json_files import write_json

    folder.mkdir()
    (folder / "labels.txt").write_text("circle\n", encoding="utf-8")
    (folder / "contract.json").write_text("{}\n", encoding="utf-8")
    step = {"name": "export", "backend": "x", "params": {"precision": "fp16"}, "id": "a" * 64}
    target = {"device": "n100", "os": None, "backend": "x"}
    plan = {
        "recipe": {"model": {"imgsz": SIDE}, "seed": 0},
        "target": target,
        "weights": "b" * 64,
        "data": {},
        "versions": {"x": {}},
        "steps": [step],
    }
    empty: dict[str, Any] = {
        "target": {},
        "versions": {},
        "measures": [],
        "evidence": {},
        "chain": [],
        "checks": [],
    }
    report = {**empty, "name": "bundle", "artifact": {"digest": digest_of({})}, "data": {}}
    lock = {**plan, "lock": 1, "recipe": "bundle", "model": plan["weights"]}
    lock |= {"imgsz": SIDE, "seed": 0, "target": {"device": "n100", "os": None}}
    lock["steps"] = [{**step, "output": digest_of({})}]
    lock["bundle"] = {name: file_digest(folder / name) for name in APP_FILES}
    write_json(folder.with_suffix(".lock"), lock)
    write_json(folder / "plan.json", plan)
    write_json(folder / "report.json", report)
    build = BuildRecord(identify(plan, report), plan, report, digests(folder), {}, 0.0, [])
    write_json(folder / "provenance.json", statement(build))
    seal_bundle(folder, build.id, bundle_signer())
