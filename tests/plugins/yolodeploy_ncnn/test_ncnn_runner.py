"""The runner, built, against the wheel: the same numbers, and an answer to every fault."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import native_builds
import numpy as np
import pytest
from real_model import ROOT

import yolodeploy_ncnn as backend
from yolodeploy_ncnn.runner import (
    SOURCES,
    Job,
    JobModel,
    Results,
    RunnerFailed,
    TimedRun,
    job_text,
    new_id,
    parse_results,
)
from yolodeploy_ncnn.runtime import NcnnPredictor

pytestmark = pytest.mark.skipif(
    backend.problem() is not None, reason=backend.problem() or "ncnn is installed"
)

# Two outputs: what went in, to the bit, and a network with all that rounds.
PARAM = """7767517
7 8
Input in0 0 1 in0 0=8 1=6 2=3
Split two 1 2 in0 a b
Concat same 1 1 a out0
Convolution conv 1 1 b c 0=8 1=3 11=3 12=1 13=2 14=1 2=1 3=2 4=1 5=1 6=216
Swish silu 1 1 c d
Reshape flat 1 1 d e 0=-1 1=8
Softmax soft 1 1 e out1 0=0 1=1
"""
MODEL = JobModel("model.ncnn.param", "model.ncnn.bin", "in0", ("out0", "out1"))


@pytest.fixture(scope="module")
def native() -> list[str]:
    return [str(native_builds.runner("native"))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A network and three images."""
    rng = np.random.default_rng(0)
    weights = np.concatenate([np.zeros(1), rng.normal(0, 0.3, 216 + 8)]).astype("<f4")
    (tmp_path / MODEL.param).write_text(PARAM)
    (tmp_path / MODEL.bin).write_bytes(weights.tobytes())
    return tmp_path


IMAGES = np.random.default_rng(1).integers(0, 256, (3, 3, 6, 8), np.uint8)
TENSOR = IMAGES.astype(np.float32) / np.float32(255)
JOB = Job("", "predict", (MODEL,), (3, 6, 8), "images.bin", "u8-chw", 3)


def ask(
    program: Sequence[str], folder: Path, job: Job, content: np.ndarray, code: int = 0
) -> Results:
    job = replace(job, id=new_id())
    (folder / job.images).write_bytes(np.ascontiguousarray(content).tobytes())
    (folder / "job.txt").write_text(job_text(job))
    done = run(program, folder)
    assert done.returncode == code, done.stderr
    return parse_results((folder / job.results).read_bytes(), job)


def run(program: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    command = [*program, str(folder / "job.txt")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_same_numbers_as_the_wheel(native: list[str], folder: Path) -> None:
    found = ask(native, folder, JOB, IMAGES)
    expected = NcnnPredictor(folder, 1)(TENSOR)
    assert found.outputs[0].tobytes() == TENSOR.tobytes() == expected["output"].tobytes()
    assert np.abs(found.outputs[1] - expected["prototypes"]).max() < 1e-6
    import ncnn

    assert found.meta["ncnn"] == ncnn.__version__
    assert {"machine", "kernel", "cores", "kernels"} < found.meta.keys()


@pytest.mark.parametrize(
    ("form", "content"), [("u8-hwc", IMAGES.transpose(0, 2, 3, 1)), ("f32-chw", TENSOR)]
)
def test_other_forms_of_images(
    form: str, content: np.ndarray, native: list[str], folder: Path
) -> None:
    assert (
        ask(native, folder, replace(JOB, form=form), content).outputs[0].tobytes()
        == TENSOR.tobytes()
    )  # type: ignore[arg-type]


def test_bursts_in_turns(native: list[str], folder: Path) -> None:
    models = (replace(MODEL, outputs=("out1",)),) * 3
    job = replace(JOB, mode="time", models=models, rounds=4, first_round=2, burst_ms=1, settle_ms=0)
    found = ask(native, folder, job, IMAGES)
    assert [len(bursts) for bursts in found.bursts] == [4, 4, 4]
    runs = [run for bursts in found.bursts for burst in bursts for run in burst]
    assert all(isinstance(run, TimedRun) and run.passed < 1000 for run in runs)
    assert found.meta["peak_memory"].endswith(" kB")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / MODEL.bin).write_bytes(bytes(40)), "does not fit its network"),
        (lambda f: (f / MODEL.bin).write_bytes(bytes(4 * 226)), "does not fit its network"),
        (lambda f: (f / MODEL.bin).unlink(), "cannot open"),
        (lambda f: (f / MODEL.param).write_text("no network"), "ncnn cannot read"),
        (
            lambda f: (f / MODEL.param).write_text(PARAM.replace("Swish", "LSTM")),
            "ncnn cannot read",
        ),
    ],
)
def test_a_network_that_cannot_be_read(
    damage, message: str, native: list[str], folder: Path
) -> None:
    damage(folder)
    with pytest.raises(RunnerFailed, match=message):
        ask(native, folder, JOB, IMAGES, code=1)


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (replace(JOB, count=4), "must have 576 bytes"),
        (replace(JOB, cores=(1023,)), "cannot run on the cores 1023"),
        (
            replace(JOB, models=(replace(MODEL, outputs=("out7",)),)),
            "cannot compute the output out7",
        ),
        (replace(JOB, models=(replace(MODEL, input="in7"),)), "has no input in7"),
    ],
)
def test_a_job_that_cannot_be_done(job: Job, message: str, native: list[str], folder: Path) -> None:
    with pytest.raises(RunnerFailed, match=message):
        ask(native, folder, job, IMAGES, code=1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("end\n", "", "was cut off"),
        ("yolodeploy-runner-job 1", "yolodeploy-runner-job 2", "the first line"),
        ("shape 3 6 8", "shape 3 6", "`shape` must have numbers"),
        ("images.bin", "../images.bin", "must name a file beside the job"),
        ("results results.bin", "results /results.bin", "must name a file beside the job"),
        ("threads 1", "threads 1 1", "`threads` has too many values"),
        ("threads 1", "fibres 1", "unknown key `fibres`"),
        ("threads 1", "cores", "`cores` must have numbers from 0 to 1023"),
        ("mode predict", "mode sleep", "`mode` must be"),
        (
            f"model {MODEL.param}",
            f"model x x x x\nmodel {MODEL.param}",
            "`model` must be there, once",
        ),
    ],
)
def test_a_job_that_cannot_be_read(
    old: str, new: str, message: str, native: list[str], folder: Path
) -> None:
    text = job_text(replace(JOB, id=new_id()))
    assert old in text
    (folder / "job.txt").write_text(text.replace(old, new))
    done = run(native, folder)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (folder / "results.bin").exists()


def test_arm64_under_emulation(folder: Path) -> None:
    native_builds.require("qemu-aarch64-static", package="qemu-user-static")
    program = ["qemu-aarch64-static", "-cpu", "cortex-a72", str(native_builds.runner("arm64"))]
    found = ask(program, folder, JOB, IMAGES)
    assert found.outputs[0].tobytes() == TENSOR.tobytes()
    assert np.abs(found.outputs[1] - NcnnPredictor(folder, 1)(TENSOR)["prototypes"]).max() < 1e-6
    assert found.meta["machine"] == "aarch64"
    assert "asimdhp" not in found.meta["kernels"]
    half = ask(["qemu-aarch64-static", "-cpu", "max", program[-1]], folder, JOB, IMAGES)
    assert {"asimdhp", "asimddp"} <= set(half.meta["kernels"].split())
    assert 0 < np.abs(half.outputs[1] - found.outputs[1]).max() < 2e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arch", "mips"], "--arch mips: must be native, arm64 or android"),
        (["--arch", "android"], "Set ANDROID_NDK to the folder of an NDK"),
        (["--sdist", __file__], "is not the file whose digest sources.sha256 has"),
    ],
)
def test_what_the_build_refuses(options: list[str], message: str, tmp_path: Path) -> None:
    native_builds.require("cmake", "make", "c++", package="cmake make g++")
    command = [str(SOURCES / "build.sh"), "--cache", str(tmp_path), *options]
    environment = {**os.environ, "ANDROID_NDK": "", "PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_digest_of_the_sources_is_known() -> None:
    """Of the version that constraints.txt names, which is what CI builds."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (pinned,) = (line.removeprefix("ncnn==") for line in lines if line.startswith("ncnn=="))
    assert f"  ncnn-{pinned}.tar.gz\n" in (SOURCES / "sources.sha256").read_text(encoding="utf-8")
