"""`layers.json`: what is written is read, in its order, and handed on."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolodeploy.compress import LAYERS_FILE, Part, carry, carry_layers, read_layers, write_layers
from yolodeploy.compress.learned_ranges import RANGES_FILE
from yolodeploy.errors import StepFailed

PARTS: dict[str, Part] = {"model.9.conv": "backbone", "model.22.cv2.0.2": "head.last"}


def test_names_are_read_in_order_and_carried(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("exported", "next", "last")]
    for folder in folders:
        folder.mkdir()
    write_layers(folders[0], PARTS)
    (folders[0] / RANGES_FILE).write_text("{}")
    carry(folders[0], folders[1])
    carry_layers(folders[1], folders[2])
    assert [sorted(path.name for path in folder.iterdir()) for folder in folders] == [
        [LAYERS_FILE, RANGES_FILE],
        [LAYERS_FILE, RANGES_FILE],
        [LAYERS_FILE],
    ]
    assert list(read_layers(folders[2]).items()) == list(PARTS.items())


def test_a_missing_or_damaged_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"layers\.json is missing.*Export the model again"):
        read_layers(tmp_path)
    for text in ('{"layers": {}}', '{"layers": {"a": "wing"}}', "[]", "{"):
        (tmp_path / LAYERS_FILE).write_text(text)
        with pytest.raises(StepFailed, match=r"layers\.json is damaged: .*Build it again"):
            read_layers(tmp_path)
