"""Fixtures of the contract suite: the demo model, images for it, and every backend's artifact."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import suite
from numpy.typing import NDArray

from yolodeploy.backend import Artifact, Backend, Counting, Step
from yolodeploy.backend.params import Params

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def checkpoint(pytestconfig: pytest.Config) -> Path:
    model: Path = pytestconfig.getoption("--model")
    if not model.is_file():
        pytest.skip(f"{model} is missing; name a YOLOv8 checkpoint with --model")
    return model


@pytest.fixture(scope="session")
def loaded(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return suite.load(checkpoint, tmp_path_factory.mktemp("load") / "work")


def _drawn(split: str, count: int) -> NDArray[np.uint8]:
    """Images of the shapes task, RGB [count, H, W, 3]."""
    path = ROOT / "examples" / "shapes" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", path)
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    suite.sys.modules["generate"] = generate  # dataclasses look their module up there
    spec.loader.exec_module(generate)
    return np.stack([generate.draw(split, i, suite.IMGSZ.width).image for i in range(count)])


@pytest.fixture(scope="session")
def images() -> NDArray[np.float32]:
    """The upper parts of two images of the shapes task, float32 RGB [2, 3, H, W] in 0..1."""
    drawn = _drawn("val", 2)[:, : suite.IMGSZ.height]
    return np.ascontiguousarray(drawn.transpose(0, 3, 1, 2), dtype=np.float32) / 255


@pytest.fixture(scope="session")
def expected(loaded: Artifact, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """The source model's output on the images."""
    plugin = suite.plugins()[suite.loader()[0]]
    return plugin.open(loaded, suite.target(plugin), suite.THREADS)(images)


@pytest.fixture(scope="session")
def macs(loaded: Artifact) -> int:
    """The multiply-accumulates of the source model for one image."""
    plugin = suite.plugins()[suite.loader()[0]]
    assert isinstance(plugin, Counting)
    return plugin.count(loaded, suite.IMGSZ).macs


@pytest.fixture(params=sorted(suite.plugins()))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def plugin(name: str) -> Backend:
    return suite.plugins()[name]


def _cases() -> list[tuple[str, Params]]:
    return [(n, v) for n, p in suite.starting() for v in suite.variants(suite.first_step(p))]


def _label(case: tuple[str, Params]) -> str:
    return "-".join([case[0], *map(str, case[1].model_dump(exclude_unset=True).values())])


@pytest.fixture(scope="session")
def exported(
    checkpoint: Path, loaded: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, Params], tuple[suite.Job, Artifact]]:
    """What a backend's first step makes of the demo model, made once with the same parameters."""
    found: dict[str, tuple[suite.Job, Artifact]] = {}

    def made(name: str, params: Params) -> tuple[suite.Job, Artifact]:
        key = f"{name} {params.model_dump_json()}"
        if key not in found:
            work = tmp_path_factory.mktemp(name) / "work"
            job = suite.job(name, params, checkpoint, loaded, work)
            found[key] = job, job.run()
        return found[key]

    return made


@pytest.fixture(scope="session", params=_cases(), ids=_label)
def built(
    request: pytest.FixtureRequest,
    exported: Callable[[str, Params], tuple[suite.Job, Artifact]],
) -> suite.Built:
    name, params = request.param
    plugin = suite.plugins()[name]
    if reason := plugin.problem():
        pytest.skip(reason)
    return suite.Built(name, plugin, params, *exported(name, params))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[suite.Elsewhere]:
    """Another process, to compare bytes with."""
    process = suite.Elsewhere(tmp_path_factory.mktemp("elsewhere"))
    yield process
    process.close()


@pytest.fixture(scope="session")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eight images of the shapes task as files."""
    folder = tmp_path_factory.mktemp("calibration")
    paths = [folder / f"{number}.png" for number in range(8)]
    for path, image in zip(paths, _drawn("train", len(paths)), strict=True):
        cv2.imwrite(str(path), image[..., ::-1])
    return paths


def _later() -> list[tuple[str, Step]]:
    return [(n, step) for n, p in suite.plugins().items() for step in suite.later_steps(p)]


@pytest.fixture(scope="session", params=_later(), ids=lambda case: f"{case[0]}-{case[1].name}")
def compressed(
    request: pytest.FixtureRequest,
    exported: Callable[[str, Params], tuple[suite.Job, Artifact]],
    calibration: list[Path],
) -> suite.Compressed:
    name, step = request.param
    plugin = suite.plugins()[name]
    if reason := plugin.problem():
        pytest.skip(reason)

    def make(params: Params) -> suite.Job:
        first, artifact = exported(name, params)
        return suite.later_job(name, step, artifact, first, calibration)

    job, artifact = suite.run_on_first_fit(make, suite.variants(suite.first_step(plugin)))
    return suite.Compressed(plugin, step, job, artifact)
