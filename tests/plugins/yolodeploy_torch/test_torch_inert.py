"""What checkpoints of every Python, library and program hold: plain data loads, other programs are named.

Names that are not installed here are written into the pickle by hand; nothing is looked up anyway.
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import re
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from pickles import call, named, number, several, table, text, thing, whole, zipped
from real_model import DEMO

from yolodeploy.errors import ModelError
from yolodeploy_torch.checkpoint import facts, read_checkpoint_model


def extended(path: Path, *values: bytes, arguments: bytes = b"", change=lambda data: data) -> Path:
    """The demo checkpoint with more values in its dictionary, and other training arguments."""
    more = b"".join(text(f"extra{n}") + value + b"s" for n, value in enumerate(values))
    more += text("train_args") + arguments + b"s" if arguments else b""
    with zipfile.ZipFile(DEMO) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename.endswith("/data.pkl"):
                assert data.endswith(b".")
                data = change(data)[:-1] + more + b"."
            new.writestr(entry.filename, data)
    return path


def omega(**values: bytes) -> bytes:
    """A DictConfig as OmegaConf 2.x pickles it: nodes in `_content`, metadata with types."""
    nodes = [
        (text(k), thing(named("omegaconf.nodes", "AnyNode"), (text("_val"), v)))
        for k, v in values.items()
    ]
    types_ = [
        (text("ref_type"), named("typing", "Any")),
        (text("object_type"), named("__builtin__", "dict")),
    ]
    cache = call(named("collections", "defaultdict"), named("__builtin__", "dict"))
    meta = thing(
        named("omegaconf.base", "ContainerMetadata"), *types_, (text("resolver_cache"), cache)
    )
    content = (text("_content"), table(*nodes))
    return thing(named("omegaconf.dictconfig", "DictConfig"), (text("_metadata"), meta), content)


def test_plain_data_by_any_name_is_inert(tmp_path: Path) -> None:
    here = [text("/"), text("runs")]
    paths = [
        call(named(module, kind), *here)
        for module in ("pathlib", "pathlib._local")
        for kind in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path")
    ]
    old_numpy = call(
        named("numpy.core.multiarray", "_reconstruct"),
        named("numpy", "ndarray"),
        several(number(0)),
        text("b"),
    )
    path = extended(
        tmp_path / "a.pt",
        *paths,
        old_numpy,
        omega(imgsz=number(640)),
        thing(named("ultralytics.utils.torch_utils", "ModelEMA"), (text("updates"), number(3))),
        thing(named("ultralytics.utils.loss", "E2EDetectLoss")),
        arguments=omega(imgsz=number(96), single_cls=b"\x88"),
    )
    found = facts(path)
    assert (found.imgsz, found.single_cls) == (96, False)  # five names: the classes were not merged
    assert found.names == facts(DEMO).names


def test_what_this_python_pickles_beside_a_model_is_inert(tmp_path: Path) -> None:
    weights = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weights], lr=0.1, momentum=0.9)
    companions = {
        "containers": [
            collections.defaultdict(list, {1: [2]}), collections.deque([1, 2], 3), collections.Counter("aab"),
            frozenset([1]), range(3), slice(1), 1j, bytearray(b"x"),
        ],
        "namespaces": [types.SimpleNamespace(a=1), argparse.Namespace(b=2)],
        "numpy": [np.arange(3), np.float32(1), np.dtype("f4"), np.bool_(True), np.array(["a"], dtype=object),
                  np.random.RandomState(0), np.ma.array([1])],
        "torch": [torch.float16, torch.device("cpu"), torch.strided, optimizer, torch.amp.GradScaler("cpu"),
                  torch.optim.lr_scheduler.StepLR(optimizer, 1)],
        "path": pathlib.Path("/runs"),
    }  # fmt: skip
    for protocol in (2, 4, 5):
        path = tmp_path / f"{protocol}.pt"
        torch.save({"model": None, **companions}, path, pickle_protocol=protocol)
        with pytest.raises(ModelError, match=r"\.pt holds no Ultralytics detection model"):
            facts(path)


DATA_PARALLEL = b"ctorch.nn.parallel.data_parallel\nDataParallel\n"
DISTRIBUTED = b"ctorch.nn.parallel.distributed\nDistributedDataParallel\n"


@pytest.mark.parametrize("wrapper", [DATA_PARALLEL, DISTRIBUTED])
def test_a_model_wrapped_for_several_devices_is_the_model(wrapper: bytes, tmp_path: Path) -> None:
    """`torch.save({"model": DataParallel(model)})`: the same weights, bit for bit."""
    with zipfile.ZipFile(DEMO) as file:
        pickled = next(file.read(e) for e in file.infolist() if e.filename.endswith("/data.pkl"))
    made = re.search(rb"cultralytics\.nn\.tasks\nDetectionModel\nq.\)\x81q(.)", pickled, re.DOTALL)
    assert made
    model = b"h" + made[1]  # from the memo
    wrapped = thing(
        wrapper, (text("_modules"), table((text("module"), model))), (text("dim"), b"K\x00")
    )
    replaced = b"".join(
        text(key) + value + b"s" for key, value in (("ema", b"N"), ("model", wrapped))
    )
    path = extended(tmp_path / "wrapped.pt", change=lambda data: data[:-1] + replaced + b".")
    ours, theirs = (read_checkpoint_model(file).state_dict() for file in (path, DEMO))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


PROGRAMS = {
    "models.yolo.DetectionModel": "is a checkpoint of YOLOv5's own repository",
    "models.yolo.Model models.common.C3 utils.loss.ComputeLoss": "is a checkpoint of YOLOv5's own repository",
    "models.yolo.Model models.common.SPPCSPC": "is a checkpoint of YOLOv7's own repository",
    "models.yolo.DetectionModel models.common.RepNCSPELAN4": "is a checkpoint of YOLOv9's own repository",
    "yolov6.models.yolo.Model": "is a checkpoint of YOLOv6's own repository",
    "yolox.models.yolox.YOLOX": "is a checkpoint of YOLOX",
    "mmengine.logging.history_buffer.HistoryBuffer": "is a checkpoint of OpenMMLab",
    "super_gradients.training.models.YoloNAS": r"is a checkpoint of SuperGradients \(YOLO-NAS\)",
    "models.resnet.ResNet": "needs `models.resnet.ResNet` of another program, which yolodeploy does not have",
    "my_blocks.CBAM": "needs `my_blocks.CBAM` of another program, which yolodeploy does not have; nothing was run",
    "__main__.Attention": "needs `__main__.Attention` of another program",
}


@pytest.mark.parametrize("names", PROGRAMS)
def test_other_programs_are_named_without_a_warning(names: str, tmp_path: Path) -> None:
    things = [
        thing(named(*name.rsplit(".", 1)), (text("_modules"), b"}")) for name in names.split()
    ]
    with pytest.raises(ModelError, match=PROGRAMS[names]) as caught:
        facts(zipped(tmp_path / "other.pt", whole(several(*things))))
    assert "asks to run" not in str(caught.value)
    assert "yolov8n.pt" in str(caught.value)


BARE = "holds bare weights (a state dict) under `{}`, as YOLOX, OpenMMLab, SuperGradients and others save them"
WEIGHTS = {"backbone.stem.weight": torch.ones(3)}
TABLES = {
    BARE.format("model"): {"start_epoch": 3, "model": WEIGHTS, "optimizer": {"state": {}, "param_groups": [{}]}},
    BARE.format("net"): {"acc": 0.5, "epoch": 3, "net": WEIGHTS, "packages": {"torch": "2"}},
    BARE.format("state_dict"): {"meta": {"epoch": 3}, "state_dict": WEIGHTS},
    "is a checkpoint of OpenMMLab.": {"meta": {"mmdet_version": "2.28"}, "state_dict": WEIGHTS},
}  # fmt: skip


@pytest.mark.parametrize("said", TABLES)
def test_tables_of_weights_that_other_programs_save_are_named(said: str, tmp_path: Path) -> None:
    """As YOLOX, SuperGradients and MMDetection 2 and 3 write them: no class of theirs is in the file."""
    torch.save(TABLES[said], tmp_path / "other.pt")
    with pytest.raises(ModelError, match=rf"other\.pt {re.escape(said)}.*yolov8n\.pt"):
        facts(tmp_path / "other.pt")


UNSAFE = (
    "functools.partial builtins.getattr builtins.eval operator.methodcaller importlib.import_module subprocess.Popen "
    "pathlib._local.PosixPath.unlink torch.load torch.hub.load torch.storage._load_from_bytes numpy.load "
    "numpy.f2py.compile ultralytics.utils.downloads.safe_download ultralytics.nn.tasks.torch_safe_load "
    "ultralytics.nn.tasks.DetectionModel.predict models.yolo.parse_model my_blocks.run omegaconf.OmegaConf.load "
    "typing.get_type_hints collections.namedtuple torch.optim.os.system builtins.type.mro code.InteractiveConsole "
    "ultralytics.nn.autobackend.AutoBackend ultralytics.nn.text_model.MobileCLIP torch.nn.functional.handle_torch_function "
    "torch.nn.modules.activation.GELU"
)


@pytest.mark.parametrize("name", UNSAFE.split())
def test_the_warning_stays_for_what_could_run_something(name: str, tmp_path: Path) -> None:
    value = call(named(*name.rsplit(".", 1)), text("x"))
    expected = rf"asks to run `{re.escape(name)}`.* do not open it with any tool"
    with pytest.raises(ModelError, match=expected):
        facts(zipped(tmp_path / "bad.pt", whole(value)))


LOADER = named("ultralytics.nn.autobackend", "AutoBackend")
NAMESPACE = named("argparse", "Namespace")
SEQUENTIAL = named("torch.nn.modules.container", "Sequential")
HIDDEN = table((text("__setstate__"), LOADER))
DETOURS = {
    "an object is called": (
        call(thing(SEQUENTIAL, (text("_modules"), table((text("0"), LOADER)))), text("x")),
        "Sequential.__call__",
    ),
    "a class is made": (
        call(named("builtins", "type"), text("X"), several(), HIDDEN) + b")\x81" + text("x") + b"b",
        "type.__call__",
    ),
    "an attribute hides a method": (NAMESPACE + b")\x81" + HIDDEN + b"b" + text("x") + b"b", "AutoBackend"),
    "of a container": (
        call(named("collections", "OrderedDict")) + HIDDEN + b"b" + text("x") + b"b",
        "AutoBackend",
    ),
    "by slots": (
        NAMESPACE + b")\x81" + several(b"N", table((text("__dict__"), HIDDEN))) + b"b",
        "object.__setattr__",
    ),
    "of a class": (
        NAMESPACE + several(b"N", table((text("__init__"), LOADER))) + b"b",
        "argparse.Namespace",
    ),
    "a layer is filled": (
        thing(SEQUENTIAL, (text("_modules"), table((text("append"), LOADER)))) + text("x") + b"a",
        "Sequential.__call__",
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", DETOURS)
def test_the_warning_stays_for_what_is_run_by_a_detour(way: str, tmp_path: Path) -> None:
    """With nothing but names that are harmless by themselves, and beside a model that is good."""
    value, name = DETOURS[way]
    with pytest.raises(ModelError, match=rf"asks to run .*{re.escape(name)}`"):
        facts(extended(tmp_path / "bad.pt", value))


@pytest.mark.parametrize(
    "name",
    [
        "my_blocks.CBAM",
        "models.resnet.ResNet",
        "models.yolo.parse_model",
        "transformers.utils.subprocess.Popen",
    ],
)
def test_a_class_of_another_program_that_is_called_could_run_something(
    name: str, tmp_path: Path
) -> None:
    value = call(named(*name.rsplit(".", 1)), text("rm -rf /"))
    with pytest.raises(ModelError, match=rf"asks to run `{re.escape(name)}`"):
        facts(zipped(tmp_path / "bad.pt", whole(value)))


@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("transformers.trainer_utils.IntervalStrategy", "Hugging Face Transformers"),
        ("models.yolo.Model", "YOLOv5's own repository"),
    ],
)
def test_a_class_of_a_known_program_that_is_called_is_named(
    name: str, program: str, tmp_path: Path
) -> None:
    """Such as an enum, which every pickle calls with its value."""
    value = call(named(*name.rsplit(".", 1)), text("no"))
    expected = rf"is a checkpoint of {program}\..* Open this file elsewhere only if you trust"
    with pytest.raises(ModelError, match=expected):
        facts(zipped(tmp_path / "other.pt", whole(value)))
    with pytest.raises(ModelError, match=r"asks to run `posix\.system`"):
        facts(
            zipped(
                tmp_path / "bad.pt",
                whole(several(value, call(named("posix", "system"), text("x")))),
            )
        )


def test_a_compiled_model_says_what_to_do(tmp_path: Path) -> None:
    """What `torch.save` writes of `torch.compile(model)`."""
    names = (
        "torch._dynamo.eval_frame.OptimizedModule",
        "contextlib.nullcontext",
        "builtins.getattr",
    )
    value = several(*(call(named(*name.rsplit(".", 1))) for name in names))
    with pytest.raises(ModelError, match=r"save it again before `torch\.compile\(\)`"):
        facts(zipped(tmp_path / "compiled.pt", whole(value)))
