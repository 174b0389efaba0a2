"""Times the package of a bundle on an attached iPhone, with the app that coremltools builds for that.

    python time_on_iphone.py dist/ios --team ABCDE12345

**Never run**: written from the API reference of coremltools 9 (`models.ml_program.experimental`), without a Mac or an iPhone
at hand. It needs macOS with Xcode, a developer account (`--team` is the id of its team), a phone in developer mode on a cable,
and coremltools with numpy. coremltools' app takes tensors and no images, so it times a twin of the package: the same program and weights, whose
input is a tensor of pixels.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

UNITS = ("ALL", "CPU_AND_NE", "CPU_AND_GPU", "CPU_ONLY")
RUNS = 100
_DATA = Path("Data", "com.apple.CoreML")


def twin(spec: Any) -> Any:
    """A copy of a `Model` message that takes float32 pixels in 0..255 where it took an image; without suppression behind it."""
    stages = spec.pipeline.models if spec.WhichOneof("Type") == "pipeline" else [spec]
    made = type(spec)()
    made.CopyFrom(next(stage for stage in stages if stage.WhichOneof("Type") == "mlProgram"))
    for feature in made.description.input:
        if feature.type.WhichOneof("Type") == "imageType":
            image = feature.type.imageType
            channels = 1 if image.colorSpace == image.GRAYSCALE else 3
            shape = [1, channels, image.height, image.width]
            feature.type.multiArrayType.shape.extend(shape)
            feature.type.multiArrayType.dataType = feature.type.multiArrayType.FLOAT32
    return made


async def measure(bundle: Path, team: str) -> list[str]:
    """A line for each choice of compute units; SystemExit without a phone."""
    tools: Any = importlib.import_module("coremltools")
    inside = "coremltools.models.ml_program.experimental"
    remote = importlib.import_module(f"{inside}.remote_device")
    perf = importlib.import_module(f"{inside}.perf_utils")
    phones = remote.Device.get_connected_devices(remote.DeviceType.IPHONE)
    if not phones:
        sys.exit("no iPhone is connected. Unlock it, trust this Mac, and turn developer mode on.")
    credentials = remote.AppSigningCredentials(development_team=team)
    phone = await phones[0].prepare_for_model_debugging(credentials)
    contract = json.loads((bundle / "contract.json").read_text(encoding="utf-8"))
    data = bundle / contract["entry"] / _DATA
    spec = twin(tools.proto.Model_pb2.Model.FromString((data / "model.mlmodel").read_bytes()))
    pixels = np.load(bundle / "golden" / "input.npy") * np.float32(255)
    lines = []
    for units in UNITS:
        model = tools.models.MLModel(
            spec,
            weights_dir=str(data / "weights"),
            compute_units=tools.ComputeUnit[units],
            skip_model_load=True,
        )
        benchmark = perf.MLModelBenchmarker(model, phone)
        inputs = {contract["inputs"][0]["name"]: pixels}
        found = await benchmark.benchmark_predict(inputs, iterations=RUNS, warmup=True)
        figures = found.statistics
        lines.append(f"{units:<12} median {figures.median:.2f} ms, least {figures.minimum:.2f} ms")
    return lines


def main() -> None:
    """Print the latencies."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("bundle", type=Path, help="dist/NAME")
    options.add_argument("--team", required=True, help="the id of your developer team")
    chosen = options.parse_args()
    print("\n".join(asyncio.run(measure(chosen.bundle, chosen.team))))
    print("this program has not been tried on an iPhone by those who wrote it")


if __name__ == "__main__":
    main()
