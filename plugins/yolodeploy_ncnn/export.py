"""The `export` step: TorchScript through pnnx to a `.param` and a `.bin` file."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from pydantic import Field

from yolodeploy.child import environment
from yolodeploy.errors import EnvironmentProblem, StepFailed
from yolodeploy.transforms import Export
from yolodeploy_ncnn import decode, param
from yolodeploy_torch.ranges import carry

if TYPE_CHECKING:
    from yolodeploy.backend import Artifact, Context
    from yolodeploy.transforms import Params

PARAM_FILE = "model.ncnn.param"
BIN_FILE = "model.ncnn.bin"
SCRIPT_FILE = "model.pt"
LOG_LINES = 12


class NcnnExport(Export):
    """Write the model for ncnn, without compression."""

    arithmetic: Literal["auto", "fp32"] = Field(
        default="auto",
        description="How Arm CPUs compute the convolutions: auto (ncnn's default: fp16 where the CPU "
        "has it, fastest) or fp32 (slower, results as measured on x86).",
    )


def run_export(artifact: Artifact, params: Params, context: Context) -> Path:
    """Convert a checkpoint to ncnn: fp32 or fp16 weights, boxes decoded in fp32.

    Returns a folder with `model.ncnn.param` and `model.ncnn.bin`, and the ranges that the model
    may come with. Input blob `in0` is
    `[3, imgsz, imgsz]` in 0..1, output blob `out0` is `[4 + classes, anchors]`.
    """
    options = cast("NcnnExport", params)
    context.progress(0.0, "trace")
    _trace(artifact.path, context)
    context.progress(0.5, "convert")
    _convert(context.work, context.imgsz, half=options.precision == "fp16")
    result = _collect(context, everywhere=options.arithmetic == "fp32")
    carry(artifact.path, result)
    return result


def _trace(source: Path, context: Context) -> None:
    from yolodeploy_torch.export import traced

    traced(source, context.imgsz).save(str(context.work / SCRIPT_FILE))


def _convert(work: Path, imgsz: int, *, half: bool) -> None:
    """Run pnnx in `work`; it names its files after the script and writes no path into them."""
    command = [
        str(_converter()),
        SCRIPT_FILE,
        f"inputshape=[1,3,{imgsz},{imgsz}]f32",
        f"fp16={int(half)}",
    ]
    # One thread: constants are folded by libtorch, whose sums may depend on the thread count.
    alone = {**environment(), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=work, env=alone, check=False, text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode != 0 or not (work / BIN_FILE).is_file():
        tail = "\n".join(done.stdout.splitlines()[-LOG_LINES:])
        raise StepFailed(f"pnnx ended with code {done.returncode}; its last lines:\n{tail}")


def _converter() -> Path:
    """The program inside the pnnx wheel; importing the package would start torch for nothing."""
    spec = importlib.util.find_spec("pnnx")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for name in ("pnnx", "pnnx.exe"):
            if (program := Path(folder) / name).is_file():
                return program
    raise EnvironmentProblem("The pnnx program is missing. Run: pip install 'yolodeploy[ncnn]'")


def _collect(context: Context, *, everywhere: bool) -> Path:
    """Move the two files that ship into a folder of their own, the graph rewritten."""
    graph = param.read(context.work / PARAM_FILE)
    graph = _declare_input(graph, context.imgsz)
    graph = decode.keep_fp32(graph, everywhere=everywhere)
    result = context.work / "artifact"
    result.mkdir()
    (result / PARAM_FILE).write_bytes(param.write(graph).encode("ascii"))
    (context.work / BIN_FILE).replace(result / BIN_FILE)
    return result


def _declare_input(graph: param.Graph, imgsz: int) -> param.Graph:
    """Write the input's width, height and channels, which pnnx leaves out."""
    shape = {0: str(imgsz), 1: str(imgsz), 2: "3"}
    return param.Graph(
        tuple(
            layer.with_params(shape) if layer.type == "Input" else layer for layer in graph.layers
        )
    )
