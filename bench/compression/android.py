"""NCNN: `w8` and int8 against the float export, and int8 against ncnn's published calibration."""

from __future__ import annotations

import time
from pathlib import Path

from bench.common import DEVICES, Bench
from bench.compression.judge import Judge, Predict, latency_ratio
from bench.compression.ncnn_reference import Reference
from yolodeploy.data.dataset import load_view
from yolodeploy.recipe.fields import View

IMAGES = 32
STEPS = {
    "fp32": "[{export: {precision: fp32}}]",
    "w8": "[{export: {precision: fp32}}, w8]",
    "int8": "[{export: {precision: fp32}}, quantize]",
    "int8, then w8": "[{export: {precision: fp32}}, quantize, w8]",
}
GOALS = {
    "w8": ".bin 3.4 MB, fidelity 0.98, drop 0.005, latency 1.03",
    "int8": "as below",
    "int8, then w8": ".bin 3.4 MB, fidelity 0.97, drop 0.01, latency 0.87, 30 CPU s",
}


def ncnn(bench: Bench) -> None:
    """Size, accuracy, latency in turns with fp32, and CPU time of what follows the export."""
    folders, times = {}, {}
    for number, (title, steps) in enumerate(STEPS.items()):
        if "then" in title and not _float_left(folders["int8"]):
            continue
        recipe = bench.compressed(f"ncnn-{number}", DEVICES["android"], steps, IMAGES)
        times[title] = bench.build(recipe)
        folders[title] = bench.built(recipe)
    view, imgsz = bench.evaluation(), bench.imgsz
    tensor = next(view.letterboxed(imgsz))
    plain = _opened(folders["fp32"])
    judge = Judge(plain, view, imgsz)

    def show(title: str, folder: Path, seconds: float) -> None:
        predict = _opened(folder)
        latency = latency_ratio(predict, plain, tensor)
        size = (folder / "model.ncnn.bin").stat().st_size / 1e6
        print(f"{title:<30} .bin {size:.3f} MB, {judge(predict)}, latency {latency:.2f} x fp32, ")
        print(f"{'':<30} {seconds:.1f} CPU s. Goal: {GOALS.get(title, 'none')}", flush=True)

    for title in list(folders)[1:]:
        before = times["int8"].cpu if "then" in title else 0
        show(title, folders[title], before + times[title].cpu)
    for title, folder, seconds in _references(bench, folders["fp32"]):
        show(title, folder, seconds)
    print(
        "CPU s of ours: from the finished export on; of the references: both methods. These are a"
    )
    print("reference implementation of ncnn2table's published methods: no wheel ships the tool.")


def _references(bench: Bench, export: Path) -> list[tuple[str, Path, float]]:
    from yolodeploy.backend.contract import Artifact
    from yolodeploy_ncnn import model

    view = load_view(bench.options.data, View(split="train", images=IMAGES), 0)  # as in the recipe
    loaded = model.read(Artifact("ncnn", export, ""))
    dfl = [name for name, place in loaded.places.items() if place.part == "dfl"]
    start = time.process_time()
    made = Reference(loaded, view, bench.imgsz)
    seconds = time.process_time() - start
    found = []
    for method, thresholds in (("KL", made.kl), ("ACIQ", made.aciq)):
        for what, spare in (("all layers", []), ("DFL float", dfl)):
            title = f"reference {method}, {what}"
            folder = bench.work / title.replace(" ", "-").replace(",", "")
            found.append((title, made.write(thresholds, spare, folder), seconds))
    return found


def _float_left(folder: Path) -> bool:
    """Whether the budget left a layer in float, besides the decoding of boxes."""
    from yolodeploy.backend.contract import Artifact
    from yolodeploy_ncnn import model

    forms = list(model.read(Artifact("ncnn", folder, "")).forms().values())
    return forms.count("int8") < len(forms) - 1


def _opened(folder: Path) -> Predict:
    from yolodeploy_ncnn.runtime import NcnnPredictor

    return NcnnPredictor(folder, 1)  # on a busy machine two threads wait for each other
