"""ONNX files made to harm whoever opens them; `make bench ARGS=hostile` reads all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("onnxsim", reason="not installed. Run: pip install 'yolodeploy[onnx]'")

from hostile_onnx import everything, read_all

FEW = {
    "external: above": "lies in another file",
    "a file: messages a thousand deep": "not an ONNX file",
    "a model: a cycle": "which nothing makes before it",
    "a bomb: doubling a constant": "",
    "metadata: names a hundred deep": "",
}


def test_each_is_refused_in_a_sentence_with_little_memory(tmp_path: Path) -> None:
    files = {name: everything()[name] for name in FEW}
    seen = read_all(tmp_path, files)
    assert {name: fault for name, each in seen.items() if (fault := each.wrong(files[name]))} == {}
    assert [name for name, said in FEW.items() if not re.search(said, seen[name].said)] == []
