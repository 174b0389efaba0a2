"""`prune`: cutting channels is exact, targets are met, and every backend exports what is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from real_model import RealModel
from torch_support import context
from yolodeploy_torch.model.layers import Convolution, Group, Structure, structure
from yolodeploy_torch.model.modules import Yolo

from yolodeploy.backend import Artifact, Target
from yolodeploy.backend.registry import load_registry
from yolodeploy.data.dataset import load_view
from yolodeploy.errors import StepFailed
from yolodeploy.recipe.fields import View
from yolodeploy.system import ImageShape
from yolodeploy_torch.model.artifact import WEIGHTS_FILE, read, rebuild, write
from yolodeploy_torch.model.runtime import threads
from yolodeploy_torch.params import Prune
from yolodeploy_torch.pruning.prune import prune
from yolodeploy_torch.pruning.shrink import shrink

IMAGES = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def shapes(demo: RealModel) -> Path:
    return demo.data


@pytest.fixture(scope="module")
def model(loaded: Artifact) -> Yolo:
    return read(loaded.path)


def _run(loaded: Artifact, work: Path, data: Path, **params: object) -> Yolo:
    view = load_view(data, View(split="train", images=16), 0)
    given = replace(context(work), data={"calibration": view, "training": view})
    return read(prune(loaded, Prune.model_validate(params), given))


def _macs(model: Yolo) -> float:
    found = structure(model.arch)
    return found.macs(found.sizes, 160 * 160)


def _random_keep(found: Structure) -> dict[Group, torch.Tensor]:
    """Different numbers of channels everywhere, also in the two halves of a C2f block."""
    random = torch.Generator().manual_seed(1)
    kept = {}
    for number, group in enumerate(found.groups):
        size = group.size if group.fixed else max(3, group.size * (5 + number % 4) // 9)
        kept[group] = torch.sort(torch.randperm(group.size, generator=random)[:size]).values
    return kept


def _silenced(model: Yolo, found: Structure, kept: dict[Group, torch.Tensor]) -> Yolo:
    """The model with the weights of the cut channels set to 0: silu(0) is 0."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for name, use in found.convolutions.items():
        stays = [torch.isin(torch.arange(group.size), kept[group]) for group in use.outputs]
        if not any(group.fixed for group in use.outputs):
            for key in ("weight", "bias"):
                state[f"{name.removesuffix('.conv')}.bn.{key}"] *= torch.cat(stays)
    return rebuild(model.arch, state)


def test_flops_of_the_published_model(model: Yolo) -> None:
    found = structure(model.arch)
    # Ultralytics gives 8.7 GFLOPs (two a multiply-accumulate) for YOLOv8n at 640 px with 80 classes.
    fewer = 80 - len(model.arch.names)
    width = 80  # channels of the class branches, which grow with the number of classes
    cells = [(640 // stride) ** 2 for stride in model.arch.strides]
    assert all(use.taps in (1, 9) for use in found.convolutions.values())
    branches = {n: u for n, u in found.convolutions.items() if n.startswith("model.22.cv3")}
    own = 2 * sum(_macs_of(use) for use in branches.values())
    inputs = [u.inputs[0].size for n, u in branches.items() if n.endswith("0.conv")]
    published = 2 * sum(
        cell * (9 * width * (size + width) + width * (len(model.arch.names) + fewer))
        for cell, size in zip(cells, inputs, strict=True)
    )
    flops = 2 * found.macs(found.sizes, 640 * 640) - own + published
    assert flops / 1e9 == pytest.approx(8.7, abs=0.1)


def _macs_of(use: Convolution) -> float:
    inputs, outputs = (sum(g.size for g in groups) for groups in (use.inputs, use.outputs))
    return use.taps * (640 / use.stride) ** 2 * inputs * outputs


def test_cutting_equals_silencing(model: Yolo) -> None:
    found = structure(model.arch)
    kept = _random_keep(found)
    arch, state = shrink(model.arch, model.state_dict(), found, kept)
    smaller = rebuild(arch, state)
    with torch.inference_mode():
        expected = _silenced(model, found, kept)(IMAGES)
        assert torch.allclose(smaller(IMAGES), expected, atol=1e-3)
        assert not torch.allclose(model(IMAGES), expected, atol=1.0)


@pytest.mark.parametrize("backend", ["openvino", "ncnn", "coreml"])
def test_every_backend_exports_odd_numbers_of_channels(
    backend: str, model: Yolo, tmp_path: Path
) -> None:
    found = structure(model.arch)
    write(tmp_path, *shrink(model.arch, model.state_dict(), found, _random_keep(found)))
    plugin = load_registry().backends[backend]
    step = next(step for step in plugin.STEPS if step.name == "export")
    work = tmp_path / "work"
    target = Target(plugin.DEVICES[0], plugin.DEVICES[0].os_default)
    given = replace(
        context(work), target=target, imgsz=ImageShape.square(160), names=model.arch.names
    )
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
    of: str, scope: str, loaded: Artifact, model: Yolo, shapes: Path, tmp_path: Path
) -> None:
    smaller = _run(loaded, tmp_path / "work", shapes, keep=0.6, of=of, scope=scope)
    before, after = structure(model.arch), structure(smaller.arch)
    shares = {
        "flops": _macs(smaller) / _macs(model),
        "parameters": after.weights(after.sizes) / before.weights(before.sizes),
        "channels": _channels(after) / _channels(before),
    }
    assert 0.5 < shares[of] <= 0.6
    odd = [g.size for g in after.groups if not g.fixed and g.size % 8 and g.size > 8]
    assert not odd


def _channels(found: Structure) -> int:
    return sum(group.size for group in found.groups if not group.fixed)


def test_statistics_are_mended(loaded: Artifact, model: Yolo, shapes: Path, tmp_path: Path) -> None:
    from yolodeploy.tasks.detection import map50_95
    from yolodeploy_torch.pruning.importance import importance, relative
    from yolodeploy_torch.pruning.prune import _Goal
    from yolodeploy_torch.pruning.selection import keep_best

    mended = _run(loaded, tmp_path / "work", shapes, keep=0.95, scope="global")
    found = structure(model.arch)
    scores = relative(importance("magnitude", found, model.state_dict(), model.arch.eps))
    kept = keep_best(
        _Goal.of(found, Prune(keep=0.95, scope="global")).sizes(found, scores, 0.95), scores
    )
    plain = rebuild(*shrink(model.arch, model.state_dict(), found, kept))
    view = load_view(shapes, View(images=24), 0)

    def score(one: Yolo) -> float:
        with torch.inference_mode():
            return map50_95(
                lambda x: one(torch.from_numpy(x)).numpy(),
                view,
                ImageShape.square(160),
                "one-to-many",
            )

    assert score(mended) > score(plain) + 0.05


def test_a_model_that_nothing_was_cut_from_is_recalibrated_to_itself(model: Yolo) -> None:
    from yolodeploy_torch.pruning.batch_norm import moments, recalibrate

    same = rebuild(model.arch, {k: v.clone() for k, v in model.state_dict().items()})
    recalibrate(same, IMAGES, moments(model, IMAGES))
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


def test_criterion_that_tells_nothing(model: Yolo, shapes: Path, tmp_path: Path) -> None:
    state = {
        k: torch.ones_like(v) if k.endswith("bn.weight") else v
        for k, v in model.state_dict().items()
    }
    source = tmp_path / "source"
    source.mkdir()
    write(source, model.arch, state)
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


def test_taylor_is_the_change_of_the_loss(model: Yolo, shapes: Path) -> None:
    """Against the derivative by a factor on what the normalisation gives, on one batch."""
    from yolodeploy_torch.params import Augment
    from yolodeploy_torch.pruning.importance import taylor
    from yolodeploy_torch.training.batches import Batches
    from yolodeploy_torch.training.detection_loss import DetectionLoss

    view = load_view(shapes, View(split="train", images=4), 0)
    plain = Augment.model_validate(dict.fromkeys(Augment.model_fields, 0))
    (batch,) = Batches(view, ImageShape.square(160), plain, 0).epoch(0, 4)
    found, loss = structure(model.arch), DetectionLoss(model.arch)
    scores = taylor(model, found, view, ImageShape.square(160), lambda *_: None)
    (group,) = found.convolutions["model.3.conv"].outputs
    gate = torch.ones(1, group.size, 1, 1, requires_grad=True)
    hook = model.get_submodule("model.3.bn").register_forward_hook(lambda *given: given[2] * gate)
    losses = loss(*model.logits(batch.images), batch.targets, ImageShape.square(160))
    hook.remove()
    (slope,) = torch.autograd.grad(losses.total, gate)
    expected = slope.flatten().abs().double()
    assert torch.allclose(scores[group], expected, rtol=1e-3, atol=1e-3 * float(expected.max()))
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_taylor_finds_the_half_that_is_hardly_used(
    loaded: Artifact, model: Yolo, shapes: Path, tmp_path: Path
) -> None:
    from yolodeploy.tasks.detection import map50_95

    params = {"keep": 0.6, "importance": "taylor", "scope": "global"}
    view = load_view(shapes, View(images=24), 0)
    smaller = _run(loaded, tmp_path / "work", shapes, **params)
    assert _macs(smaller) <= 0.6 * _macs(model)
    with threads(1), torch.inference_mode():
        before, after = (
            map50_95(
                lambda x, one=one: one(torch.from_numpy(x)).numpy(),
                view,
                ImageShape.square(160),
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
