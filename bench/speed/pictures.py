"""What pictures, curves and bytes by layer cost: their share of a whole deploy, of many images, and the file's size.

Run as a script it deploys one recipe in its own process, and prints the seconds of all and of each part.
"""

from __future__ import annotations

import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

LIMIT = 0.05  # of a deploy's time
# Where the parts are called from, and their names there.
PARTS = (
    ("yolodeploy.tasks.pictures.taking", "take_pictures"),
    ("yolodeploy.tasks.pictures.picture", "Pictures.encoded"),
    ("yolodeploy.measure.evidence", "_curves"),
    ("yolodeploy.measure.evidence", "_layer_bytes"),
    ("yolodeploy.bundle.bundle", "_copy_pictures"),
)


def pictures(bench: Any) -> None:
    """Whole deploys in empty stores; then what is computed of many images, alone."""
    from common import DEVICES

    recipe = bench.compressed("pictures-int8", DEVICES["intel"], "[export, quantize]")
    shares = []
    for _ in range(bench.options.runs):
        with tempfile.TemporaryDirectory(dir=bench.work) as folder:
            command = [sys.executable, "-m", "bench.speed.pictures", str(recipe), folder]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            size = (Path(folder) / "dist" / recipe.stem / "pictures.json").stat().st_size
        whole = found.pop("all")
        shares.append(sum(found.values()) / whole)
        parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in found.items())
        print(f"{sum(found.values()):.2f} s of {whole:.1f} s: {parts}", flush=True)
    middle = statistics.median(shares)
    print(f"share of a deploy: {middle:.2%} ({len(shares)} runs, limit {LIMIT:.0%})")
    print(f"pictures.json: {size / 1e6:.2f} MB")
    _many()


def _many(images: int = 5000) -> None:
    """CPU seconds for both models with 300 detections per image, about 20 of them confident."""
    import numpy as np
    from measuring import _found, _truth

    from yolodeploy.tasks.detection import Detect

    random = np.random.default_rng(0)
    task = Detect(tuple(map(str, range(80))))
    truths = [_truth(random) for _ in range(images)]
    source, artifact = (
        [replace(each, scores=each.scores**20) for each in (_found(random, t) for t in truths)]
        for _ in range(2)
    )
    for name, compute in (
        ("fidelity of each image", lambda: task.image_fidelity(truths, source, artifact)),
        ("curves", lambda: [task.curves(truths, found) for found in (source, artifact)]),
        ("scores on labels", lambda: list(task.against_labels(truths, source, artifact, 0.9))),
    ):
        start = time.process_time()
        compute()
        print(f"{name} of {images} images: {time.process_time() - start:.2f} CPU s", flush=True)


def _timed(seconds: Counter[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def timed(*values: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*values, **named)
        finally:
            seconds[name] += time.perf_counter() - start

    return timed


def _deploy(recipe: str, folder: str) -> None:
    from yolodeploy.cli import main as cli

    seconds = Counter[str]()
    for module, name in PARTS:
        *owners, last = name.split(".")
        holder: Any = importlib.import_module(module)
        for owner in owners:
            holder = getattr(holder, owner)
        setattr(holder, last, _timed(seconds, last, getattr(holder, last)))
    start = time.perf_counter()
    words = ["deploy", recipe, "--allow", "/", "-q", "--cache", f"{folder}/store"]
    code = cli.main([*words, "--dist", f"{folder}/dist"])
    whole = time.perf_counter() - start
    if code:
        sys.exit(code)
    print(json.dumps({"all": whole, **seconds}))


if __name__ == "__main__":
    _deploy(*sys.argv[1:])
