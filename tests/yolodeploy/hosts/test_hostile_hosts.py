"""Hosts that lie, babble, fall silent or send nonsense: one sentence that names the host, and nothing of it is used."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import misbehaving_worker as worker
import numpy as np
import pytest

from yolodeploy.backend import Artifact, Device, Remote, Target, Worker
from yolodeploy.errors import HostProblem
from yolodeploy.hosts import ProcessTransport, WorkerHost, session
from yolodeploy.hosts.answers import Machine, Opened, timing_of, typed

IMAGES = np.full((2, 3, 8, 8), 1 / 3, np.float32)  # no 8-bit values, so they are sent as they are
TARGET = Target(Device("any", "Any device", "linux"))
REMOTE = Remote(("output",), lambda found: found["output"], shapes=lambda: [(6, 4)])
BACKEND: Any = SimpleNamespace(
    NAME="any",
    WORKER=Worker("yolodeploy.worker.noise", requires=(), pinned=()),
    remote=lambda _artifact, _target: REMOTE,
)
WORDS = 60  # of a message


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a second and a half instead of minutes."""
    monkeypatch.setattr(session, "PATIENCE", dict.fromkeys(session.PATIENCE, 1.5))
    monkeypatch.setattr(session, "_RATE", 1e9)


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    (tmp_path / "artifact").mkdir()
    return Artifact("any", tmp_path / "artifact", "")


def _host(how: str, folder: Path) -> WorkerHost:
    command = [sys.executable, "-S", "-E", worker.__file__, how]
    return WorkerHost(ProcessTransport("liar", command, str(folder)))


def _refused(caught: pytest.ExceptionInfo[HostProblem]) -> str:
    said = str(caught.value)
    assert said.startswith("host `liar`: ")
    assert said.isprintable(), said
    assert len(said.split()) < WORDS, said
    return said


SAID = {
    "is silent": "it did not answer within 2 seconds. Run again, or restart it.",
    "sends one byte": "it did not answer within 2 seconds",
    "is no JSON": "it sent a line that is not JSON, so nothing that it said is used",
    "is a list": "it sent JSON that is not an object",
    "is deep": "it sent ",
    "has no sizes": "it sent a message without the sizes of its blobs",
    "has sizes below nothing": "it sent a message without the sizes of its blobs",
    "has sizes that are no number": "it sent a message without the sizes of its blobs",
    "has too many blobs": "it sent a message without the sizes of its blobs",
    "is too large": "it sent a message of more than the ",
    "is larger than a number": "it sent a message of more than the ",
    "has no end": "it sent a line without an end",
    "is always half done": "it did not answer within 2 seconds",
    "is done twice": "the progress of its work is no share",
    "answers another request": "it answered another request, so nothing that it said is used",
    "has no result": "its answer has no result",
    "has another result": "the answer is not what an answer has there",
    "has a key of a terminal": r"\x1b[2J is not what an answer has there",
    "complains in colour": r"\x1b[31mred\n",
    "complains of no disk": "x",
    "is cut": "the connection was cut",
    "has too few images": "the answer has other outputs than output [6, 4] of 2 images",
    "has too many images": "the answer has other outputs than output [6, 4] of 2 images",
    "has another output": "the answer has other outputs than output [6, 4] of 2 images",
    "has one output more": "the answer has other outputs than output [6, 4] of 2 images",
    "has no output": "the answer has other outputs than output [6, 4] of 2 images",
    "has another shape": "the answer has other outputs than output [6, 4] of 2 images",
    "has a negative shape": "the answer has other outputs than output [6, 4] of 2 images",
    "has another size": "an output has another size than it says",
    "is not finite": "the output output has values that are not finite",
}


@pytest.mark.parametrize("how", SAID)
def test_an_answer_that_is_none_is_refused(how: str, artifact: Artifact) -> None:
    host = _host(how, artifact.path)
    try:
        predictor = host.open(BACKEND, artifact, TARGET, 1)
        began = time.monotonic()
        with pytest.raises(HostProblem) as caught:
            predictor(IMAGES)
        assert time.monotonic() - began < 10
    finally:
        host.close()
    assert SAID[how] in _refused(caught)


def test_all_ways_to_answer_are_tried() -> None:
    assert set(SAID) == set(worker.ANSWERS)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("begins silently", "it did not answer within 2 seconds"),
        ("babbles", "it printed too much before the worker began"),
        ("babbles in one line", "it printed too much before the worker began"),
        ("dies", r"\x1b[31mred\x07 death"),
    ],
)
def test_a_worker_that_does_not_begin(how: str, said: str, artifact: Artifact) -> None:
    host = _host(how, artifact.path)
    with pytest.raises(HostProblem) as caught:
        host.open(BACKEND, artifact, TARGET, 1)
    host.close()
    assert said in _refused(caught)


def test_a_good_one_is_believed(artifact: Artifact) -> None:
    host = _host("", artifact.path)
    try:
        found = host.open(BACKEND, artifact, TARGET, 1)(IMAGES)
    finally:
        host.close()
    np.testing.assert_array_equal(np.asarray(found), np.full((2, 6, 4), 0.5, np.float32))


MACHINES: dict[str, Mapping[str, Any]] = {
    "processors": {"processors": 0},
    "cpu": {"cpu": 5},
    "kept.0": {"kept": ["../../etc"]},
    "free_bytes": {"free_bytes": -1},
    "features": {"features": ["x"] * 5000},
    "board": {"board": "x" * 100_000},
}


@pytest.mark.parametrize("where", MACHINES)
def test_a_machine_that_cannot_be(where: str) -> None:
    with pytest.raises(HostProblem, match=f"^host `liar`: {where} is not what") as caught:
        typed(Machine, {**worker.MACHINE, **MACHINES[where]}, "liar")
    _refused(caught)


def test_names_of_a_machine_do_not_reach_the_terminal_as_they_are() -> None:
    found = typed(Machine, {**worker.MACHINE, "cpu": "A76\x1b[2J" + "y" * 1000}, "liar")
    assert found.cpu.startswith(r"A76\x1b[2Jyy")
    assert len(found.cpu) == 300


@pytest.mark.parametrize("batch", [0, -1, 10**9, "many", None])
def test_a_batch_that_cannot_be(batch: object) -> None:
    about = {"name": "ncnn", "version": "1", "device": "x"}
    with pytest.raises(HostProblem, match=r"^host `liar`: batch is not what"):
        typed(Opened, {"runtime": about, "batch": batch}, "liar")


RATIO = {"value": 0.5, "low": 0.4, "high": 0.6}
SERVED = {
    "rate": RATIO,
    "reference": RATIO,
    "ratio": RATIO,
    "batch": 1,
    "requests": 4,
    "threads": 4,
    "waited": None,
}
TIMING = {
    "median_ms": 5.0,
    "p90_ms": 6.0,
    "others_ms": {"float": 9.0},
    "ratios": {"float": RATIO},
    "peak_memory_mb": 80.0,
    "runs": 100,
    "threads": 1,
    "cpu": "A76",
    "waited": 0.01,
    "batch": 1,
    "throughput": SERVED,
    "climate": {"before": {"celsius": 41.5}},
    "image": {"value": 5.0, "low": 4.5, "high": 5.5},
    "samples_ms": {"": [5.0, 5.5], "float": [9.0]},
}
NAN, ENDLESS = float("nan"), float("inf")
TIMINGS: list[tuple[str, Mapping[str, Any]]] = [
    ("median_ms", {"median_ms": NAN}),
    ("median_ms", {"p90_ms": ENDLESS}),
    ("median_ms", {"median_ms": -1.0}),
    ("p90_ms", {"p90_ms": 4.9}),
    ("peak_memory_mb", {"peak_memory_mb": 0.0}),
    ("others_ms", {"others_ms": {}}),
    ("others_ms", {"others_ms": {"float": NAN}}),
    ("others_ms", {"others_ms": {"float": 9.0, "more": 9.0}}),
    ("ratios", {"ratios": {"other": RATIO}}),
    ("ratios", {"ratios": {"float": {**RATIO, "high": 0.45}}}),
    ("ratios", {"ratios": {"float": {**RATIO, "low": 0.0}}}),
    ("image", {"image": None}),
    ("image", {"image": {**RATIO, "value": NAN}}),
    ("samples_ms", {"samples_ms": {"": [5.0]}}),
    ("samples_ms", {"samples_ms": {"": [5.0], "float": [NAN]}}),
    ("samples_ms", {"samples_ms": {"": [], "float": [9.0]}}),
    ("samples_ms", {"samples_ms": {"": [5.0] * 201, "float": [9.0]}}),
    ("runs", {"runs": 0}),
    ("runs", {"batch": 0}),
    ("threads", {"threads": 8}),
    ("cpu", {"cpu": "\x1b[2J"}),
    ("waited", {"waited": NAN}),
    ("climate", {"climate": {"before": {"celsius": NAN}}}),
    ("climate", {"climate": {"before": ["celsius"], "after": ["celsius"]}}),
    ("climate", {"climate": {"after": {"governors": 5}}}),
    ("climate", {"climate": {"after": {"celsius": 10**4000}}}),
    ("climate", {"climate": {"after": {"battery": {"a": 1}}}}),
    ("climate", {"climate": {str(number): 1 for number in range(1000)}}),
    ("throughput", {"throughput": None}),
    ("throughput", {"throughput": {**SERVED, "threads": 1}}),
    ("throughput", {"throughput": {**SERVED, "rate": {**RATIO, "value": NAN}}}),
]


@pytest.mark.parametrize(("where", "values"), TIMINGS)
def test_figures_that_are_none(where: str, values: Mapping[str, Any]) -> None:
    asked = {"others": ["float"], "threads": 1, "serving": 4}
    assert timing_of(TIMING, "liar", **asked).median_ms == 5.0  # type: ignore[arg-type]
    with pytest.raises(HostProblem, match=f"^host `liar`: {where} of its timing is not") as caught:
        timing_of({**TIMING, **values}, "liar", **asked)  # type: ignore[arg-type]
    _refused(caught)
