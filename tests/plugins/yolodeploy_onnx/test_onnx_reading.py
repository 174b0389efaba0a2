"""ONNX files as other projects export them become the same graph, or the same file with the common interface."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("onnxsim", reason="not installed. Run: pip install 'yolodeploy[onnx]'")

import onnx
import onnx_models as zoo
from real_model import ROOT
from torch_support import context

import yolodeploy_onnx
from yolodeploy.backend import NO_MODEL, Artifact, ModelInfo, Target
from yolodeploy.errors import ModelError
from yolodeploy.recipe import Preprocess
from yolodeploy.system import ImageShape
from yolodeploy_onnx.params import LoadOnnx
from yolodeploy_onnx.reading import read
from yolodeploy_onnx.runtime import output_of
from yolodeploy_torch.graph import Detection, Graph, build

Build = Callable[[Path], zoo.Model]
PIXELS, SCORE = 0.02, 1e-4

SOURCES: dict[str, tuple[Build, str]] = {
    "YOLOX": (zoo.yolox, "layers"),
    "YOLOX before decoding": (lambda folder: zoo.yolox(folder, decoded=False), "layers"),
    "YOLOv5 with Focus": (lambda folder: zoo.yolov5(folder, focus=True), "layers"),
    "YOLOv7": (zoo.yolov7, "layers"),
    "YOLO-NAS": (zoo.yolo_nas, "head"),
    "DAMO-YOLO": (zoo.damo_yolo, "head"),
    "RT-DETR": (zoo.rt_detr, "outputs"),
    "ImageNet's mean": (
        lambda folder: zoo.rt_detr(folder, imagenet=True, sampled=False),
        "outputs",
    ),
    "float16": (lambda folder: zoo.yolo_nas(folder, zoo.Saved(half="inputs")), "head"),
    "opset 11": (
        lambda folder: zoo.yolov7(folder, saved=zoo.Saved(opset=12, dynamic=True)),
        "layers",
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_file_of_another_project_gives_the_same(name: str, tmp_path: Path) -> None:
    build_file, known = SOURCES[name]
    made = build_file(tmp_path)
    found = read(made.path, params(made), ImageShape(*made.size))
    images = made.images(1)
    expected = made.reference(images)
    apart = abs(computed(found.model, dict(found.state), images) - expected)
    assert apart[:, :4].max() <= PIXELS
    assert apart[:, 4:].max() <= SCORE
    assert found.selected == ("one-to-one" if made.layout == "detr" else "one-to-many")
    assert known_of(found.model) == known


def params(made: zoo.Model) -> LoadOnnx:
    """What a recipe says of the file."""
    pixels = made.pixels
    mean = pixels.mean if any(pixels.mean) else None
    std = pixels.std if set(pixels.std) != {1.0} else None
    preprocess = Preprocess(
        scale=pixels.scale, mean=mean, std=std, order=pixels.order, fit=pixels.fit
    )
    return LoadOnnx(names=zoo.NAMES, preprocess=preprocess)


def computed(
    model: Graph | onnx.ModelProto, state: dict[str, torch.Tensor], images: np.ndarray
) -> np.ndarray:
    if isinstance(model, Graph):
        with torch.inference_mode():
            return build(model, state)(torch.from_numpy(images)).numpy()
    return output_of(model, images)


def known_of(model: Graph | onnx.ModelProto) -> str:
    if not isinstance(model, Graph):
        return "outputs"
    return "head" if isinstance(model.head, Detection) else "layers"


@pytest.mark.parametrize("name", ["shapes-yolo26", "shapes-yolov8n"])
def test_a_head_of_yolo_is_recognised_so_that_labels_can_train_it(
    name: str, tmp_path: Path
) -> None:
    """A checkpoint, exported, is the model of the checkpoint again: parts, features, bins, strides and output."""
    from yolodeploy_torch.checkpoint import read_checkpoint_model
    from yolodeploy_torch.graph import graph_in
    from yolodeploy_torch.model import layer_parts, write

    source = read_checkpoint_model(ROOT / "models" / f"{name}.pt")
    before = graph_in(source)
    before = before.model_copy(update={"selected": "one-to-many"})
    file = exported(before, source.state_dict(), tmp_path)
    found = read(file, LoadOnnx(names=before.head.names), None)
    assert isinstance(found.model, Graph)
    after = found.model
    assert (after.head.names, after.head.strides) == (before.head.names, before.head.strides)
    assert after.detection.reg_max == before.detection.reg_max
    image = torch.rand(2, 3, 160, 160)
    with torch.inference_mode():
        wanted, given = build(before, source.state_dict())(image), build(after, found.state)(image)
    assert abs(wanted - given)[:, :4].max() < 1e-3
    assert abs(wanted - given)[:, 4:].max() < 1e-5
    for graph, state, folder in ((before, source.state_dict(), "one"), (after, found.state, "two")):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, graph, state)
    assert list(layer_parts(tmp_path / "two").values()).count("head.last") == 6
    theirs, ours = (sorted(layer_parts(tmp_path / folder).values()) for folder in ("one", "two"))
    assert ours == theirs


def exported(graph: Graph, state: dict[str, torch.Tensor], folder: Path) -> Path:
    """The ONNX file of a graph, as the ONNX Runtime backend writes it."""
    from yolodeploy_onnxruntime import STEPS
    from yolodeploy_onnxruntime.params import Export
    from yolodeploy_torch.model import write

    source, work = folder / "source", folder / "work"
    source.mkdir()
    write(source, graph, state)
    given = replace(
        context(work), imgsz=ImageShape.square(160), model=replace(NO_MODEL, names=graph.head.names)
    )
    return (
        STEPS[0].run(Artifact("yolo", source, ""), Export(precision="fp32"), given) / "model.onnx"
    )


def test_rows_are_cut_off_and_what_they_were_chosen_from_is_what_ships(tmp_path: Path) -> None:
    made = zoo.end_to_end(tmp_path)
    found = read(made.path, params(made), None)
    assert found.selected == "one-to-one"
    image = made.images(1)
    rows, table = made.reference(image)[0], computed(found.model, dict(found.state), image)[0]
    best = table[4:].max()
    assert rows[0, 4] == pytest.approx(best, abs=SCORE)
    x, y, width, height = table[:4, table[4:].max(0).argmax()]
    corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    assert rows[0, :4] == pytest.approx(corners, abs=PIXELS)


class Unordered(torch.nn.Module):
    """Corners that no head keeps in order, and the rows with the best scores, as YOLO26 may give them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 6, 4, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        cells = self.conv(images).flatten(2).transpose(1, 2)
        corners, scores = cells[..., :4] * 40, cells[..., 4:].sigmoid()
        best = scores.amax(2).topk(10)[1][..., None]
        score, number = scores.gather(1, best.expand(-1, -1, 2)).max(2, keepdim=True)
        return torch.cat((corners.gather(1, best.expand(-1, -1, 4)), score, number.float()), 2)


def test_corners_out_of_order_are_still_corners(tmp_path: Path) -> None:
    model, image = Unordered().eval(), torch.rand(1, 3, 32, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (image,), tmp_path / "rows.onnx", dynamo=False, opset_version=17)
    found = read(tmp_path / "rows.onnx", LoadOnnx(names=("a", "b")), None)
    x, y, width, height = computed(found.model, dict(found.state), image.numpy())[0, :4]
    corners = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], 1)
    for row in model(image)[0].detach().numpy():
        assert abs(corners - row[:4]).max(1).min() < 1e-3


def test_a_step_loads_a_file_and_says_what_is_known(tmp_path: Path) -> None:
    made = zoo.rt_detr(tmp_path)
    given = replace(context(tmp_path / "work"), imgsz=ImageShape(*made.size))
    given.work.mkdir(exist_ok=True)
    folder = yolodeploy_onnx.STEPS[0].run(Artifact(".onnx", made.path, ""), params(made), given)
    info = ModelInfo.read(folder)
    assert (info.known, info.names, info.head) == ("outputs", zoo.NAMES, "one-to-one")
    assert info.obstacle.startswith("the node ")
    artifact = Artifact("yolo", folder, "")
    predictor = yolodeploy_onnx.open(artifact, Target(given.target.device), 1)
    apart = abs(predictor(made.images(2)) - made.reference(made.images(2)))
    assert apart.max() <= PIXELS
    counts = yolodeploy_onnx.count(artifact, given.imgsz)
    assert counts.parameters == info.parameters
    assert counts.macs > 1e6
    assert yolodeploy_onnx.facts(made.path, params(made)).obstacle == info.obstacle


def test_a_file_is_inspected(tmp_path: Path) -> None:
    names = str(dict(enumerate(zoo.NAMES)))
    made = zoo.yolo_nas(tmp_path, zoo.Saved(half="inputs", metadata={"names": names}))
    told = yolodeploy_onnx.inspect(made.path)
    assert told is not None
    assert told.info is not None
    assert (told.info.names, told.info.known) == (zoo.NAMES, "head")
    assert told.stored["fp16"] == pytest.approx(2 * (told.parameters or 0), rel=0.05)
    assert sum(part.macs or 0 for part in told.parts) == told.macs
    assert {part.part for part in told.parts} >= {"backbone", "neck", "head.last", "dfl"}
    nameless = yolodeploy_onnx.inspect(zoo.yolo_nas(tmp_path).path)
    assert nameless is not None
    assert "does not name its classes" in nameless.notes[0]


def without_classes(folder: Path) -> Path:
    return zoo.yolo_nas(folder).path


def twice(folder: Path) -> Path:
    file = zoo.yolo_nas(folder).path
    model = onnx.load(file)
    model.graph.input.append(
        onnx.helper.make_tensor_value_info("sizes", onnx.TensorProto.INT64, [1, 2])
    )
    onnx.save(model, file)
    return file


@pytest.mark.parametrize(
    ("make", "names", "said"),
    [
        (without_classes, None, "does not name its classes"),
        (without_classes, ("a", "b"), "no layout with 2 classes has such outputs"),
        (twice, zoo.NAMES, "it has 2 inputs"),
    ],
)
def test_refused(
    make: Callable[[Path], Path], names: tuple[str, ...] | None, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=said):
        read(make(tmp_path), LoadOnnx(names=names), None)


def test_another_size_than_that_of_the_file_is_refused(tmp_path: Path) -> None:
    made = zoo.yolo_nas(tmp_path)
    with pytest.raises(ModelError, match=r"96 x 160 pixels only. Write `imgsz: \[96, 160\]`"):
        read(made.path, params(made), ImageShape.square(160))
