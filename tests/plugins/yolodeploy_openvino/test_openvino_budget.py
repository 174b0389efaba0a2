"""Single layers in 8 bits, and accuracy-aware quantization under a limit on mAP."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_openvino import digests, run
from test_openvino_quantize import (
    DATA,
    ICELAKE,
    PROBLEM,
    STEP,
    calibration,
    floats,  # noqa: F401 - a fixture
    image,  # noqa: F401 - a fixture
    quantize,
    source,  # noqa: F401 - a fixture
)
from torch_support import DEMO, context

import yolodeploy_openvino as backend
from yolodeploy import tasks
from yolodeploy.backend import Artifact, Context, Probe, Target
from yolodeploy.data.dataset import Dataset, load_view
from yolodeploy.errors import DataError, PlanRefused
from yolodeploy.recipe.fields import View
from yolodeploy_openvino.params import Quantize

pytestmark = pytest.mark.skipif(
    PROBLEM is not None or not DEMO.is_file(), reason=PROBLEM or f"{DEMO} is missing"
)
REST = ("backbone", "neck", "model.22.cv?.?.?.conv", "dfl", "decode")  # leaves head.last


def prepared(work: Path, view: Dataset | None = None) -> Context:
    data = {"calibration": view or calibration()}
    return replace(context(work), target=Target(ICELAKE), data=data)


@pytest.fixture(scope="module")
def probe(floats: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> Probe:  # noqa: F811
    assert STEP.probe
    work = tmp_path_factory.mktemp("probe") / "work"
    return STEP.probe(floats["fp32"], Quantize(keep_float=REST), prepared(work))


def test_trials_are_the_layers_that_would_be_quantized(probe: Probe) -> None:
    assert Counter(trial.part for trial in probe.trials) == {"head.last": 6}
    assert {trial.scheme for trial in probe.trials} == {"int8"}
    sizes = {trial.layer: trial.weights for trial in probe.trials}
    assert sizes["model.22.cv2.0.2"] == 64 * 64


@pytest.mark.parametrize("layer", ["model.22.cv2.0.2", "model.22.cv3.2.2"])
def test_a_trial_exchanges_one_layer(
    layer: str,
    probe: Probe,
    floats: dict[str, Artifact],  # noqa: F811
    image: np.ndarray,  # noqa: F811
    tmp_path: Path,
) -> None:
    trial = next(trial for trial in probe.trials if trial.layer == layer)
    probe.write(trial, tmp_path)
    alone = Artifact("openvino", tmp_path, "")
    layers = backend.describe(alone).layers
    assert [name for name, form in layers.items() if form == "int8"] == [layer]
    assert Counter(layers.values()) == {"fp32": 63, "int8": 1}
    delta = np.abs(run(backend, alone, image) - run(backend, floats["fp32"], image))
    assert 0 < delta.max() < 16
    before = digests(tmp_path)
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    probe.write(trial, tmp_path)
    assert digests(tmp_path) == before


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the models score on the calibration images, the float one first."""
    given: list[float] = []
    monkeypatch.setattr(tasks, "primary_score", lambda *_: given.pop(0))
    return given


def test_costliest_layers_stay_float_until_the_limit_is_met(
    scores: list[float],
    floats: dict[str, Artifact],  # noqa: F811
    tmp_path: Path,
) -> None:
    scores += [0.9, 0.8, 0.89]
    artifact = quantize(floats["fp32"], tmp_path / "work", keep_float=REST, max_drop=0.02)
    assert scores == []
    assert sorted(digests(artifact.path)) == ["layers.json", "model.bin", "model.xml"]
    layers = backend.describe(artifact).layers
    assert Counter(layers.values()) == {"fp32": 59, "int8": 5}


def test_the_limit_is_held_against_real_scores(
    floats: dict[str, Artifact],  # noqa: F811
    tmp_path: Path,
) -> None:
    """With a limit that the plain model meets, the plain model is what comes out."""
    plain = quantize(floats["fp32"], tmp_path / "plain", keep_float=REST)
    limited = quantize(floats["fp32"], tmp_path / "limited", keep_float=REST, max_drop=0.5)
    assert digests(limited.path) == digests(plain.path)


def test_a_limit_that_nothing_meets_names_the_best(
    scores: list[float],
    floats: dict[str, Artifact],  # noqa: F811
    tmp_path: Path,
) -> None:
    scores += [0.9, 0.8, 0.87, 0.86, 0.85]
    message = (
        r"no choice of layers meets `max_drop: 0\.01`\. The best was a drop of 0.0300 on the 4 calibration "
        r"images, with 1 of the costliest layers in floating point \(3 is the most that is tried\)"
    )
    with pytest.raises(PlanRefused, match=message):
        quantize(floats["fp32"], tmp_path / "work", keep_float=REST, max_drop=0.01)


def test_a_float_model_that_finds_nothing_is_no_judge(
    scores: list[float],
    floats: dict[str, Artifact],  # noqa: F811
    tmp_path: Path,
) -> None:
    for blind, message in ((0.0, "finds none"), (float("nan"), "no calibration image has")):
        scores[:] = [blind]
        with pytest.raises(DataError, match=message):
            quantize(floats["fp32"], tmp_path / message, keep_float=REST, max_drop=0.01)


def test_a_limit_without_labels_is_refused(
    floats: dict[str, Artifact],  # noqa: F811
    tmp_path: Path,
) -> None:
    view = load_view(DATA, View(split="train", images=4), 0)
    copies = tuple(
        Path(shutil.copy(file, tmp_path / file.name)) for file in view.images
    )  # without their labels
    with pytest.raises(DataError, match=r"these have no labels\. Name labelled images"):
        quantize(floats["fp32"], tmp_path / "work", replace(view, images=copies), max_drop=0.01)
