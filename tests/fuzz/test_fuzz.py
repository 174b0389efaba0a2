"""A few hundred damaged files of every kind; bench/trust/fuzz.py reads ten thousand of each."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_parsers import PARSERS
from fuzz_seeds import make_seeds
from fuzzing import MEGABYTES, SECONDS, fuzz

pytest.importorskip(
    "ultralytics", reason="the good files come from it. Run: pip install 'yolodeploy[train]'"
)
SLOW = {
    "ONNX": 12,
    "checkpoint": 30,
    "recipe": 120,
    "training state": 25,
    "yolo: graph.json, info.json": 40,
    "yolo: safetensors": 25,
}
NAMES = [name for name, parser in PARSERS.items() if parser.backend in ("", "ncnn")]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "seeds"
    make_seeds(folder, ["ncnn"])
    return folder


@pytest.mark.parametrize("name", [name for name in NAMES if not PARSERS[name].native])
def test_damaged_files_are_read_or_refused_in_a_sentence(name: str, seeds: Path) -> None:
    count = SLOW.get(name, 250)
    row = fuzz(name, count, 1, seeds)
    assert row.faults == []
    assert row.inputs == row.refused + row.accepted == count
    assert row.slowest < SECONDS
    assert row.peak_mb < MEGABYTES
