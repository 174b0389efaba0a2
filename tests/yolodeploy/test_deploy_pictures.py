"""Pictures and curves on their way into a bundle, and what `verify` says of pictures that somebody changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from forging import mend
from world import World

from yolodeploy.tasks import read_pictures


def test_a_bundle_has_pictures_and_curves_unless_images_are_to_stay(world: World) -> None:
    report = world.good("--json").json
    pictures = read_pictures(world.bundle / "pictures.json")
    assert pictures.task == "detect"
    images = {path.name: path for path in (world.root / "data/images/val").iterdir()}
    for each in pictures.pictures:
        digest = hashlib.sha256(images[each.image].read_bytes()).hexdigest()
        assert each.digest == f"sha256:{digest}"
        assert each.truth is not None
    assert {shape.name for each in pictures.pictures for shape in each.truth or ()} <= {"red", "green", "blue"}  # fmt: skip
    for model in ("source", "artifact"):
        recall = report["curves"][model]["precision_recall"]["recall"]
        assert recall == [step / 100 for step in range(101)]
    assert all(0 < len(report["latencies"][model]) <= 200 for model in ("artifact", "float"))
    assert report["bytes_by_layer_reason"] == "kiln does not say where the bytes are"
    before = world.state()
    world.good("--no-images")
    assert "pictures.json" not in json.loads((world.bundle / "manifest.json").read_text())["files"]
    assert not (world.bundle / "pictures.json").exists()
    assert world.run("verify", str(world.bundle)).code == 0
    left_alone = world.state()
    world.good("--no-images")
    assert world.state() == left_alone
    world.good()
    assert read_pictures(world.bundle / "pictures.json") == pictures
    stored = {path: value for path, value in before.items() if str(world.cache) in path}
    assert stored.items() <= world.state().items()  # nothing was measured again


def test_names_with_markup_pass_through_as_they_are(world: World) -> None:
    names = ["<script>alert(1)</script>", "&amp;'\"><img src=x>", "blue"]
    world.weights(names=names)
    data = yaml.safe_load((world.root / "data/data.yaml").read_text())
    data["names"] = dict(enumerate(names))
    (world.root / "data/data.yaml").write_text(yaml.safe_dump(data))
    world.good()
    pictures = read_pictures(world.bundle / "pictures.json").pictures
    shown = {shape.name for each in pictures for shape in (*(each.truth or ()), *each.source)}
    assert {*names[:2]} <= shown <= {*names}
    assert "<script>alert" not in (world.bundle / "report.html").read_text(encoding="utf-8")


def test_without_labels_there_are_pictures_but_no_curves(world: World) -> None:
    for file in (world.root / "data/labels/val").iterdir():
        file.unlink()
    report = world.good("--json").json
    assert report["curves_reason"] == "the evaluation images have no labels"
    assert "curves" not in report
    pictures = read_pictures(world.bundle / "pictures.json").pictures
    assert pictures
    assert {each.truth for each in pictures} == {None}


def _drop_key(value: Any) -> None:
    del value["pictures"][0]["jpeg"]


def _other_task(value: Any) -> None:
    value["task"] = "pose"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_drop_key, "pictures.json cannot be read: pictures[0] lacks jpeg"),
        (_other_task, "pictures.json is of the task pose, and report.json of detect"),
    ],
)
def test_verify_reads_pictures(
    deployed: World, change: Callable[[Any], None], problem: str
) -> None:
    file: Path = deployed.bundle / "pictures.json"
    value = json.loads(file.read_bytes())
    change(value)
    file.write_text(json.dumps(value))
    assert "pictures.json was changed" in deployed.run("verify", str(deployed.bundle)).error
    mend(deployed.bundle, statement=True)
    assert problem in deployed.run("verify", str(deployed.bundle)).error
