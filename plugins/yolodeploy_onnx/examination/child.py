"""The child of `examine`: `python -m yolodeploy_onnx.examination.child FOLDER JOB`."""

from __future__ import annotations

import ast
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from yolodeploy.errors import ModelError
from yolodeploy.recipe import Preprocess
from yolodeploy.system import ImageShape, quotable, shown
from yolodeploy_onnx.examination.examine import MODEL, OUTPUTS, REPORT, probe
from yolodeploy_onnx.examination.protobuf import opset, parse, stored_bytes
from yolodeploy_onnx.interface import Model, candidates, prepared, selecting

_OPSET = 11  # older files are converted to it; of later ones every form is read
_MEMORY, _PER_BYTE = 700 << 20, 12  # of data: at least, and per byte of the file
_SECONDS, _PER_MB = 5, 0.5  # of the processor
_GROWTH = 64 << 20  # bytes by which a file may grow, besides twofold
_LARGEST = "64MB"  # of a tensor that constant folding may make
_DEFAULT_SIDE = 640
_SELECTING = {"TopK", "NonMaxSuppression"}
_GREY, _RGB = 1, 3
_CLOSE = 1e-3
# optimizers of onnxsim that make operations of ONNX Runtime's own
_RUNTIMES_OWN = ["fuse_attention", "fuse_multi_head_attention", "fuse_qkv"]
_MOST_CUTS = 12
Floats = NDArray[np.float32]


def main() -> None:
    """Examine a file; exit code 1 and `refusal.txt` if it cannot be used."""
    folder, job = Path(sys.argv[1]), json.loads(sys.argv[2])
    path = Path(job["path"])
    _limit(path)
    try:
        _examine(path, job["sides"], Preprocess.model_validate(job["preprocess"]), folder)
    except ModelError as error:
        (folder / "refusal.txt").write_text(str(error), encoding="utf-8")
        sys.exit(1)
    except MemoryError:
        _refuse(folder, path, "it needs too much memory")
    except Exception as error:  # noqa: BLE001 - onnx, onnxsim and onnxruntime raise many kinds
        text = " ".join(str(error).split())
        _refuse(folder, path, f"{type(error).__name__}: {quotable(text, 200)}")


def _refuse(folder: Path, path: Path, reason: str) -> None:
    text = f"{shown(path)} cannot be used: {reason}."
    (folder / "refusal.txt").write_text(text, encoding="utf-8")
    sys.exit(1)


def _limit(path: Path) -> None:
    """Bound memory and processor time by the size of the file, where the system can."""
    with contextlib.suppress(ImportError):
        import resource

        size = path.stat().st_size
        memory, seconds = _MEMORY + _PER_BYTE * size, int(_SECONDS + _PER_MB * size / 1e6)
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _examine(path: Path, sides: list[int] | None, preprocess: Preprocess, folder: Path) -> None:
    model = parse(path)
    stored = stored_bytes(model)
    onnx.checker.check_model(model)
    widen(model)
    image = _image(model, path)
    channels, height, width = _sides(model, image, sides, path)
    shape = ImageShape(height, width, channels)
    dynamic = not all(_dims(image)[2:])
    simple = _simplified(model, image.name, shape)
    if simple.ByteSize() > 2 * path.stat().st_size + _GROWTH:
        raise ModelError(
            f"{shown(path)} cannot be used: it grows too much when its constants are computed."
        )
    given = prepared(probe(shape), preprocess)
    outputs = _outputs(model, image.name, given)
    _require_equal(outputs, _outputs(simple, image.name, given), simple, path)
    cuts, values = _cuts(simple, image.name, given, shape)
    onnx.save(simple, folder / MODEL)
    found = {f"output{i}": value for i, value in enumerate(outputs)}
    found |= {f"cut{i}": value for i, value in enumerate(values.values())}
    np.savez(folder / OUTPUTS, allow_pickle=False, **found)
    report = {
        "image": image.name,
        "imgsz": [height, width, channels],
        "dynamic": dynamic,
        "names": [output.name for output in model.graph.output],
        "cuts": cuts,
        "cut_values": list(values),
        "stored": stored,
        "metadata": {each.key: each.value for each in model.metadata_props},
    }
    (folder / REPORT).write_text(json.dumps(report))


def _image(model: ModelProto, path: Path) -> Any:
    """The input that takes the images; raises ModelError if there is none, or others beside it."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(quotable(value.name) for value in inputs[:4]) or "none"
        raise ModelError(
            f"{shown(path)} cannot be used: it has {len(inputs)} inputs ({names}), and one is allowed, the images. "
            "Export the network without its post-processing."
        )
    return inputs[0]


def _dims(value: Any) -> list[int]:
    """The dimensions of a value; 0 where one is free."""
    return [max(each.dim_value, 0) for each in value.type.tensor_type.shape.dim]


def _sides(
    model: ModelProto, image: Any, sides: list[int] | None, path: Path
) -> tuple[int, int, int]:
    """Channels, height and width to fix the image to."""
    dims, what = _dims(image), f"{shown(path)} cannot be used: its input {quotable(image.name)}"
    if len(dims) != 4 or dims[1] not in (0, _GREY, _RGB):
        order = " Export it with channels first (NCHW)." if dims[-1:] in ([_GREY], [_RGB]) else ""
        raise ModelError(
            f"{what} has the shape {_readable(dims)}, where [N, 3, H, W] or [N, 1, H, W] is needed.{order}"
        )
    if dims[0] > 1:
        raise ModelError(f"{what} takes {dims[0]} images at a time. Export it for one.")
    if image.type.tensor_type.elem_type != TensorProto.FLOAT:
        raise ModelError(
            f"{what} does not take floating-point numbers. Export it with a float input."
        )
    wanted = sides or [side or hint for side, hint in zip(dims[2:], _hint(model), strict=True)]
    for side, size in zip(dims[2:], wanted, strict=True):
        if side not in (0, size):
            raise ModelError(
                f"{what} takes images of {dims[2]} x {dims[3]} pixels only. Write `imgsz: "
                f"{dims[2] if dims[2] == dims[3] else dims[2:]}`, or export it with dynamic sizes."
            )
    return dims[1] or _RGB, wanted[0], wanted[1]


def _readable(dims: Sequence[int]) -> str:
    return f"[{', '.join(str(size or '?') for size in dims)}]"


def _hint(model: ModelProto) -> list[int]:
    """The size in the metadata, as Ultralytics writes it, else the usual one."""
    text = next((each.value for each in model.metadata_props if each.key == "imgsz"), "")
    with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
        found = ast.literal_eval(text[:100])
        usable = isinstance(found, list) and len(found) == 2
        if usable and all(type(side) is int and 32 <= side <= 4096 for side in found):
            return list(found)
    return [_DEFAULT_SIDE, _DEFAULT_SIDE]


def widen(model: ModelProto) -> None:
    """Turn numbers of 16 and 64 bits into float32, in weights, inputs, outputs and casts."""
    others = (TensorProto.FLOAT16, TensorProto.DOUBLE)
    constants = [a.t for node in model.graph.node for a in node.attribute if a.name == "value"]
    for tensor in [*model.graph.initializer, *constants]:
        if tensor.data_type in others:
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in others:
                attribute.i = TensorProto.FLOAT
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        kind = value.type.tensor_type
        if kind.elem_type in others:
            kind.elem_type = TensorProto.FLOAT


def _simplified(model: ModelProto, image: str, shape: ImageShape) -> ModelProto:
    # It can train with PyTorch, and imports it where that is installed: 500 MB for nothing.
    sys.modules["torch"] = None  # type: ignore[assignment]
    import onnxsim

    options: dict[str, Any] = {"target_opset_version": _OPSET} if opset(model) < _OPSET else {}
    simple, _ = onnxsim.simplify(
        model,
        skipped_optimizers=_RUNTIMES_OWN,
        overwrite_input_shapes={image: list(shape.batch)},
        tensor_size_threshold=_LARGEST,
        inline_functions=False,
        **options,
    )
    del simple.metadata_props[:]
    found: ModelProto = onnx.shape_inference.infer_shapes(simple, strict_mode=False)
    return found


def _outputs(model: ModelProto, image: str, given: Floats) -> list[Floats]:
    """What a model gives for an image, all as float32."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return [np.asarray(value, np.float32) for value in session.run(None, {image: given})]


def _cuts(
    simple: ModelProto, image: str, given: Floats, shape: ImageShape
) -> tuple[list[tuple[str, ...]], dict[str, Floats]]:
    """In what the model could end before it selects from its anchors, and the values; see `cutting`."""
    model = Model(simple, image, shape)
    node = selecting(model)
    if node is None:
        return [], {}
    cuts = candidates(model, node)[:_MOST_CUTS]
    names = list(dict.fromkeys(name for cut in cuts for name in cut))
    longer = ModelProto()
    longer.CopyFrom(simple)
    del longer.graph.output[:]
    longer.graph.output.extend(
        helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names
    )
    found = dict(zip(names, _outputs(longer, image, given), strict=True)) if names else {}
    return cuts, found


def _require_equal(
    before: list[Floats], after: list[Floats], simple: ModelProto, path: Path
) -> None:
    """Raise ModelError if simplifying changed what the model computes, or if it gives no numbers."""
    read = {name for node in simple.graph.node if node.op_type == "Conv" for name in node.input}
    weights = [numpy_helper.to_array(t) for t in simple.graph.initializer if t.name in read]
    if any(not np.isfinite(value).all() for value in (*before, *weights)):
        raise ModelError(
            f"{shown(path)} is broken: it gives NaN or infinity for an ordinary image. Export it again."
        )
    if any(node.op_type in _SELECTING for node in simple.graph.node):
        return  # ties may be broken in another way; what is selected from is compared later
    for one, other in zip(before, after, strict=True):
        if one.shape != other.shape or abs(one - other).max(initial=0) > _CLOSE * (
            1 + abs(one).max(initial=0)
        ):
            raise ModelError(
                f"{shown(path)} cannot be used: onnxsim changes what it computes. Simplify it yourself, or export "
                "it with another opset."
            )


if __name__ == "__main__":
    main()
