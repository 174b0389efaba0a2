"""Read the table of layers and the weights off the stand-in objects of a checkpoint.

Every number is read off the objects themselves, so models of any width and depth work.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from yolodeploy_torch.checkpoint.unpickler import Node
from yolodeploy_torch.model import (
    AnyLayer,
    Arch,
    BlockSpec,
    BranchSpec,
    C2fLayer,
    ConcatLayer,
    ConvLayer,
    ConvSpec,
    DetectLayer,
    SppfLayer,
    Unsupported,
    UpsampleLayer,
    structure,
)

MAX_ENTRIES = 20_000  # modules and weights by path from the root; YOLOv8x has 1,153
MAX_DEPTH = 32
_MAX_LEVELS = 16
_NAME = re.compile(r"\w{1,64}")
# Labels are written one to a line, and shown on terminals.
_ODD = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]|.{256}")


def architecture(root: Node) -> Arch:
    """Read the table of a detection model; raises `Unsupported` for anything but YOLOv8."""
    nodes = [node for _, node in modules(root)]
    rows = _children(_child(root, "model", "Sequential"))
    layers = tuple(_layer(node, row) for row, node in enumerate(rows))
    if not layers:
        raise Unsupported("it has no layers")
    arch = Arch(
        eps=_epsilon(nodes),
        names=_names(_get(root, "names", dict | list)),
        reg_max=_get(rows[-1], "reg_max", int),
        strides=_strides(_get(rows[-1], "stride", Tensor)),
        layers=layers,
    )
    structure(arch)  # raises if the numbers do not fit together
    return arch


def weights(root: Node) -> dict[str, Tensor]:
    """Collect the state dict as it is stored; raises `Unsupported` for anything but plain tensors."""
    found: dict[str, Tensor] = {}
    for prefix, node in modules(root):
        named = node.state.get("_non_persistent_buffers_set")
        transient = named if isinstance(named, set) else set()
        tensors = {**_table(node, "_parameters"), **_table(node, "_buffers")}
        for name, tensor in tensors.items():
            if tensor is not None and name not in transient:
                found[f"{prefix}{name}"] = _plain(tensor, f"{prefix}{name}")
    return found


def modules(root: Node) -> Iterator[tuple[str, Node]]:
    """Every module with the prefix of its weights' names.

    Refuses a tree that is deep, or that contains itself: a small file can make one without end.
    """
    pending, count = [("", root)], 0
    while pending:
        prefix, node = pending.pop()
        count += sum(len(_table(node, name)) for name in ("_modules", "_parameters", "_buffers"))
        if count > MAX_ENTRIES or prefix.count(".") > MAX_DEPTH:
            raise Unsupported(
                f"its layers are nested deeper than {MAX_DEPTH}, or it has more than {MAX_ENTRIES:,} layers "
                "and weights"
            )
        yield prefix, node
        children = _table(node, "_modules").items()
        pending += [(f"{prefix}{name}.", child) for name, child in children if child is not None]


def _plain(tensor: object, name: str) -> Tensor:
    if not isinstance(tensor, Tensor) or type(tensor) not in (Tensor, torch.nn.Parameter):
        raise Unsupported(f"its weight {name} is a {type(tensor).__name__}")
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        raise Unsupported(f"its weight {name} is not a plain tensor")
    return tensor.detach()


def _layer(node: Node, row: int) -> AnyLayer:
    sources = _sources(node, row)
    match node.kind:
        case "Conv":
            return ConvLayer(sources=sources, conv=_conv(node))
        case "C2f":
            return _c2f(node, sources)
        case "SPPF":
            return _sppf(node, sources)
        case "Upsample":
            return UpsampleLayer(sources=sources, scale=_scale(node))
        case "Concat" if _get(node, "d", int) == 1:
            return ConcatLayer(sources=sources)
        case "Detect":
            return _detect(node, sources)
    raise Unsupported(f"its layer {row} is a {node.kind}, which YOLOv8 does not have there")


def _sources(node: Node, row: int) -> tuple[int, ...]:
    raw = _get(node, "f", int | list)
    listed = raw if isinstance(raw, list) else [raw]
    if len(listed) > _MAX_LEVELS:
        raise Unsupported(f"its layer {row} reads from more than {_MAX_LEVELS} layers")
    if not all(type(source) is int for source in listed):
        raise Unsupported(f"its layer {row} does not say which layers it reads")
    return tuple(source + row if source < 0 else source for source in listed)


def _c2f(node: Node, sources: tuple[int, ...]) -> C2fLayer:
    half = _get(node, "c", int)
    return C2fLayer(
        sources=sources,
        entry=_conv(_child(node, "cv1", "Conv")),
        split=(half, half),
        blocks=tuple(_block(block) for block in _children(_child(node, "m", "ModuleList"))),
        exit=_conv(_child(node, "cv2", "Conv")),
    )


def _block(node: Node) -> BlockSpec:
    return BlockSpec(
        first=_conv(_child(node, "cv1", "Conv")),
        second=_conv(_child(node, "cv2", "Conv")),
        shortcut=_get(node, "add", bool),
    )


def _sppf(node: Node, sources: tuple[int, ...]) -> SppfLayer:
    pool = _child(node, "m", "MaxPool2d")
    kernel = _get(pool, "kernel_size", int)
    if node.state.get("add", False) is not False or _get(pool, "padding", int) != kernel // 2:
        raise Unsupported("its SPPF layer is not the one of YOLOv8")
    return SppfLayer(
        sources=sources,
        entry=_conv(_child(node, "cv1", "Conv")),
        kernel=kernel,
        # Older checkpoints do not state the number: they pool three times.
        pools=node.state.get("n", 3),
        exit=_conv(_child(node, "cv2", "Conv")),
    )


def _scale(node: Node) -> int:
    scale = _get(node, "scale_factor", int | float)
    if _get(node, "mode", str) != "nearest" or not float(scale).is_integer():
        mode = reprlib.repr(node.state["mode"])
        raise Unsupported(f"it upsamples by {scale} with mode {mode}")
    return int(scale)


def _detect(node: Node, sources: tuple[int, ...]) -> DetectLayer:
    boxes = _children(_child(node, "cv2", "ModuleList"))
    scores = _children(_child(node, "cv3", "ModuleList"))
    if not len(boxes) == len(scores) == len(sources):
        raise Unsupported("its head needs one branch for boxes and one for scores per level")
    return DetectLayer(
        sources=sources,
        boxes=tuple(_branch(branch) for branch in boxes),
        scores=tuple(_branch(branch) for branch in scores),
    )


def _branch(node: Node) -> BranchSpec:
    first, second = _child(node, "0", "Conv"), _child(node, "1", "Conv")
    last = _weight(_child(node, "2", "Conv2d"))
    return BranchSpec(first=_conv(first), second=_conv(second), outputs=last.shape[0])


def _conv(node: Node) -> ConvSpec:
    if "bn" not in _table(node, "_modules"):
        raise Unsupported(
            "its batch normalisation is already fused; use the checkpoint from before that"
        )
    conv = _child(node, "conv", "Conv2d")
    outputs, inputs, kernel, width = _weight(conv).shape
    stride = _pair(conv, "stride")[0]
    expected = {"kernel_size": kernel, "padding": kernel // 2, "dilation": 1, "stride": stride}
    odd = [key for key, value in expected.items() if _pair(conv, key) != (value, value)]
    if _get(conv, "groups", int) != 1:
        odd = ["groups"]
    if odd or width != kernel:
        raise Unsupported(f"a convolution has an unusual {odd[0] if odd else 'kernel'}")
    return ConvSpec(
        inputs=inputs, outputs=outputs, kernel=kernel, stride=stride, act=_activation(node)
    )


def _pair(conv: Node, key: str) -> tuple[int, int]:
    """A pair of whole numbers; an odd type could answer a comparison with anything."""
    value = conv.state.get(key)
    if not isinstance(value, tuple) or [type(number) for number in value] != [int, int]:
        raise Unsupported(f"a convolution has an unusual {key}")
    return value


def _activation(node: Node) -> Any:
    kind = _child(node, "act").kind
    if kind not in {"SiLU", "Identity"}:
        raise Unsupported(f"it uses the activation {kind}, and only SiLU is supported")
    return "silu" if kind == "SiLU" else "none"


def _weight(conv: Node) -> Tensor:
    tensor = _plain(_table(conv, "_parameters").get("weight"), "of a convolution")
    if tensor.ndim != 4:
        raise Unsupported(f"a convolution has weights of shape {tuple(tensor.shape)}")
    return tensor


def _epsilon(modules: list[Node]) -> float:
    found = {_get(node, "eps", float) for node in modules if node.kind == "BatchNorm2d"}
    if len(found) != 1:
        raise Unsupported(f"its batch normalisations use {len(found)} values of eps, not one")
    return float(found.pop())


def _names(raw: dict[object, object] | list[object]) -> tuple[str, ...]:
    table = dict(enumerate(raw)) if isinstance(raw, list) else raw
    if list(table) != list(range(len(table))):
        first = reprlib.repr(list(table)[:5])
        raise Unsupported(f"its class numbers are {first}..., not 0, 1, 2, ...")
    names = tuple(name for name in table.values() if isinstance(name, str))
    if len(names) != len(table) or not names:
        raise Unsupported("its class names are missing, or are not text")
    odd = next((name for name in names if _ODD.search(name)), None)
    if odd is not None:
        raise Unsupported(
            f"its class name {reprlib.repr(odd)} is too long, or has characters that cannot be shown"
        )
    return names


def _strides(tensor: Tensor) -> tuple[int, ...]:
    if _plain(tensor, "stride").numel() > _MAX_LEVELS:
        raise Unsupported(f"it states {tensor.numel()} strides")
    values = [float(value) for value in tensor.flatten().tolist()]
    if not all(value.is_integer() for value in values):
        raise Unsupported(f"it states the strides {values}")
    return tuple(int(value) for value in values)


def _get(node: Node, name: str, kind: Any) -> Any:
    value = node.state.get(name)
    if not isinstance(value, kind):
        raise Unsupported(f"its {node.kind} has no usable `{name}`")
    return value


def _table(node: Node, name: str) -> Mapping[str, Any]:
    if not isinstance(node, Node):
        raise Unsupported(f"it holds a {type(node).__name__} where a layer should be")
    table = node.state.get(name, {})
    if not isinstance(table, dict) or not all(map(_is_name, table)):
        raise Unsupported(f"its {node.kind} is damaged")
    return table


def _is_name(key: object) -> bool:
    return isinstance(key, str) and _NAME.fullmatch(key) is not None


def _child(node: Node, name: str, kind: str = "") -> Node:
    return _checked(node, _table(node, "_modules").get(name), name, kind)


def _children(node: Node) -> list[Node]:
    table = _table(node, "_modules")
    return [_checked(node, table.get(str(index)), str(index)) for index in range(len(table))]


def _checked(node: Node, child: object, name: str, kind: str = "") -> Node:
    if not isinstance(child, Node) or (kind and child.kind != kind):
        found = child.kind if isinstance(child, Node) else "nothing"
        raise Unsupported(f"its {node.kind} has {found} where YOLOv8 has {kind or name}")
    return child
