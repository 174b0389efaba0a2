"""Which classes and functions a pickle may name, and what the others say of a checkpoint.

The reader runs nothing, whatever a name stands for. A name decides what becomes of it: an inert one makes plain
data or a stand-in, a layer makes a stand-in, and any other makes the file refused. Whoever opens
such a file with a reader that does look names up may run what they stand for, so the user is told.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from yolodeploy.system import quotable
from yolodeploy_torch.checkpoint.unpickler import Node

# The layers of models: blocks, and what they are made of.
_BLOCKS = (
    "A2C2f", "AAttn", "ABlock", "ADown", "AConv", "Attention", "Bottleneck", "C2", "C2PSA", "C2f", "C2fCIB", "C3",
    "C3Ghost", "C3k", "C3k2", "CBFuse", "CBLinear", "CIB", "DFL", "ELAN1", "GhostBottleneck", "PSA", "PSABlock",
    "Proto", "Proto26", "RealNVP", "RepBottleneck", "RepCSP", "RepNCSPELAN4", "RepVGGDW", "SCDown", "SPP", "SPPELAN",
    "SPPF", "Silence",
)  # fmt: skip
# The class of a whole model; the second is that of YOLOv10's own repository, a copy of Ultralytics 8.1.
MODELS = (
    "DetectionModel", "YOLOv10DetectionModel", "SegmentationModel", "PoseModel", "OBBModel", "ClassificationModel",
)  # fmt: skip
_UNITS = ("Concat", "Conv", "DWConv", "GhostConv", "RepConv")
_HEADS = (
    "Classify", "Detect", "OBB", "OBB26", "Pose", "Pose26", "Segment", "Segment26", "v10Detect",
)  # fmt: skip
_MODULES = {
    "torch.nn.modules.activation": ("Hardswish", "LeakyReLU", "ReLU", "SiLU", "Tanh"),
    "torch.nn.modules.batchnorm": ("BatchNorm2d",),
    "torch.nn.modules.container": ("ModuleList", "Sequential"),
    "torch.nn.modules.conv": ("Conv2d", "ConvTranspose2d"),
    "torch.nn.modules.dropout": ("Dropout",),
    "torch.nn.modules.linear": ("Identity", "Linear"),
    "torch.nn.modules.pooling": ("AdaptiveAvgPool2d", "MaxPool2d"),
    "torch.nn.modules.upsampling": ("Upsample",),
    "torch.nn.parallel.data_parallel": ("DataParallel",),
    "torch.nn.parallel.distributed": ("DistributedDataParallel",),
    "ultralytics.nn.tasks": MODELS,
    "ultralytics.nn.modules.block": _BLOCKS,
    "ultralytics.nn.modules.conv": _UNITS,
    "ultralytics.nn.modules.head": _HEADS,
    # Up to Ultralytics 8.0.9x all layers were in one module.
    "ultralytics.nn.modules": (*_BLOCKS, *_UNITS, *_HEADS),
}
KNOWN = frozenset(name for names in _MODULES.values() for name in names)

# What else checkpoints hold beside the model: settings, paths, dates, scores, losses, optimizers.
_COMPANIONS = (
    r"argparse\.Namespace|types\.SimpleNamespace|typing\.Any|uuid\.UUID|decimal\.Decimal|fractions\.Fraction"
    r"|builtins\.(bool|bytearray|complex|float|int|long|object|range|slice|str|type|unicode|xrange)"
    r"|datetime\.(date|datetime|time|timedelta|timezone)"
    r"|pathlib(\._\w+)?\.(Pure)?(Posix|Windows)?Path"
    r"|numpy\.(ndarray|matrix|dtype|dtypes\.\w+DType|str_|bytes_|object_|(bool|u?int|float|complex)\d*_?)"
    r"|numpy\._?core\.multiarray\.(scalar|_reconstruct)|numpy\._?core\.numeric\._frombuffer"
    r"|numpy\.ma(\.core)?\.(MaskedArray|_mareconstruct)"
    r"|numpy\.random\.(_pickle\.__\w+_ctor|_\w+\.(MT19937|PCG64|PCG64DXSM|Philox|SFC64))"
    r"|numpy\.random\.bit_generator\.(SeedSequence|__pyx_unpickle_SeedSequence)"
    r"|torch\.(device|serialization\._get_layout|optim\.(\w+\.)?[A-Z]\w*)"
    r"|torch\.(cuda\.)?amp\.grad_scaler\.(GradScaler|OptState|_refresh_per_optimizer_state)"
    r"|torch\.nn\.parallel\.distributed\._[A-Z]\w*|torch\.distributed\.algorithms\.join\._JoinConfig"
    r"|torch\.nn\.modules\.loss\.\w+Loss"
    r"|omegaconf\.(base|dictconfig|listconfig|nodes)\.[A-Z]\w*"
    r"|ultralytics\.(yolo\.)?utils\.(IterableSimpleNamespace|SimpleClass|torch_utils\.ModelEMA)"
    r"|ultralytics\.(yolo\.)?utils\.(loss|tal)\.\w*(Loss|Assigner)"
    r"|ultralytics\.yolo\.v8\.\w+\.train\.\w*Loss"
)
_INERT = re.compile(_COMPANIONS)
_LAYER = re.compile(
    r"(ultralytics\.nn|torch\.nn\.modules|torchvision\.(models|ops)|timm\.(layers|models))"
    r"(\.\w+)*\.([A-Z]\w*|v10Detect)|torch\.nn\.functional\.\w+"
)
_CLASS = re.compile(r"\w+(\.\w+)*\.[A-Z]\w*")
_LIBRARIES = {"torch", "torchvision", "numpy", "ultralytics", *sys.stdlib_module_names}

# What `fuse()` adds to a model, and what `torch.compile()` adds besides.
_FUSING = "builtins.getattr"
_COMPILING = ("torch._dynamo.", "torch._TorchCompile", "contextlib.nullcontext")

# Programs whose checkpoints are met, by how their classes' names begin.
_YOLOV5 = "YOLOv5's own repository"
_PROGRAMS = {
    **dict.fromkeys(("models.yolo", "models.common", "models.experimental"), _YOLOV5),
    "yolov6": "YOLOv6's own repository",
    "yolox": "YOLOX",
    "super_gradients": "SuperGradients (YOLO-NAS)",
    "mmengine": "OpenMMLab",
    "mmdet": "OpenMMLab",
    "mmyolo": "OpenMMLab",
    "detectron2": "Detectron2",
    "rfdetr": "RF-DETR",
    "transformers": "Hugging Face Transformers",
}
_BLOCKS_OF_REPOSITORIES = {
    "RepNCSPELAN4": "YOLOv9's own repository",
    "RepConv": "YOLOv7's own repository",
    "MP": "YOLOv7's own repository",
    "SPPCSPC": "YOLOv7's own repository",
}


# The way on for whoever wrote a layer: the plugin `ultralytics`.
OWN_LAYERS = (
    "If the layers are your own, write `loader: ultralytics` beside `weights` and add --trust-weights, which executes the "
    "file."
)
_TRUST = "Open this file elsewhere only if you trust where it comes from."


def another_program(name: str) -> str:
    """Why a checkpoint of another program is refused, as the rest of a sentence about the file."""
    return (
        f"is a checkpoint of {name}. This version reads those of Ultralytics: train a YOLO detection model on "
        "the same data, for example from yolov8n.pt."
    )


def inert(name: str) -> Callable[..., Node] | None:
    """What makes the stand-in of a known layer or of plain data; None for another name."""
    if name in _STAND_INS or _INERT.fullmatch(name):
        return functools.partial(_node, name.rpartition(".")[2])
    return None


def _node(kind: str, *_: object) -> Node:
    return Node(kind)


_STAND_INS = frozenset(f"{module}.{name}" for module, names in _MODULES.items() for name in names)


@dataclass(frozen=True)
class Names:
    """The names of a pickle that are not inert.

    `unsafe` could run something in another reader. `foreign` are plain classes of other programs, `made`
    those of them that the pickle calls with arguments, as it does with every enum.
    """

    unsafe: tuple[str, ...]
    foreign: tuple[str, ...]
    made: tuple[str, ...]

    @classmethod
    def of(cls, unknown: Iterable[str], called: Iterable[str]) -> Names:
        """Sort the unknown names; `called` are those that the pickle calls with arguments or as functions.

        A layer is left out if it is only made; one that is called may load a file, for example.
        """
        ran = frozenset(called)
        others = sorted(name for name in unknown if name in ran or not _LAYER.fullmatch(name))
        made = tuple(name for name in others if name in ran and _is_made(name))
        foreign = tuple(
            name for name in others if name in made or (name not in ran and _is_foreign_class(name))
        )
        return cls(tuple(name for name in others if name not in foreign), foreign, made)

    def problem(self) -> str | None:
        """Why a file with these names is refused, as the rest of a sentence about it; None if it is not."""
        if self.unsafe:
            return (
                f"asks to run {_quoted(self.unsafe)}, which a checkpoint never "
                f"needs; nothing was run. If you trained it yourself, save it again {self._before()}with "
                "Ultralytics' `model.save()`; if not, do not open it with any tool."
            )
        if not self.foreign:
            return None
        if program := _program(self.foreign):
            return another_program(program) + (f" {_TRUST}" if self.made else "")
        return (
            f"needs {_quoted(self.foreign)} of another program, which yolodeploy does not have; nothing was run. "
            f"Train a model of Ultralytics' own layers, for example from yolov8n.pt. {OWN_LAYERS} {_TRUST}"
        )

    def _before(self) -> str:
        if not all(name.startswith((_FUSING, *_COMPILING)) for name in self.unsafe):
            return ""
        what = "fuse()" if self.unsafe == (_FUSING,) else "torch.compile()"
        return f"before `{what}`, which adds this, "


def _is_foreign_class(name: str) -> bool:
    """Whether a name looks like a class of a program, not of Python or a library that can do harm."""
    return _CLASS.fullmatch(name) is not None and name.partition(".")[0] not in _LIBRARIES


def _is_made(name: str) -> bool:
    """Whether a called name is a class of a known program, and not what its modules import from elsewhere."""
    imported = _LIBRARIES.intersection(name.split("."))
    return _is_foreign_class(name) and _known_program(name) is not None and not imported


def _known_program(name: str) -> str | None:
    first, second, *_ = [*name.split("."), ""]
    return _PROGRAMS.get(f"{first}.{second}") or _PROGRAMS.get(first)


def _program(names: Iterable[str]) -> str | None:
    listed = list(names)
    found = next(filter(None, map(_known_program, listed)), None)
    if found != _YOLOV5:
        return found
    blocks = (_BLOCKS_OF_REPOSITORIES.get(name.rpartition(".")[2]) for name in listed)
    return next(filter(None, blocks), found)


def _quoted(names: Iterable[str]) -> str:
    listed = list(names)
    shown = ", ".join(f"`{quotable(name)}`" for name in listed[:3])
    return shown if len(listed) <= 3 else f"{shown} and {len(listed) - 3} more"
