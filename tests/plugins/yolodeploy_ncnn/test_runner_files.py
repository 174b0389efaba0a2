"""Jobs of the runner and what it answers: complete, cut off, foreign, too large."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from yolodeploy.backend import Artifact, Device, NativeWork, Target
from yolodeploy_ncnn import native_job
from yolodeploy_ncnn.runner import (
    Job,
    JobModel,
    RunnerFailed,
    TimedRun,
    job_text,
    new_id,
    parse_results,
)

MODEL = JobModel("model.ncnn.param", "model.ncnn.bin", "in0", ("out0", "out1"))
PREDICT = Job("0" * 32, "predict", (MODEL,), (3, 8, 8), "images.bin", "u8-hwc", 3)
TIME = replace(PREDICT, mode="time", models=(MODEL, MODEL), first_round=12, rounds=2)
ARRAYS = np.arange(3 * 2 * 5, dtype=np.float32).reshape(3, 2, 5)


def record(tag: bytes, content: bytes) -> bytes:
    return struct.pack("<4sQ", tag, len(content)) + content


def output(image: int, place: int, array: np.ndarray) -> bytes:
    head = struct.pack(f"<3I{array.ndim}I", image, place, array.ndim, *array.shape)
    return record(b"OUTP", head + array.astype("<f4").tobytes())


def results(*records: bytes, job: Job = PREDICT, count: int | None = None) -> bytes:
    data = b"YDRESULT" + struct.pack("<I", 1) + job.id.encode() + b"".join(records)
    said = len(records) if count is None else count
    return data + record(b"END!", struct.pack("<2I", said, zlib.crc32(data)))


def whole() -> list[bytes]:
    outputs = [output(i, p, ARRAYS[i] + p) for i in range(3) for p in range(2)]
    return [record(b"META", b"ncnn 1.0\n"), *outputs, record(b"META", b"cores 0 1\n")]


def times(*lines: str) -> bytes:
    return results(record(b"TIME", "\n".join(lines).encode()))


BURSTS = [f"burst {r} {m} 2.5:0.1 3{r}.{m}:0" for r in (12, 13) for m in (0, 1)]


def test_the_text_of_jobs() -> None:
    assert job_text(replace(PREDICT, cores=(4, 7))) == (
        "yolodeploy-runner-job 1\nid 00000000000000000000000000000000\nmode predict\nthreads 1\nwarm_up 3\n"
        "cores 4 7\nshape 3 8 8\nimages images.bin u8-hwc 3\n"
        "model model.ncnn.param model.ncnn.bin in0 out0,out1\nresults results.bin\nend\n"
    )
    assert "\nrounds 12 2\nburst 15 60 2\n" in job_text(TIME)
    assert len({new_id() for _ in range(50)}) == 50


@pytest.mark.parametrize(
    "job",
    [
        replace(PREDICT, images="../images"),
        replace(PREDICT, results="a b"),
        replace(PREDICT, models=(replace(MODEL, param=".hidden"),)),
        replace(PREDICT, models=(replace(MODEL, outputs=("a,b",)),)),
    ],
)
def test_names_that_a_job_cannot_hold(job: Job) -> None:
    with pytest.raises(ValueError, match="must have"):
        job_text(job)


def test_outputs_and_meta() -> None:
    found = parse_results(results(*whole()), PREDICT)
    assert found.meta == {"ncnn": "1.0", "cores": "0 1"}
    assert [array.tolist() for array in found.outputs] == [ARRAYS.tolist(), (ARRAYS + 1).tolist()]


def test_bursts() -> None:
    found = parse_results(times("delay counted", *BURSTS), TIME)
    assert found.delay_counted
    assert found.bursts[1] == (
        (TimedRun(2.5, 0.1), TimedRun(312.1, 0)),
        (TimedRun(2.5, 0.1), TimedRun(313.1, 0)),
    )


def test_every_cut_and_every_flipped_bit_is_noticed() -> None:
    data = results(*whole())
    for length in range(len(data)):
        with pytest.raises(ValueError, match="results"):
            parse_results(data[:length], PREDICT)
    for place in range(len(data)):
        with pytest.raises(ValueError, match=r"results|record"):
            parse_results(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :], PREDICT)


def test_what_the_runner_says_is_passed_on() -> None:
    with pytest.raises(RunnerFailed, match="ncnn cannot read the model"):
        parse_results(results(record(b"FAIL", b"ncnn cannot read the model")), PREDICT)


WIDE = struct.pack("<7I", 0, 0, 4, 1 << 31, 1 << 31, 1 << 31, 1 << 31)
MANY = struct.pack("<3I", 0, 0, 1 << 30)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (whole()[:-2], "must have 6 outputs, found 5"),
        ([*whole(), output(3, 0, ARRAYS[0])], "must have 6 outputs, found 7"),
        ([whole()[2], whole()[1], *whole()[3:]], "output 0 of image 0 is malformed"),
        ([output(0, 0, ARRAYS[0].T), *whole()[2:]], "out0 changes its shape at image 1"),
        ([output(0, 0, ARRAYS[0] * np.nan), *whole()[2:]], "out0 of image 0 has NaN"),
        ([output(0, 0, ARRAYS[0] + np.inf), *whole()[2:]], "out0 of image 0 has NaN"),
        ([record(b"OUTP", WIDE), *whole()[2:]], "output 0 of image 0 is malformed"),
        ([record(b"OUTP", MANY), *whole()[2:]], "output 0 of image 0 is malformed"),
        ([record(b"OUTP", b""), *whole()[2:]], "output 0 of image 0 is malformed"),
        ([record(b"SOME", b"")], "a record b'SOME', which is unknown"),
        ([record(b"META", b"a\n" * 20_000)], "has 20000 lines"),
        ([record(b"META", b"")] * 100, "more than 22 records"),
    ],
)
def test_malformed_outputs(records: list[bytes], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_results(results(*records), PREDICT)


def test_results_of_other_jobs_and_versions() -> None:
    with pytest.raises(ValueError, match="another job"):
        parse_results(results(*whole()), replace(PREDICT, id="1" * 32))
    with pytest.raises(ValueError, match="no results of a runner of version 1"):
        parse_results(results(*whole()).replace(b"\1\0\0\0", b"\2\0\0\0", 1), PREDICT)
    with pytest.raises(ValueError, match="one record TIME"):
        parse_results(results(*whole()), TIME)
    with pytest.raises(ValueError, match="checksum"):
        parse_results(results(*whole(), count=7), PREDICT)


@pytest.mark.parametrize("said", ["9" * 400, "9" * 1900 + " kB", "-1 kB", "much"])
def test_memory_that_is_no_figure(said: str, tmp_path: Path) -> None:
    """It is 0, which the host refuses."""
    (tmp_path / "model.ncnn.param").write_text("7767517\n1 1\nInput in0 0 1 out0\n")
    (tmp_path / "model.ncnn.bin").touch()
    artifact = Artifact("ncnn", tmp_path, "")
    target = Target(Device("any", "Any device", "android"))
    work = NativeWork("time", [artifact], target, (3, 8, 8), 1, "float32", 1, rounds=1)
    meta = record(b"META", f"peak_memory {said}\n".encode())
    job = native_job(work)
    (text,) = (content for content in job.files.values() if isinstance(content, bytes))
    told = replace(PREDICT, id=text.split()[3].decode())
    bursts = record(b"TIME", b"delay counted\nburst 0 0 2.5:0.1 3:0")
    assert job.read(results(meta, bursts, job=told)).peak_memory_mb == 0


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (BURSTS, "whether delays are counted"),
        (["delay unknown", *BURSTS[:3]], "must have 2 bursts of each of 2 models"),
        (["delay unknown", *BURSTS, BURSTS[0]], "must have 2 bursts of each of 2 models"),
        (["delay unknown", *["burst 12 0 1.0:0"] * 4], "not a burst of at least 2 runs"),
        (["delay unknown", *["\x0b"] * 5], "must have 2 bursts of each of 2 models"),
        (["delay unknown", *BURSTS[:3], "burst 13 1" + " 1:0" * (1 << 20)], "1048582 runs"),
        (["delay unknown", *BURSTS[1:], "burst 12 0 1.0:0 nan:0"], "'nan:0' is not the time"),
        (["delay unknown", *BURSTS[1:], "burst 12 0 1.0:0 1"], "'1' is not the time"),
        (["delay unknown", *BURSTS[1:], "burst 12 0 1.0:0 -1:0"], "'-1:0' is not the time"),
        (["delay unknown", *BURSTS[1:], "burst 12 0 1.0:0 inf:0"], "'inf:0' is not the time"),
    ],
)
def test_malformed_times(lines: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_results(times(*lines), TIME)
