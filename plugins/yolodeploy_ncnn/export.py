"""The `export` step: TorchScript through pnnx to a `.param` and a `.bin` file."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field

from yolodeploy.backend import Export
from yolodeploy.compress import carry, layer_named, write_layers
from yolodeploy.errors import EnvironmentProblem, StepFailed
from yolodeploy.system import ImageShape, child_environment
from yolodeploy_ncnn import param_file
from yolodeploy_ncnn.bin_file import BIN_FILE
from yolodeploy_ncnn.decode import keep_fp32
from yolodeploy_ncnn.param_file import PARAM_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from yolodeploy.backend import Artifact, Context, Params
    from yolodeploy.compress import Part
    from yolodeploy_ncnn.param_file import Graph

SCRIPT_FILE = "model.pt"
LOG_LINES = 12


class NcnnExport(Export):
    """Write the model for ncnn, without compression."""

    arithmetic: Literal["auto", "fp32"] = Field(
        default="auto",
        description="How Arm CPUs and GPUs compute the convolutions: auto (ncnn's default: fp16 where the processor "
        "has it, fastest) or fp32 (slower, results as measured on x86).",
    )


def run_export(artifact: Artifact, params: Params, context: Context) -> Path:
    """Convert a checkpoint to ncnn: fp32 or fp16 weights, boxes decoded in fp32.

    Returns a folder with `model.ncnn.param`, `model.ncnn.bin` and `layers.json`, and the learned ranges of
    the model, if it has any; layers with weights bear the names of the checkpoint. Input blob `in0` is `[channels,
    height, width]` in 0..1, output blob `out0` is `[4 + classes + extras, anchors]`, of a classifier `[classes]`; `out1`
    has the prototypes of masks.
    """
    from yolodeploy_torch.model import layer_parts, traced

    options = cast("NcnnExport", params)
    context.progress(0.0, "trace")
    script, parts = traced(artifact.path, context.imgsz), layer_parts(artifact.path)
    script.save(str(context.work / SCRIPT_FILE))
    context.progress(0.5, "convert")
    _convert(context.work, context.imgsz, half=options.precision == "fp16")
    graph = _finished(context, _weights(script, parts))
    on_gpu = context.target.gpu is not None
    graph = keep_fp32(graph, parts, everywhere=options.arithmetic == "fp32", gpu=on_gpu)
    result = context.work / "artifact"
    result.mkdir()
    param_file.write(graph, result / PARAM_FILE)
    (context.work / BIN_FILE).replace(result / BIN_FILE)
    write_layers(result, parts)
    carry(artifact.path, result)
    return result


def _weights(script: Any, parts: Mapping[str, Part]) -> dict[str, list[NDArray[np.float32]]]:
    """The tensors of every layer as ncnn has them, weight before bias, in order of execution."""
    found: dict[str, dict[str, NDArray[np.float32]]] = {name: {} for name in parts}
    for parameter, tensor in script.named_parameters():
        module, _, kind = parameter.rpartition(".")
        if (layer := layer_named(module, parts)) is not None:
            found[layer][kind] = tensor.numpy()
    for module, its in script.named_modules():
        # pnnx puts the outputs of a transposed convolution first, as those of other layers are
        if its.original_name == "ConvTranspose2d" and (layer := layer_named(module, parts)):
            found[layer]["weight"] = found[layer]["weight"].swapaxes(0, 1)
    return {name: [its[k] for k in ("weight", "bias") if k in its] for name, its in found.items()}


def _finished(context: Context, weights: Mapping[str, Sequence[NDArray[np.float32]]]) -> Graph:
    """The graph that pnnx wrote, with the size of its input and the names of its layers."""
    from yolodeploy_ncnn.naming import named
    from yolodeploy_ncnn.runtime import refuse_foreign

    graph = param_file.read(context.work / PARAM_FILE)
    refuse_foreign(graph)
    # pnnx leaves out the width, the height and the channels of the input.
    size = context.imgsz
    shape = {0: str(size.width), 1: str(size.height), 2: str(size.channels)}
    graph = graph.with_params(shape, [graph.producers[graph.input].name])
    return named(graph, (context.work / BIN_FILE).read_bytes(), weights)


def _convert(work: Path, imgsz: ImageShape, *, half: bool) -> None:
    """Run pnnx in `work`; it names its files after the script and writes no paths into them."""
    command = [
        str(_converter()),
        SCRIPT_FILE,
        f"inputshape=[{','.join(map(str, imgsz.batch))}]f32",
        f"fp16={int(half)}",
    ]
    # One thread: constants are folded by libtorch, whose sums may depend on the thread count.
    one_thread = {**child_environment(), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=work, env=one_thread, check=False, text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode != 0 or not (work / BIN_FILE).is_file():
        tail = "\n".join(done.stdout.splitlines()[-LOG_LINES:])
        raise StepFailed(f"pnnx ended with code {done.returncode}. Its last lines:\n{tail}")


def _converter() -> Path:
    """Find the program inside the pnnx wheel; importing the package would import torch for nothing."""
    spec = importlib.util.find_spec("pnnx")
    for folder in (spec and spec.submodule_search_locations) or ():
        for name in ("pnnx", "pnnx.exe"):
            if (program := Path(folder) / name).is_file():
                return program
    raise EnvironmentProblem("the pnnx program is missing. Run: pip install 'yolodeploy[ncnn]'")
