"""OpenVINO W8A8 against `yolo export format=openvino quantize=8`, and memory of calibration."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.common import DEVICES, Bench
from bench.compression.judge import Judge, Predict, latency_ratio
from bench.process import BIN, Run, in_turns, median, ratio, run
from yolodeploy.data.dataset import load_view
from yolodeploy.recipe.fields import View

IMAGES = 128
SUBSET = 32  # of them, for ranges: docs/decisions/011-openvino-int8.md says what more buy
OFFLINE = {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "false"}


def openvino(bench: Bench) -> None:
    """The five figures of both from one run, then calibration with few and with many images."""
    count = min(IMAGES, len(bench.calibration()))
    images = load_view(bench.options.data, View(split="train", images=count), 0).images
    # the peer calibrates on `val`
    data = data_set(bench, "peer", images, images)
    steps = (
        f"[{{export: {{precision: fp32}}}}, {{quantize: {{subset: {min(SUBSET, len(images))}}}}}]"
    )
    recipe = bench.compressed("openvino-int8", DEVICES["intel"], steps, len(images))
    folders = {"ours": bench.work / "int8-ours", "theirs": bench.work / "int8-theirs"}
    ours, theirs = in_turns(
        bench.options.runs,
        lambda: _ours(bench, recipe, folders["ours"]),
        lambda: _theirs(bench, data, len(images), folders["theirs"]),
    )
    print(f"ours reads {min(SUBSET, len(images))} of the {len(images)} images, theirs all of them")
    for title, runs in (("yolodeploy", ours), ("yolo export", theirs)):
        print(
            f"{title:<12} {median(runs, 'wall'):5.1f} s, {median(runs, 'cpu'):5.1f} CPU s, "
            f"{median(runs, 'peak_mb'):5.0f} MB peak ({len(runs)} runs)"
        )
    _line("build time", ratio(ours, theirs, "wall"), "<= 0.5")
    _line("build CPU time", ratio(ours, theirs, "cpu"), "<= 0.5")
    _artifacts(bench, folders)
    _memory(bench)


def _line(what: str, value: float, goal: str) -> None:
    print(f"{what:<24} ours / theirs {value:.3f} (goal {goal})", flush=True)


def _ours(bench: Bench, recipe: Path, keep: Path) -> Run:
    """Build in an empty store; keep a copy of the artifact."""
    with tempfile.TemporaryDirectory(dir=bench.work) as folder:
        store = Path(folder) / "cache"
        command = [BIN / "yolodeploy", "build", "--allow", "/", recipe, "-q", "--cache", store]
        result = run(command, Path(folder))
        answer = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
        shutil.copytree(json.loads(answer.stdout)["path"], keep, dirs_exist_ok=True)
    return result


def _theirs(bench: Bench, data: Path, images: int, keep: Path) -> Run:
    """Export with the peer, which must say that it calibrates on all of the images."""
    with tempfile.TemporaryDirectory(dir=bench.work) as folder:
        weights = shutil.copy(bench.options.weights, folder)
        command = [BIN / "yolo", "export", f"model={weights}", "format=openvino", "quantize=8"]
        size = f"imgsz={bench.options.imgsz}"
        result = run([*command, size, f"data={data}"], Path(folder), OFFLINE)
        if f"{images}/{images}" not in (Path(folder) / "bench.log").read_text(errors="replace"):
            sys.exit(f"yolo export did not calibrate on {images} images")
        (made,) = Path(folder).glob("*_openvino_model")
        keep.mkdir(exist_ok=True)
        for file in [*made.glob("*.xml"), *made.glob("*.bin")]:
            shutil.copy(file, keep / f"model{file.suffix}")
    return result


def _artifacts(bench: Bench, folders: dict[str, Path]) -> None:
    """Size, latency and accuracy of both, in one process and by one judge."""
    view, imgsz = bench.evaluation(), bench.imgsz
    predict = {name: _opened(folder) for name, folder in folders.items()}
    sizes = {name: sum(f.stat().st_size for f in p.iterdir()) for name, p in folders.items()}
    tensor = next(view.letterboxed(imgsz))
    _line("latency", latency_ratio(predict["ours"], predict["theirs"], tensor, 200), "<= 1.0")
    _line("size", sizes["ours"] / sizes["theirs"], "<= 1.0")
    judge = Judge(_opened(bench.built(bench.recipe("intel", "fp32"))), view, imgsz)
    for name, size in sizes.items():
        print(f"{name:<7} {size / 1e6:.3f} MB, {judge(predict[name])}", flush=True)
    print("goal: mAP50-95 at least theirs - 0.002, fidelity (to the fp32 export) at least theirs")


def _opened(folder: Path) -> Predict:
    from yolodeploy.backend.contract import Target
    from yolodeploy.system.machine import threads
    from yolodeploy_openvino import DEVICES as INTEL
    from yolodeploy_openvino.runtime import OpenVINOPredictor

    device = next(device for device in INTEL if device.name == DEVICES["intel"])
    return OpenVINOPredictor(folder, Target(device), threads())


def _memory(bench: Bench) -> None:
    """Peak memory of calibrating on 64 and on 512 images, the float export being in the store."""
    peaks = {}
    for count in (64, 512):
        images = bench.calibration().images
        images = [images[number % len(images)] for number in range(count)]
        data = data_set(bench, f"calibration-{count}", images, bench.evaluation().images[:1])
        recipe = bench.work / f"calibration-{count}.yaml"
        recipe.write_text(
            f"name: {recipe.stem}\n"
            f"model: {{weights: {bench.options.weights}, imgsz: {bench.options.imgsz}}}\n"
            f"data: {{path: {data}, calibration: {{split: train}}}}\ntarget: {DEVICES['intel']}\n"
            f"steps: [{{export: {{precision: fp32}}}}, {{quantize: {{subset: {count}}}}}]\n"
        )
        peaks[count] = bench.build(recipe).peak_mb
        print(f"quantize with ranges from {count} images: peak {peaks[count]:.0f} MB", flush=True)
    print(f"calibration memory       512 / 64 images {peaks[512] / peaks[64]:.3f} (goal <= 1.1)")


def data_set(bench: Bench, name: str, train: Sequence[Path], val: Sequence[Path]) -> Path:
    """Copy images, under numbered names, and their labels into a data set; return its data.yaml.

    A copy, because the peer leaves a cache beside the labels.
    """
    folder = bench.work / name
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier run with the same --work
    for split, images in (("train", train), ("val", val)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for number, image in enumerate(images):
            target = folder / "images" / split / f"{number:04}-{image.name}"
            shutil.copy(image, target)
            label = Path(str(image.with_suffix(".txt")).replace("/images/", "/labels/"))
            if label.is_file():
                shutil.copy(label, folder / "labels" / split / f"{target.stem}.txt")
    file = folder / "data.yaml"
    names = "".join(f"  {n}: {name}\n" for n, name in enumerate(bench.calibration().names))
    file.write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames:\n{names}")
    return file
