"""`qat`: what it trains is what the 8-bit artifacts of all three backends compute."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import RealModel
from pydantic import ValidationError
from torch import Tensor
from torch_support import context, load

from yolodeploy.backend import Artifact, Context, Target
from yolodeploy.dataset import Dataset, load_view
from yolodeploy.digest import StatCache, tree_digest
from yolodeploy.errors import PlanRefused, StepFailed
from yolodeploy.plan import make_plan
from yolodeploy.recipe import View, load_recipe
from yolodeploy.registry import load_registry
from yolodeploy.sensitivity import output_noise
from yolodeploy_torch import folder
from yolodeploy_torch.fakequant import FakeQuantized, Quantizer, round_weights
from yolodeploy_torch.observe import Grids, observe
from yolodeploy_torch.params import Qat
from yolodeploy_torch.qat import qat
from yolodeploy_torch.ranges import RANGES_FILE, Range, Ranges, read_ranges
from yolodeploy_torch.structure import choose, convolutions
from yolodeploy_torch.ties import SILU_LEAST, by_tie, ties

SMALL: dict[str, Any] = {"epochs": 1, "batch": 8, "threads": 1, "holdout": 0.25}
KEPT = ("dfl", "decode")
BACKENDS = ("openvino", "ncnn", "coreml")


@pytest.fixture(scope="module")
def loaded(demo: RealModel, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return load(demo.weights, tmp_path_factory.mktemp("loaded") / "work")


@pytest.fixture(scope="module")
def view(demo: RealModel) -> Dataset:
    return load_view(demo.data, View(split="train", images=16), 0)


@pytest.fixture(scope="module")
def grids(loaded: Artifact, view: Dataset) -> Grids:
    model = folder.read(loaded.path)
    return observe(model, (torch.from_numpy(image) for image in view.letterboxed(160)))


def given(work: Path, view: Dataset, loaded: Artifact) -> Context:
    names = folder.read(loaded.path).arch.names
    return replace(context(work, 96), data={"training": view}, source=loaded, names=names)


def fake(loaded: Artifact, grids: Grids, *keep_float: str) -> FakeQuantized:
    model = folder.read(loaded.path)
    kept = choose((*KEPT, *keep_float), convolutions(model.arch), "keep_float")
    return FakeQuantized(model, grids, kept).eval()


def with_ranges(loaded: Artifact, ranges: Ranges, into: Path) -> Artifact:
    """The loaded model with these ranges beside it, as `qat` leaves it."""
    model = folder.read(loaded.path)
    into.mkdir()
    folder.write(into, model.arch, model.state_dict())
    ranges.write(into)
    return Artifact("yolo", into, "learned")


def even(ranges: Ranges) -> Ranges:
    """The steps that training rounds to, 128 of them below 0."""
    reads = {n: Range(low=-128 / 127 * r.high, high=r.high) for n, r in ranges.reads.items()}
    return Ranges(reads=reads, makes=ranges.makes)


def quantized(
    name: str, source: Artifact, work: Path, data: Mapping[str, Dataset], **params: object
) -> tuple[Artifact, Artifact, Any]:
    """Export in fp32 and quantize; returns both and the opened result."""
    plugin = load_registry().backends[name]
    device = next(d for d in plugin.DEVICES if d.name in ("xeon-icelake", "pixel-8", "iphone-13"))
    target = Target(device, "17" if name == "coreml" else device.os_default)
    made = [source]
    for step_name, given in (("export", {"precision": "fp32"}), ("quantize", params)):
        step = next(s for s in plugin.STEPS if s.name == step_name)
        names = folder.read(source.path).arch.names
        its = replace(context(work / step_name), target=target, data=data, names=names)
        result = step.run(made[-1], step.params.model_validate(given), its)
        made.append(Artifact(step.produces, result, ""))
    return made[1], made[2], plugin.open(made[2], target, 1)


def test_maps_that_are_joined_or_added_share_a_range(loaded: Artifact) -> None:
    found = ties(folder.read(loaded.path).arch)
    assert found.keys() == convolutions(folder.read(loaded.path).arch).keys() - {"model.22.dfl.conv"}
    groups = {frozenset(names) for names in by_tie(found).values()}
    assert {"model.4.m.0.cv1.conv", "model.4.m.1.cv1.conv", "model.4.cv2.conv"} in groups
    assert {"model.5.conv", "model.15.cv1.conv", "model.18.cv1.conv"} in groups
    assert {"model.16.conv", "model.22.cv2.0.0.conv", "model.22.cv3.0.0.conv"} in groups
    assert {"model.0.conv"} in groups
    assert found["model.0.conv"].least == 0
    assert found["model.1.conv"].least == SILU_LEAST
    assert found["model.4.cv2.conv"].least == 3 * SILU_LEAST, "a map and two sums on top of it"
    x = torch.linspace(-3, 0, 10_001)
    assert float(torch.nn.functional.silu(x).min()) == pytest.approx(SILU_LEAST, abs=1e-6)


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


def test_what_is_kept_float_stays_so(loaded: Artifact, grids: Grids) -> None:
    whole, most = fake(loaded, grids), fake(loaded, grids, "head")
    assert len(whole.ranges().reads) == 63
    assert len(whole.ranges().makes) == 57, "all but the last of six branches"
    head = {n for n, p in convolutions(whole.yolo.arch).items() if p.startswith("head")}
    assert whole.ranges().reads.keys() - most.ranges().reads.keys() == head
    images = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = folder.read(loaded.path)(images)
        everything = fake(loaded, grids, "backbone", "neck", "head")(images)
        assert torch.allclose(everything, exact, atol=1e-3)
        assert not torch.allclose(whole(images), exact, atol=1e-1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_artifact_computes_what_was_trained(
    backend: str, loaded: Artifact, grids: Grids, view: Dataset, tmp_path: Path
) -> None:
    """No calibration image is read, and what rounding does to the output is what was simulated.

    Ten convolutions with a shortcut, joins and a branch are enough to be in 8 bits: through all 63, a
    value that falls on the other side of a half moves as much as rounding itself.
    """
    keep = ("model.[1-9]?.*", "model.[3-9].*", "model.1.conv")
    makes = grids.makes if backend == "coreml" else {}
    student = fake(loaded, Grids(grids.reads, makes), *keep)
    artifact = with_ranges(loaded, even(student.ranges()), tmp_path / "learned")
    gone = replace(view, images=tuple(path.with_name("gone.png") for path in view.images))
    params = {"keep_float": (*KEPT, *keep)}
    exported, made, predict = quantized(
        backend, artifact, tmp_path, {"calibration": gone}, **params
    )
    assert read_ranges(exported.path) == read_ranges(artifact.path)
    assert read_ranges(made.path) is None, "it is no part of what ships"
    images = list(view.spread(4).letterboxed(160))
    with torch.inference_mode():
        wanted, exact = (
            np.concatenate([model(torch.from_numpy(image)).numpy() for image in images])
            for model in (student, folder.read(loaded.path))
        )
    found = np.concatenate([predict(image) for image in images])
    rounding = output_noise(exact, wanted)
    assert output_noise(wanted, found) < 0.2 * rounding
