"""`info.json`: what the core knows of a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from yolodeploy.backend import ModelInfo
from yolodeploy.errors import StepFailed

PLAIN = ModelInfo("detect", ("cat", "dog"), (8, 16, 32), 42)


def test_facts_with_their_default_are_not_written(tmp_path: Path) -> None:
    """So the bytes, and the digests in locks, are those of a release that had no such facts."""
    PLAIN.write(tmp_path)
    text = (tmp_path / "info.json").read_text(encoding="utf-8")
    assert sorted(PLAIN.plain()) == ["names", "parameters", "strides", "task"]
    assert not any(word in text for word in ("imgsz", "channels", "single_cls", "head"))
    assert ModelInfo.read(tmp_path) == PLAIN


@pytest.mark.parametrize("imgsz", [160, (384, 640)])
def test_other_facts_come_back(tmp_path: Path, imgsz: int | tuple[int, int]) -> None:
    info = replace(PLAIN, imgsz=imgsz, channels=1, single_cls=True)
    info = replace(info, head="one-to-one", heads=("one-to-one", "one-to-many"))
    info.write(tmp_path)
    assert ModelInfo.read(tmp_path) == info


def test_damaged(tmp_path: Path) -> None:
    (tmp_path / "info.json").write_text('{"task": "detect"}')
    with pytest.raises(StepFailed, match="is damaged"):
        ModelInfo.read(tmp_path)
