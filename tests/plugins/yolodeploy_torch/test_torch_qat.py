"""`qat`: what it trains is what the 8-bit artifacts of all three backends compute."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from real_model import RealModel
from torch_support import context

from yolodeploy.backend import NO_MODEL, Artifact, Context, Target
from yolodeploy.backend.registry import load_registry
from yolodeploy.compress.layers import choose
from yolodeploy.compress.learned_ranges import RANGES_FILE, Range, Ranges, read_ranges
from yolodeploy.data.dataset import Dataset, load_view
from yolodeploy.errors import PlanRefused, StepFailed
from yolodeploy.planning.inputs import Inputs
from yolodeploy.planning.planner import make_plan
from yolodeploy.recipe.fields import View
from yolodeploy.recipe.load import load_recipe
from yolodeploy.system import ImageShape
from yolodeploy.system.digest import tree_digest
from yolodeploy.tasks.detection.noise import output_noise
from yolodeploy_torch.graph import graph_in
from yolodeploy_torch.model import parts, read, unified_scales, write_module
from yolodeploy_torch.params import Qat
from yolodeploy_torch.qat.fake_quantize import FakeQuantized, Quantizer, _asymmetric, round_weights
from yolodeploy_torch.qat.observers import InitialRanges, _sample, observe
from yolodeploy_torch.qat.qat import qat

SMALL: dict[str, Any] = {"epochs": 1, "batch": 8, "threads": 1, "holdout": 0.25}
KEPT = ("dfl", "decode")
BACKENDS = ("openvino", "ncnn", "onnxruntime", "coreml")
# No layer stays float for what it costs alone, as none does after training.
EVERY_LAYER = {"ncnn": {"min_sqnr": None}, "onnxruntime": {"spare_dominant": False}}


@pytest.fixture(scope="module")
def view(demo: RealModel) -> Dataset:
    return load_view(demo.data, View(split="train", images=16), 0)


@pytest.fixture(scope="module")
def grids(loaded: Artifact, view: Dataset) -> InitialRanges:
    model = read(loaded.path)
    return observe(
        model, (torch.from_numpy(image) for image in view.letterboxed(ImageShape.square(160)))
    )


def given(work: Path, view: Dataset, loaded: Artifact) -> Context:
    names = graph_in(read(loaded.path)).head.names
    return replace(
        context(work, 96),
        data={"training": view},
        source=loaded,
        model=replace(NO_MODEL, names=names),
    )


def fake(loaded: Artifact, grids: InitialRanges, *keep_float: str) -> FakeQuantized:
    model = read(loaded.path)
    kept = choose((*KEPT, *keep_float), parts(graph_in(model)), "keep_float")
    return FakeQuantized(model, grids, kept).eval()


def with_ranges(loaded: Artifact, ranges: Ranges, into: Path) -> Artifact:
    """The loaded model with these ranges beside it, as `qat` leaves it."""
    model = read(loaded.path)
    into.mkdir()
    write_module(into, model)
    ranges.write(into)
    return Artifact("yolo", into, "learned")


def quantized(
    name: str, source: Artifact, work: Path, data: Mapping[str, Dataset], **params: object
) -> tuple[Artifact, Artifact, Any]:
    """Export in fp32 and quantize; returns both and the opened result."""
    names = graph_in(read(source.path)).head.names
    exported = run_step(name, "export", source, names, work / "export", data, precision="fp32")
    made = run_step(name, "quantize", exported, names, work / "quantize", data, **params)
    return exported, made, load_registry().backends[name].open(made, target_of(name), 1)


def run_step(
    backend: str,
    name: str,
    given: Artifact,
    names: tuple[str, ...],
    work: Path,
    data: Mapping[str, Dataset],
    **params: object,
) -> Artifact:
    """What a step of a backend makes; `names` are the classes."""
    step = next(s for s in load_registry().backends[backend].STEPS if s.name == name)
    model = replace(NO_MODEL, names=names)
    its = replace(context(work), target=target_of(backend), data=data, model=model)
    return Artifact(step.produces, step.run(given, step.params.model_validate(params), its), "")


def target_of(name: str) -> Target:
    wanted = ("xeon-icelake", "pixel-8", "linux-x64", "iphone-13")
    device = next(d for d in load_registry().backends[name].DEVICES if d.name in wanted)
    return Target(device, "17" if name == "coreml" else device.os_default)


def test_maps_that_are_joined_or_added_share_a_range(loaded: Artifact) -> None:
    model = graph_in(read(loaded.path))
    found = unified_scales(model)
    assert found.keys() == parts(model).keys() - {"model.22.dfl.conv"}
    groups = {
        frozenset(name for name, its in found.items() if its == scale) for scale in found.values()
    }
    assert {"model.4.m.0.cv1.conv", "model.4.m.1.cv1.conv", "model.4.cv2.conv"} in groups
    assert {"model.5.conv", "model.15.cv1.conv", "model.18.cv1.conv"} in groups
    assert {"model.16.conv", "model.22.cv2.0.0.conv", "model.22.cv3.0.0.conv"} in groups
    assert {"model.0.conv"} in groups


def test_rounding_and_its_gradients() -> None:
    quantizer = Quantizer(0.5, -2, 3)
    x = torch.tensor([-9.0, -0.8, -0.1, 0.6, 1.4, 9.0], requires_grad=True)
    rounded = quantizer(x)
    assert rounded.tolist() == [-1.0, -1.0, 0.0, 0.5, 1.5, 1.5]
    (rounded * torch.tensor([1.0, 2, 3, 4, 5, 6])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 2, 3, 4, 5, 0]
    inside = 2 * (-1.0 + 0.8) + 3 * (0.0 + 0.1) + 4 * (0.5 - 0.6) + 5 * (1.5 - 1.4)
    assert float(quantizer.log_step.grad) == pytest.approx(inside + 1 * -1.0 + 6 * 1.5)
    assert quantizer.range.low == pytest.approx(-1.0)
    assert quantizer.range.high == pytest.approx(1.5)


@pytest.mark.parametrize(
    "shape", [(1, 16, 80, 80), (1, 48, 40, 40), (1, 16, 320, 320), (1, 3, 7, 9)]
)
def test_first_ranges_are_taken_from_all_over_a_map(shape: tuple[int, ...]) -> None:
    """Neither the border alone nor a few columns: each is met about as often as any other."""
    for side in (2, 3):
        size = shape[side]
        place = torch.arange(size).reshape([-1 if axis == side else 1 for axis in range(4)])
        met = torch.bincount(_sample(place.expand(shape)), minlength=size)
        assert int(met.max()) <= 1.5 * int(met.min()) + 1


def test_a_map_that_is_hardly_ever_above_zero_has_a_range() -> None:
    learned = _asymmetric(Range(low=-10.0, high=1e-3)).range
    assert (learned.low, learned.high) == pytest.approx((-10.0, 10 / 254), rel=0.01)


def test_weights_are_rounded_per_output_channel() -> None:
    exact = torch.tensor([[1.0, 0.3], [-200.0, 1.0], [0.0, 0.0]]).reshape(3, 2, 1, 1)
    exact.requires_grad_()
    rounded = round_weights(exact)
    steps = torch.tensor([1.0, 200.0, 1.0]) / 127
    expected = [[1.0, round(0.3 * 127) * float(steps[0])], [-200.0, float(steps[1])], [0, 0]]
    assert torch.allclose(rounded.reshape(3, 2), torch.tensor(expected), atol=1e-6)
    rounded.sum().backward()
    assert exact.grad is not None
    assert torch.equal(exact.grad, torch.ones_like(exact))


def test_what_is_kept_float_stays_so(loaded: Artifact, grids: InitialRanges) -> None:
    whole, most = fake(loaded, grids), fake(loaded, grids, "head")
    assert len(whole.ranges().reads) == 63
    assert len(whole.ranges().makes) == 57, "all but the last of six branches"
    head = {n for n, p in parts(whole.graph).items() if p.startswith("head")}
    assert whole.ranges().reads.keys() - most.ranges().reads.keys() == head
    images = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = read(loaded.path)(images)
        everything = fake(loaded, grids, "backbone", "neck", "head")(images)
        assert torch.allclose(everything, exact, atol=1e-3)
        assert not torch.allclose(whole(images), exact, atol=1e-1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_artifact_computes_what_was_trained_and_other_layers_are_refused(
    backend: str, loaded: Artifact, grids: InitialRanges, view: Dataset, tmp_path: Path
) -> None:
    """No calibration image is read, and what rounding does to the output is what was simulated.

    Two convolutions of a block are enough to be in 8 bits: through many layers, a value that falls on
    the other side of a half moves as much as rounding itself.
    """
    keep = ("model.[013-9].*", "model.[1-9]?.*", "model.2.cv?.conv")
    makes = grids.makes if backend in ("coreml", "onnxruntime") else {}
    student = fake(loaded, InitialRanges(grids.reads, makes), *keep)
    artifact = with_ranges(loaded, student.ranges(), tmp_path / "learned")
    gone = replace(view, images=tuple(path.with_name("gone.png") for path in view.images))
    params = {"keep_float": (*KEPT, *keep)}
    exported, made, predict = quantized(
        backend, artifact, tmp_path, {"calibration": gone}, **params
    )
    assert read_ranges(exported.path) == read_ranges(artifact.path)
    assert read_ranges(made.path) is None, "it is no part of what ships"
    images = list(view.spread(4).letterboxed(ImageShape.square(160)))
    with torch.inference_mode():
        wanted, exact = (
            np.concatenate([model(torch.from_numpy(image)).numpy() for image in images])
            for model in (student, read(loaded.path))
        )
    found = np.concatenate([predict(image) for image in images])
    rounding = output_noise(exact, wanted)
    # ONNX Runtime adds biases that are whole steps of the products, so that a few results end on the other side.
    share = 0.05 if backend == "onnxruntime" else 0.01
    assert output_noise(wanted, found) < share * rounding
    names, work = graph_in(read(loaded.path)).head.names, tmp_path / "other"
    with pytest.raises(PlanRefused) as fault:
        run_step(backend, "quantize", exported, names, work, {"calibration": gone}, keep_float=KEPT)
    assert str(fault.value) == (
        "`qat` trained model.0.conv in floating point, and `keep_float` here wants the opposite. Give both "
        "steps the same `keep_float`."
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_learned_numbers_are_all_that_differs_from_calibration(
    backend: str, loaded: Artifact, grids: InitialRanges, view: Dataset, tmp_path: Path
) -> None:
    """The same operations under the same names, and what it computes is near what calibration gives."""
    learned = with_ranges(loaded, fake(loaded, grids).ranges(), tmp_path / "learned")
    params = EVERY_LAYER.get(backend, {})
    data = {"calibration": view.spread(2)}
    taken, given = (
        quantized(backend, source, tmp_path / name, data, **params)
        for name, source in (("qat", learned), ("ptq", loaded))
    )
    assert graph(backend, taken[1]) == graph(backend, given[1])
    assert tree_digest(taken[1].path) != tree_digest(given[1].path)
    image = next(view.letterboxed(ImageShape.square(160)))
    exact = read(loaded.path)(torch.from_numpy(image)).detach().numpy()
    noise = [output_noise(exact, predict(image)) for _, _, predict in (taken, given)]
    assert max(noise) < 0.1
    assert min(noise) > 1e-5


def graph(backend: str, artifact: Artifact) -> Any:
    """The operations of an artifact without their numbers (and OpenVINO's order of writing them)."""
    if backend == "ncnn":
        return (artifact.path / "model.ncnn.param").read_bytes()
    if backend == "openvino":
        layers = (artifact.path / "model.xml").read_text(encoding="utf-8")
        found = re.findall(r'<layer id="\d+" name="([^"]+)" type="(\w+)"', layers)
        return sorted((name, kind) for name, kind in found if kind != "Const")
    if backend == "onnxruntime":
        from yolodeploy_onnxruntime.model_file import read_model

        nodes = read_model(artifact.path).graph.node
        return sorted((node.op_type, node.name) for node in nodes)
    from yolodeploy_coreml.mlpackage.layers import block_of
    from yolodeploy_coreml.mlpackage.package import PACKAGE, read_package

    block = block_of(read_package(artifact.path / PACKAGE).spec)
    return [(op.type, [out.name for out in op.outputs]) for op in block.operations]


def test_the_step_learns_and_stopped_and_run_again_gives_the_same_bytes(
    loaded: Artifact, view: Dataset, tmp_path: Path
) -> None:
    params = Qat.model_validate({**SMALL, "epochs": 2, "keep_float": [*KEPT, "head.last"]})

    def stop(_done: float, text: str) -> None:
        if text.startswith("epoch 2"):
            raise KeyboardInterrupt

    resumed = {"resume": tmp_path / "resume"}
    with pytest.raises(KeyboardInterrupt):
        qat(loaded, params, replace(given(tmp_path / "s", view, loaded), progress=stop, **resumed))
    results = [
        qat(loaded, params, replace(given(tmp_path / name, view, loaded), **more))
        for name, more in (("whole", {}), ("resumed", resumed))
    ]
    assert tree_digest(results[0]) == tree_digest(results[1])
    before, after = (read(path).state_dict() for path in (loaded.path, results[0]))
    assert not torch.equal(before["model.0.conv.weight"], after["model.0.conv.weight"])
    statistics = [name for name in before if "running" in name]
    assert all(torch.equal(before[name], after[name]) for name in statistics), "they are frozen"
    learned = read_ranges(results[0])
    assert learned is not None
    assert len(learned.reads) == 57
    first = observe(
        read(loaded.path),
        (torch.from_numpy(image) for image in view.letterboxed(ImageShape.square(96))),
    )
    name = "model.1.conv"
    assert learned.reads[name].low == pytest.approx(-128 / 127 * learned.reads[name].high)
    scale = unified_scales(graph_in(read(loaded.path)))[name]
    assert learned.reads[name].high != pytest.approx(first.reads[scale].high, rel=1e-6)
    assert learned.reads["model.5.conv"] == learned.reads["model.15.cv1.conv"]
    told = json.loads((results[0] / "training.json").read_text(encoding="utf-8"))
    assert len(told["loss"]) == 2


def test_everything_kept_float_is_refused(loaded: Artifact, view: Dataset, tmp_path: Path) -> None:
    params = Qat.model_validate({**SMALL, "keep_float": ["backbone", "neck", "head", *KEPT]})
    with pytest.raises(
        PlanRefused, match=r"`keep_float` selects every convolution\. Use `finetune`\."
    ):
        qat(loaded, params, given(tmp_path / "work", view, loaded))


def test_damaged_ranges_are_named(loaded: Artifact, grids: InitialRanges, tmp_path: Path) -> None:
    learned = with_ranges(loaded, fake(loaded, grids).ranges(), tmp_path / "learned")
    (learned.path / RANGES_FILE).write_text('{"reads": {"a": {"low": 1, "high": 2}}, "makes": {}}')
    with pytest.raises(StepFailed, match=r"ranges.json is damaged: .*\n.*\n.*start at 0 or below"):
        read_ranges(learned.path)


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(ValidationError, match="leave nothing to learn from"):
        Qat(labels=0, response=0)


@pytest.mark.parametrize(
    ("target", "steps", "message"),
    [
        (
            "xeon-icelake",
            "[qat, export]",
            "`qat` trains for 8-bit arithmetic, and no `quantize` follows. Add `quantize` after `export`, or "
            "use `finetune`, which trains for floating point.",
        ),
        (
            "xeon-icelake",
            "[qat, finetune, export, quantize]",
            "`finetune` between `qat` and `quantize` would change what was trained. Move it before `qat`, or "
            "remove it.",
        ),
        (
            "xeon-icelake",
            "[qat: {keep_float: [dfl, decode, head.last]}, export, quantize]",
            "`qat` keeps [dfl, decode, head.last] in floating point, but `quantize` keeps [dfl, decode]. Write "
            "the same `keep_float` in both.",
        ),
        (
            "pixel-8",
            "[qat, export, quantize: {min_sqnr: 20}]",
            "`min_sqnr` of `quantize` has no effect after `qat`: ranges and biases are those that were trained, "
            "and `keep_float` says what stays float. Remove it.",
        ),
        ("pixel-8", "[qat, export, quantize: {min_sqnr: null}]", None),
        ("pixel-8", "[qat, export, quantize]", None),
    ],
)
def test_what_follows_is_checked_when_the_recipe_is_planned(
    target: str, steps: str, message: str | None, demo: RealModel, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"model: {{weights: {demo.weights}, imgsz: 160}}\n"
        f"data:\n  path: {demo.data}\n  calibration: {{split: train, images: 2}}\n"
        "  training: {split: train}\n"
        f"target: {target}\nsteps: {steps}\n"
    )
    file, inputs = load_recipe(path, [Path("/")]), Inputs.of_store(tmp_path)
    if message is None:
        assert "qat" in [
            planned.step.name for planned in make_plan(file, load_registry(), inputs).steps
        ]
    else:
        with pytest.raises(PlanRefused) as fault:
            make_plan(file, load_registry(), inputs)
        assert str(fault.value) == f"{file.where('steps', 0)}: {message}"
