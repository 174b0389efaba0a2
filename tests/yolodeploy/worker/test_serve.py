"""A worker by itself: it ends when its desk vanishes, keeps a bounded amount, and tells how far its work is."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from yolodeploy.worker import serve, turns
from yolodeploy.worker.frames import read_frame, write_frame
from yolodeploy.worker.kept import Kept

_IDLE = "from yolodeploy.worker import serve; serve.IDLE = 1; serve.main({!r})"
_DOUBLING = """
class Model:
    runtime = {"name": "doubling", "version": "1", "device": "here"}
    def __call__(self, images):
        return {"out": 2 * images}
def open(folder, options, threads):
    return Model()
"""


def test_a_worker_whose_desk_is_silent_ends_by_itself(tmp_path: Path) -> None:
    words = [sys.executable, "-c", _IDLE.format(str(tmp_path))]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as worker:
        assert worker.wait(30) == 3
        assert worker.stderr is not None
        assert worker.stderr.read() == b"yolodeploy-worker: idle\n"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    words = [sys.executable, "-c", _IDLE.format(str(tmp_path / "file" / "worker"))]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 3
    assert done.stderr == b"yolodeploy-worker: disk 20\n"


def test_the_oldest_files_go_first_and_so_does_what_killed_workers_left(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    digests = []
    for number in range(4):
        data = bytes([number]) * 1000
        digests.append(sha256(data).hexdigest())
        kept.add(digests[-1], data)
        os.utime(tmp_path / "kept" / digests[-1], (number + 1, number + 1))
    kept.read(digests[0])  # used, so no longer the oldest
    for name in ("kept/tmpold", "kept/tmpnew", "open-old"):
        (tmp_path / name).write_text("")
    for name in ("kept/tmpold", "open-old"):
        os.utime(tmp_path / name, (1, time.time() - 7 * 86400))
    kept.prune(2000)
    assert set(kept.digests()) == {digests[0], digests[3]}
    assert (tmp_path / "kept" / "tmpnew").exists()
    assert not (tmp_path / "kept" / "tmpold").exists()
    assert not (tmp_path / "open-old").exists()


def test_progress_comes_before_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "doubling.py").write_text(_DOUBLING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(turns, "ROUNDS", (12, 13))
    monkeypatch.setattr(turns, "SETTLE", 0.0)
    monkeypatch.setattr(turns, "BURST", 0.0)
    image = np.zeros((3, 2, 2), np.float32).tobytes()
    digest = sha256(image).hexdigest()
    model = {"module": "doubling", "options": {}, "files": {}}
    asked = {"model": model, "others": {"b": model}, "tensor": digest, "shape": [3, 2, 2]}
    requests, answers = io.BytesIO(), io.BytesIO()
    write_frame(requests, {"id": 1, "do": "keep", "digests": [digest]}, [image])
    write_frame(requests, {"id": 2, "do": "time", "threads": 1, "limits": {}, **asked})
    requests.seek(0)
    serve.serve(requests, answers, tmp_path)
    answers.seek(0)
    assert read_frame(answers, 0).head == {"id": 1, "result": {}}
    heads = []
    while answers.tell() < len(answers.getvalue()):
        heads.append(read_frame(answers, 0).head)
    *progress, last = heads
    assert len(progress) >= 12
    assert all(head["id"] == 2 and 0 <= head["progress"] <= 1 for head in progress)
    assert last["result"]["runs"] > 0
