"""Which weights files are read, and the messages for those that are not."""

from __future__ import annotations

import datetime as dt
import pathlib
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pickles import zipped
from torch_support import load

from yolodeploy.backend import ModelInfo
from yolodeploy.errors import ModelError
from yolodeploy_torch.checkpoint import facts, read_checkpoint_model

ultralytics = pytest.importorskip(
    "ultralytics", reason="real checkpoints come from it. Run: pip install 'yolodeploy[train]'"
)


def checkpoint(name: str, path: Path) -> Path:
    """Save a freshly initialised model as Ultralytics does."""
    ultralytics.YOLO(f"{name}.yaml", verbose=False).save(path)
    return path


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint("yolov8n", tmp_path_factory.mktemp("good") / "yolov8n.pt")


@pytest.fixture
def content(good: Path) -> dict[str, Any]:
    """The content of the good checkpoint, for a test to spoil."""
    return torch.load(good, weights_only=False)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda _: None, "does not exist. Check the path"),
    "folder": (lambda path: path.mkdir(), "is a folder. Name the .pt file"),
    "empty": (lambda path: path.touch(), "is empty"),
    "text": (lambda path: path.write_text("hello " * 9), "is not a PyTorch checkpoint"),
    "lfs": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
        "is a Git LFS pointer.*git lfs pull",
    ),
    "noise": (
        lambda path: path.write_bytes(np.random.default_rng(0).bytes(3_000_000)),
        "is not a PyTorch checkpoint",
    ),
    "onnx": (lambda path: path.write_bytes(b"\x08\x0a\x12\x07pytorch"), "is not a PyTorch check"),
    "zip": (_zip, "is a zip archive, but no PyTorch checkpoint"),
    "torchscript": (
        lambda path: torch.jit.script(torch.nn.ReLU()).save(path),
        "is a TorchScript export, not a checkpoint",
    ),
    "state dict": (lambda path: torch.save({"a": torch.ones(3)}, path), "holds bare weights"),
    "list": (lambda path: torch.save([1, 2], path), "is not an Ultralytics checkpoint"),
    "nothing": (lambda path: torch.save({"model": None}, path), "holds no Ultralytics detection"),
    "no pickle": (lambda path: zipped(path, b"not a pickle"), "is damaged"),
}


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", FILES)
def test_files_that_are_not_checkpoints(name: str, tmp_path: Path) -> None:
    make, message = FILES[name]
    path = tmp_path / "weights.pt"
    make(path)
    with pytest.raises(ModelError, match=message) as caught:
        load(path, tmp_path / "work")
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("part", [0.2, 0.9, 0.999])
def test_truncated(good: Path, tmp_path: Path, part: float) -> None:
    whole = good.read_bytes()
    path = tmp_path / "cut.pt"
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ModelError, match=r"is damaged or cut off .*Copy it again"):
        load(path, tmp_path / "work")


@pytest.mark.parametrize("position", [0.05, 0.5, 0.95])
def test_flipped_bytes(good: Path, tmp_path: Path, position: float) -> None:
    data = bytearray(good.read_bytes())
    start = int(len(data) * position)
    data[start : start + 64] = bytes(255 - byte for byte in data[start : start + 64])
    path = tmp_path / "flipped.pt"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"is damaged \(the checksum of .* is wrong\)"):
        load(path, tmp_path / "work")


OTHERS = {
    "yolov8n-world": "a YOLO-World detection model",
    "yoloe-v8n-seg": "a YOLOE segmentation model",
    "yolo26n-sem": "a YOLO26 semantic segmentation model",
    "yolo26n-depth": "a YOLO26 depth model",
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_model_is_named_as_what_it_is(name: str, tmp_path: Path) -> None:
    path = checkpoint(name, tmp_path / "other.pt")
    with pytest.raises(ModelError) as caught:
        load(path, tmp_path / "work")
    assert str(caught.value) == f"{path} is {OTHERS[name]}. {WAY_ON}"


WAY_ON = (
    "This version ships models of YOLOv3, YOLOv5u, YOLOv6, YOLOv8, YOLOv9, YOLOv10, YOLO11, YOLO12 and YOLO26 that "
    "Ultralytics trained for detection, segmentation, poses, oriented boxes or classification. Train one of these on your "
    "data."
)


def test_rt_detr_is_named(tmp_path: Path) -> None:
    small = {"nc": 2, "backbone": [[-1, 1, "HGStem", [8, 16]], [-1, 1, "Conv", [32, 3, 2]]]}
    rows = [
        [0, 1, "Conv", [32]],
        [1, 1, "Conv", [32]],
        [[1, 2, 3], 1, "RTDETRDecoder", ["nc", 32, 4]],
    ]
    from ultralytics.nn.tasks import RTDETRDetectionModel

    model = RTDETRDetectionModel({**small, "head": rows}, verbose=False)
    torch.save({"model": model}, tmp_path / "rt.pt")
    with pytest.raises(ModelError, match=r"rt\.pt is an RT-DETR detection model\. This version"):
        load(tmp_path / "rt.pt", tmp_path / "work")


def own_activation(activation: str, folder: Path) -> Path:
    """As people train them: with the line `activation:` in a YAML of their own."""
    from ultralytics.utils import ROOT, YAML

    table = YAML.load(ROOT / "cfg/models/v8/yolov8.yaml")
    file = folder / "my-yolov8n.yaml"
    YAML.save(file, {**table, "activation": f"torch.nn.{activation}"})
    ultralytics.YOLO(file, verbose=False).save(folder / "own.pt")
    return folder / "own.pt"


@pytest.mark.parametrize("activation", ["ReLU()", "LeakyReLU(0.2)", "Hardswish()"])
def test_usual_activations_are_read(activation: str, tmp_path: Path) -> None:
    path, images = own_activation(activation, tmp_path), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = ultralytics.YOLO(path).model.float().eval()(images)[0]
        output = read_checkpoint_model(path)(images)
    assert torch.allclose(output, expected, atol=1e-4)


def test_other_activations_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load(own_activation("GELU()", tmp_path), tmp_path / "work")
    expected = f"own.pt is a YOLOv8 detection model with GELU activations. {WAY_ON} If the layers are your own,"
    assert expected in str(caught.value)
    assert "write `loader: ultralytics` beside `weights`" in str(caught.value)


@pytest.mark.parametrize("size", "nx")
def test_every_size_loads(size: str, tmp_path: Path) -> None:
    model = ultralytics.YOLO(f"yolov8{size}.yaml", verbose=False)
    model.save(tmp_path / "model.pt")
    info = ModelInfo.read(load(tmp_path / "model.pt", tmp_path / "work").path)
    assert info.strides == (8, 16, 32)
    assert info.parameters == sum(value.numel() for value in model.model.parameters())


def _rename(content: dict[str, Any]) -> None:
    content["model"].names = {0: "only"}


def _gap(content: dict[str, Any]) -> None:
    content["model"].names = dict.fromkeys([0, 2], "x")


def _nan(content: dict[str, Any]) -> None:
    content["model"].model[4].cv1.conv.weight.data[0, 0] = float("nan")


def _cut(content: dict[str, Any]) -> None:
    layer = content["model"].model[4].cv1.conv
    layer.weight = torch.nn.Parameter(layer.weight[:-1].clone())


def _widen(content: dict[str, Any]) -> None:
    norm = content["model"].model[4].cv1.bn
    norm.running_mean = torch.zeros(7)


def _fuse(content: dict[str, Any]) -> None:
    content["model"] = content["model"].float().fuse(verbose=False)


def _activation(content: dict[str, Any]) -> None:
    content["model"].model[0].act = torch.nn.Identity()
    content["model"].model[1].act = torch.nn.GELU()


def _strides(content: dict[str, Any]) -> None:
    content["model"].model[-1].stride = torch.tensor([4.0, 8.0, 16.0])


def _escape(content: dict[str, Any]) -> None:
    content["model"].names[3] = "cat\x1b[2J"


def _lines(content: dict[str, Any]) -> None:
    content["model"].names[3] = "cat\ndog"


def _whole_numbers(content: dict[str, Any]) -> None:
    norm = content["model"].model[4].cv1.bn
    norm.running_mean = norm.running_mean.to(torch.int64)


def _same_few(content: dict[str, Any]) -> None:
    for parameter in content["model"].parameters():
        parameter.data = torch.zeros(1).expand(parameter.shape)


def _itself(content: dict[str, Any]) -> None:
    layer = content["model"].model[4].cv1
    layer.f = layer._modules["again"] = layer


def _extra(content: dict[str, Any]) -> None:
    content["model"].model[4].cv3 = content["model"].model[4].cv2


def _long_tables(content: dict[str, Any]) -> None:
    """Two million paths to two thousand weights."""
    leaf, hub = torch.nn.Sequential(), torch.nn.Sequential()
    leaf._parameters = {f"{n:x}": torch.nn.Parameter(torch.zeros(0)) for n in range(2000)}
    hub._modules = {str(n): leaf for n in range(1000)}
    content["model"].model[0]._modules["extra"] = hub


def _states(layer: int, part: str, **state: object) -> Callable[[dict[str, Any]], None]:
    """Give an object of the tree attributes of an odd type."""

    def spoil(content: dict[str, Any]) -> None:
        content["model"].model[layer].get_submodule(part).__dict__.update(state)

    spoil.__name__ = f"{part}.{next(iter(state))}"
    return spoil


def _repeated(content: dict[str, Any], node: torch.nn.Module, times: int) -> None:
    rows = content["model"].model._modules
    first, head = rows["0"], rows["22"]
    repeated = {str(n): node for n in range(1, times)}
    content["model"].model._modules = {"0": first, **repeated, str(times): head}


def _strides_without_end(content: dict[str, Any]) -> None:
    pool = torch.nn.MaxPool2d(1, 64)
    pool.f = -1
    _repeated(content, pool, 1000)


def _channels_without_end(content: dict[str, Any]) -> None:
    content["model"].model[11].f = [-1, -1]
    _repeated(content, content["model"].model[11], 15_000)


def _bins(content: dict[str, Any]) -> None:
    content["model"].model[-1].dfl.conv.weight.data[0, 3] = 7


NUMBERS = torch.ones(4)
SPOILED = {
    _long_tables: "more than 20,000",
    _strides_without_end: "a convolution takes 64 channels, but 16 arrive",
    _channels_without_end: r"its layer model\.10 makes more than 65,536 channels",
    _states(0, "conv", groups=NUMBERS): r"model\.0\.conv \(Conv2d\) has no usable `groups`",
    _states(0, "conv", dilation=(1, NUMBERS)): "Conv2d\\) has no usable `dilation`",
    _states(0, "conv", padding=NUMBERS): "Conv2d\\) has no usable `padding`",
    _states(0, "conv", stride=(2, 1)): r"its head reads boxes of shape .* as those of stride 8",
    _states(9, "", add=NUMBERS): r"model\.9 \(SPPF\) has no usable `add`",
    _states(9, "", n=10**9): r"model\.9 \(SPPF\) pools 1000000000 times, and 0 to 16 is allowed",
    _states(9, "", n=NUMBERS): r"model\.9 \(SPPF\) has no usable `n`",
    _rename: "gives 80 class scores, but it names 1 classes",
    _gap: r"class numbers are \[0, 2\]",
    _nan: r"is broken: its weight model\.4\.cv1\.conv\.weight holds NaN",
    _cut: r"its layer model\.4\.cv1\.bn does not fit: 63 channels are normalised as 64",
    _widen: r"model\.4\.cv1\.bn\.running_mean is \(7,\), but \(64,\) is needed",
    _fuse: r"asks to run `builtins\.getattr`.* save it again before `fuse\(\)`",
    _activation: "is a YOLOv8 detection model with GELU activations",
    _strides: r"its head reads boxes of shape \(1, 64, 32, 48\) as those of stride 4",
    _escape: r"its class name .* is too long, or has characters that cannot be shown",
    _lines: r"its class name .* is too long, or has characters that cannot be shown",
    _whole_numbers: r"running_mean is torch\.int64, where torch\.float32 is needed",
    _same_few: "its weights take more bytes than the file has",
    _itself: "nested deeper than 32",
    _extra: r"its weight model\.4\.cv3\.bn\.bias does not belong to the layers that it names",
    _bins: r"model\.22 \(Detect\) has unusual bins",
}


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda spoil: spoil.__name__)
def test_models_that_do_not_fit_together(
    spoil: Callable[[dict[str, Any]], None], content: dict[str, Any], tmp_path: Path
) -> None:
    spoil(content)
    path = tmp_path / "spoiled.pt"
    torch.save(content, path)
    with pytest.raises(ModelError, match=SPOILED[spoil]):
        load(path, tmp_path / "work")


def test_class_names_in_another_order_of_their_numbers(
    content: dict[str, Any], tmp_path: Path
) -> None:
    names = content["model"].names
    content["model"].names = dict(reversed(names.items()))
    torch.save(content, tmp_path / "reversed.pt")
    assert facts(tmp_path / "reversed.pt").names == tuple(names.values())


def test_whatever_the_reader_stumbles_over_is_the_models_fault(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(sys.modules[facts.__module__], "graph_of", stumble)
    with pytest.raises(ModelError, match=r"its layers are damaged \(KeyError\)"):
        load(good, tmp_path / "work")


def test_training_checkpoint_with_companions(content: dict[str, Any], tmp_path: Path) -> None:
    """What the trainers of several Ultralytics releases save beside the averaged model."""
    from ultralytics.utils import IterableSimpleNamespace
    from ultralytics.utils.loss import v8DetectionLoss

    averaged = content["model"].float()
    averaged.args = IterableSimpleNamespace(box=7.5, cls=0.5, dfl=1.5)
    averaged.criterion = v8DetectionLoss(averaged)
    optimizer = torch.optim.AdamW(averaged.parameters())
    training = {
        "epoch": 3,
        "best_fitness": np.float64(0.5),
        "model": None,
        "ema": averaged.half(),
        "updates": 100,
        "optimizer": optimizer.state_dict(),
        "train_args": {"project": pathlib.PosixPath("/runs"), "task": "detect"},
        "date": dt.datetime(2024, 1, 2, tzinfo=dt.UTC),
    }
    path = tmp_path / "last.pt"
    torch.save(training, path)
    artifact = load(path, tmp_path / "work")
    info = ModelInfo.read(artifact.path)
    assert (info.task, len(info.names), info.strides) == ("detect", 80, (8, 16, 32))
    assert info.parameters == sum(value.numel() for value in averaged.parameters())


def test_layout_of_modules_before_8_1(good: Path, tmp_path: Path) -> None:
    """Early releases kept every layer in `ultralytics.nn.modules` itself."""
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(tmp_path / "old.pt", "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename.endswith("/data.pkl"):
                data = re.sub(
                    rb"cultralytics\.nn\.modules\.\w+\n", b"cultralytics.nn.modules\n", data
                )
            new.writestr(entry.filename, data)
    new_bytes, old_bytes = (
        (load(path, tmp_path / path.stem / "work").path / "model.safetensors").read_bytes()
        for path in (tmp_path / "old.pt", good)
    )
    assert new_bytes == old_bytes


def test_names_of_classes_in_other_releases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """YOLOv9e began with a class of its own in Ultralytics 8.1; YOLOv10's repository named the model's class."""
    from ultralytics.nn import modules, tasks

    block = sys.modules[f"{modules.__name__}.block"]
    silence = type("Silence", (torch.nn.Module,), {"__module__": block.__name__})
    whole = type("YOLOv10DetectionModel", (tasks.DetectionModel,), {"__module__": tasks.__name__})
    monkeypatch.setattr(block, "Silence", silence, raising=False)
    monkeypatch.setattr(tasks, "YOLOv10DetectionModel", whole, raising=False)
    for name, part, other in (("yolov9e", "model.0", silence), ("yolov10n", "", whole)):
        path = checkpoint(name, tmp_path / f"{name}.pt")
        content = torch.load(path, weights_only=False)
        content["model"].get_submodule(part).__class__ = other
        torch.save(content, tmp_path / "other.pt")
        assert other.__name__.encode() in (tmp_path / "other.pt").read_bytes()
        assert facts(tmp_path / "other.pt") == facts(path)


def test_unreadable(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.pt"
    shutil.copy(good, path)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("yolodeploy_torch.checkpoint.zip_archive.open_plain", refuse)
    with pytest.raises(ModelError, match=r"cannot be read \(Permission denied\)"):
        load(path, tmp_path / "work")
