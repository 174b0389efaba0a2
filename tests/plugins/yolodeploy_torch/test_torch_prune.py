"""`prune`: cutting channels is exact, targets are met, and every backend exports what is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pruned import random_cut, silenced
from pydantic import ValidationError
from real_model import RealModel
from torch.fx import GraphModule
from torch_support import ROOT, context, load

from yolodeploy.backend import NO_MODEL, Artifact, Target
from yolodeploy.backend.registry import load_registry
from yolodeploy.data.dataset import load_view
from yolodeploy.errors import StepFailed
from yolodeploy.recipe.fields import View
from yolodeploy.system import ImageShape
from yolodeploy_torch.graph import build, graph_in
from yolodeploy_torch.model import (
    channel_groups,
    fused_module,
    macs,
    read,
    threads,
    write,
    write_module,
)
from yolodeploy_torch.model.artifact import WEIGHTS_FILE
from yolodeploy_torch.params import Prune
from yolodeploy_torch.pruning.cost import channels, weights
from yolodeploy_torch.pruning.prune import prune
from yolodeploy_torch.pruning.shrink import shrink

IMAGES = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def shapes(demo: RealModel) -> Path:
    return demo.data


@pytest.fixture(scope="module")
def model(loaded: Artifact) -> GraphModule:
    return read(loaded.path)


@pytest.fixture(scope="module")
def attending(tmp_path_factory: pytest.TempPathFactory) -> GraphModule:
    """A YOLO11: attention and depthwise convolutions."""
    checkpoint = ROOT / "models" / "shapes-yolo11.pt"
    return read(load(checkpoint, tmp_path_factory.mktemp("attending") / "work").path)


def _run(loaded: Artifact, work: Path, data: Path, **params: object) -> GraphModule:
    view = load_view(data, View(split="train", images=16), 0)
    given = replace(context(work), data={"calibration": view, "training": view})
    return read(prune(loaded, Prune.model_validate(params), given))


def _macs(model: GraphModule) -> int:
    return macs(graph_in(model), 160, 160)


def test_flops_of_the_published_model(model: GraphModule) -> None:
    graph = graph_in(model)
    # Ultralytics gives 8.7 GFLOPs (two a multiply-accumulate) for YOLOv8n at 640 px with 80 classes.
    width = 80  # channels of the class branches, which grow with the number of classes
    shapes = graph.shapes(640, 640)
    published, own = 0, 0
    for level, feature in enumerate(graph.head.features):
        _, inputs, *cells = shapes[feature]
        ours = shapes[f"model.22.cv3.{level}.0.conv"][1]
        own += np.prod(cells) * (9 * ours * (inputs + ours) + ours * len(graph.head.names))
        published += np.prod(cells) * (9 * width * (inputs + width) + width * 80)
    flops = 2 * (macs(graph, 640, 640) - own + published)
    assert flops / 1e9 == pytest.approx(8.7, abs=0.1)


def test_cutting_equals_silencing(model: GraphModule) -> None:
    found, kept = random_cut(graph_in(model))
    smaller = build(*shrink(graph_in(model), model.state_dict(), found, kept))
    with torch.inference_mode():
        expected = silenced(model, found, kept)(IMAGES)
        assert torch.allclose(smaller(IMAGES), expected, atol=1e-3)
        assert not torch.allclose(model(IMAGES), expected, atol=1.0)


@pytest.mark.parametrize("backend", ["openvino", "ncnn", "coreml"])
def test_every_backend_exports_odd_numbers_of_channels(
    backend: str, attending: GraphModule, tmp_path: Path
) -> None:
    graph = graph_in(attending)
    write(tmp_path, *shrink(graph, attending.state_dict(), *random_cut(graph)))
    plugin = load_registry().backends[backend]
    step = next(step for step in plugin.STEPS if step.name == "export")
    work = tmp_path / "work"
    target = Target(plugin.DEVICES[0], plugin.DEVICES[0].os_default)
    named = replace(NO_MODEL, names=graph.head.names)
    given = replace(context(work), target=target, imgsz=ImageShape.square(160), model=named)
    made = step.run(
        Artifact("yolo", tmp_path, ""), step.params.model_validate({"precision": "fp32"}), given
    )
    output = plugin.open(Artifact(step.produces, made, ""), target, 1)(IMAGES[:1].numpy())
    with torch.inference_mode():
        expected = read(tmp_path)(IMAGES[:1]).numpy()
    assert np.abs(output - expected)[:, :4].max() < 0.02
    assert np.abs(output - expected)[:, 4:].max() < 1e-3


@pytest.mark.parametrize("of", ["flops", "parameters", "channels"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_target_is_met_closely(
    of: str, scope: str, loaded: Artifact, model: GraphModule, shapes: Path, tmp_path: Path
) -> None:
    smaller = _run(loaded, tmp_path / "work", shapes, keep=0.6, of=of, scope=scope)
    assert 0.5 < _size(smaller, of) / _size(model, of) <= 0.6
    odd = [g.size for g in channel_groups(graph_in(smaller)).groups if g.size % 8 and g.size > 8]
    assert not odd


def _size(model: GraphModule, of: str) -> float:
    graph = graph_in(model)
    found = channel_groups(graph)
    if of == "channels":
        return channels(graph, found)(found.sizes)
    if of == "parameters":
        return weights(graph, found, ImageShape.square(160))(found.sizes)
    return _macs(model)


def test_statistics_are_mended(
    loaded: Artifact, model: GraphModule, shapes: Path, tmp_path: Path
) -> None:
    from yolodeploy.tasks import primary_score
    from yolodeploy.tasks.detection import Detect
    from yolodeploy_torch.pruning.importance import importance, relative
    from yolodeploy_torch.pruning.prune import _Goal
    from yolodeploy_torch.pruning.selection import keep_best

    mended = _run(loaded, tmp_path / "work", shapes, keep=0.95, scope="global")
    graph = graph_in(model)
    found = channel_groups(graph)
    scores = relative(importance("magnitude", graph, found, model.state_dict()))
    goal = _Goal.of(graph, Prune(keep=0.95, scope="global"), ImageShape.square(160))
    kept = keep_best(goal.sizes(graph, found, scores, 0.95), scores)
    plain = build(*shrink(graph, model.state_dict(), found, kept))
    view = load_view(shapes, View(images=24), 0)

    def score(one: GraphModule) -> float:
        with torch.inference_mode():
            return primary_score(
                lambda x: one(torch.from_numpy(x)).numpy(),
                view,
                ImageShape.square(160),
                Detect(view.names),
                "one-to-many",
            )

    assert score(mended) > score(plain) + 0.05


def test_a_model_that_nothing_was_cut_from_is_recalibrated_to_itself(model: GraphModule) -> None:
    from yolodeploy_torch.pruning.recalibration import recalibrate

    same = build(graph_in(model), {k: v.clone() for k, v in model.state_dict().items()})
    recalibrate(same, model, IMAGES, lambda _: None)
    for name, value in model.state_dict().items():
        assert torch.allclose(value, same.state_dict()[name], rtol=1e-4, atol=1e-6), name


def test_same_bytes_twice(loaded: Artifact, shapes: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        _run(loaded, tmp_path / name, shapes, keep=0.7)
    first, second = ((tmp_path / n / WEIGHTS_FILE).read_bytes() for n in ("a", "b"))
    assert first == second


def test_target_that_the_limits_forbid(loaded: Artifact, shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"leaves 0\.\d+ of the model, and 0\.1 is wanted"):
        _run(loaded, tmp_path / "work", shapes, keep=0.1, least=0.9)


def test_criterion_that_tells_nothing(model: GraphModule, shapes: Path, tmp_path: Path) -> None:
    state = {
        k: torch.ones_like(v) if k.endswith("bn.weight") else v
        for k, v in model.state_dict().items()
    }
    source = tmp_path / "source"
    source.mkdir()
    write(source, graph_in(model), state)
    with pytest.raises(StepFailed, match="rates all channels alike"):
        _run(Artifact("yolo", source, ""), tmp_path / "work", shapes, importance="bn_scale")


def test_share_must_be_a_share() -> None:
    with pytest.raises(ValidationError):
        Prune(keep=1.0)


@pytest.mark.parametrize(
    ("of", "remedy"), [("latency", "checks: speedup"), ("size", "of: parameters")]
)
def test_what_cannot_be_aimed_at_says_what_can(of: str, remedy: str) -> None:
    with pytest.raises(ValidationError, match=f"`of: {of}`.*{remedy}"):
        Prune.model_validate({"of": of})


def test_taylor_is_the_change_of_the_loss(model: GraphModule, shapes: Path) -> None:
    """Against the derivative by a factor on what the normalisation gives, on one batch."""
    from yolodeploy_torch.model import Trainable
    from yolodeploy_torch.params import Augment, Finetune
    from yolodeploy_torch.pruning.importance import taylor
    from yolodeploy_torch.training import Batches, Objective

    view = load_view(shapes, View(split="train", images=4), 0)
    plain = Augment.model_validate(dict.fromkeys(Augment.model_fields, 0))
    (batch,) = Batches(view, ImageShape.square(160), plain, 0).epoch(0, 4)
    found, size = channel_groups(graph_in(model)), ImageShape.square(160)
    objective = Objective(Trainable(model), Finetune(), size)
    scores = taylor(model, found, view, ImageShape.square(160), lambda *_: None)
    (group,) = (group for group in found.groups if group.name == "model.3.conv")
    gate = torch.ones(1, group.size, 1, 1, requires_grad=True)
    hook = model.get_submodule("model.3.bn").register_forward_hook(lambda *given: given[2] * gate)
    losses = objective(batch)
    hook.remove()
    (slope,) = torch.autograd.grad(sum(losses.values()), gate)
    expected = slope.flatten().abs().double()
    assert torch.allclose(scores[group], expected, rtol=1e-3, atol=1e-3 * float(expected.max()))
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_taylor_finds_the_half_that_is_hardly_used(
    loaded: Artifact, model: GraphModule, shapes: Path, tmp_path: Path
) -> None:
    from yolodeploy.tasks import primary_score
    from yolodeploy.tasks.detection import Detect

    params = {"keep": 0.6, "importance": "taylor", "scope": "global"}
    view = load_view(shapes, View(images=24), 0)
    smaller = _run(loaded, tmp_path / "work", shapes, **params)
    assert _macs(smaller) <= 0.6 * _macs(model)
    with threads(1), torch.inference_mode():
        before, after = (
            primary_score(
                lambda x, one=one: one(torch.from_numpy(x)).numpy(),
                view,
                ImageShape.square(160),
                Detect(view.names),
                "one-to-many",
            )
            for one in (model, smaller)
        )
    assert after > before - 0.15


def test_rounds_with_training_between_them(loaded: Artifact, shapes: Path, tmp_path: Path) -> None:
    """Two rounds meet the target of one, leave a history each, and go on after a kill in the second."""
    view = load_view(shapes, View(split="train", images=16), 0)
    small = {"epochs": 1, "batch": 8, "threads": 1, "holdout": 0}
    params = Prune.model_validate(
        {"keep": 0.5, "importance": "taylor", "iterations": 2, "finetune": small}
    )
    views = {"calibration": view, "training": view}

    def run(name: str, resume: Path, progress: object = None) -> Path:
        given = replace(context(tmp_path / name, 96), data=views, resume=resume)
        return prune(loaded, params, replace(given, progress=progress or given.progress))

    class Killed(Exception):
        pass

    def kill(_: float, text: str) -> None:
        if text.startswith("round 2/2: epoch"):
            raise Killed

    whole = run("whole", tmp_path / "kept")
    assert _macs(read(whole)) <= 0.5 * _macs(read(loaded.path))
    assert {"training-1.json", "training-2.json"} <= {path.name for path in whole.iterdir()}
    with pytest.raises(Killed):
        run("killed", tmp_path / "resume", kill)
    assert (tmp_path / "resume" / "round-1" / "state.pt").exists()
    again = run("again", tmp_path / "resume")
    assert (whole / WEIGHTS_FILE).read_bytes() == (again / WEIGHTS_FILE).read_bytes()


def test_convolutions_without_a_normalisation_are_mended_too(
    loaded: Artifact, shapes: Path, tmp_path: Path
) -> None:
    """With its normalisations folded, as in an ONNX file, a cut model gives what it gives with them."""
    source = tmp_path / "folded"
    source.mkdir()
    write_module(source, fused_module(read(loaded.path)))
    outputs = []
    for number, given in enumerate((loaded, Artifact("yolo", source, ""))):
        with torch.inference_mode():
            made = _run(given, tmp_path / f"cut-{number}", shapes, keep=0.8)
            outputs.append(made(IMAGES))
    assert torch.allclose(*outputs, atol=0.05)
