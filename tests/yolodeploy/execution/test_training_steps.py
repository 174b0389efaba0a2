"""Steps that train: labels, pinned files, going on after a stop, and bytes that vary."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from world import World

from yolodeploy.store.store import Store

TRAINING = (
    "  calibration: {split: train}\n",
    "  calibration: {split: train}\n  training: {split: train}\n",
)


def recipe(world: World, params: str = "", *changes: tuple[str, str]) -> None:
    step = "steps:\n  - teach" + (f": {{{params}}}" if params else "")
    world.recipe(TRAINING, ("steps:", step), *changes)


def test_a_failed_run_goes_on_from_its_last_epoch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe(world)
    monkeypatch.setenv("CLAY_FAULT", "epoch1:raise")
    assert world.deploy().code == 7
    kept = world.cache / "resume" / world.plan().steps[1].id
    assert (kept / "epochs").read_text() == "01"
    monkeypatch.delenv("CLAY_FAULT")
    world.good()
    assert [line for line in world.log if line.startswith("epoch")] == [
        "epoch0",
        "epoch1",
        "epoch2",
    ]
    assert not kept.exists()


def test_prune_keeps_what_is_fresh_and_removes_the_rest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe(world)
    monkeypatch.setenv("CLAY_FAULT", "epoch1:raise")
    world.deploy()
    kept = world.cache / "resume" / world.plan().steps[1].id
    world.run("cache", "prune")
    assert kept.exists()
    old = time.time() - 40 * 86400
    os.utime(kept, (old, old))
    world.run("cache", "prune")
    assert not kept.exists()


@pytest.mark.parametrize(
    ("params", "changes", "code", "message"),
    [
        (
            "",
            [],
            3,
            "pot.yaml:10:5: `teach` needs training images. Add `data: training:` to the recipe.",
        ),
        (
            "epochs: 2",
            [
                (
                    TRAINING[1],
                    TRAINING[1].replace("training: {split: train}", "training: {split: val}"),
                )
            ],
            6,
            "pot.yaml:8:3: data/images/val/val000.png is both a training and an evaluation image, so the "
            "measured accuracy would flatter. Choose another split or fewer images.",
        ),
    ],
    ids=["no training data", "trained on what is measured"],
)
def test_refused_when_planning(
    world: World, params: str, changes: list[tuple[str, str]], code: int, message: str
) -> None:
    recipe(world, params)
    text = (world.root / "pot.yaml").read_text()
    if not changes:
        text = text.replace("  training: {split: train}\n", "")
    for old, new in changes:
        text = text.replace(old, new)
    world.write("pot.yaml", text)
    result = world.run("plan", "pot.yaml")
    assert (result.code, result.error) == (code, message)


def test_training_images_without_any_label_are_refused_when_planning(world: World) -> None:
    recipe(world)
    for label in (world.root / "data/labels/train").iterdir():
        label.unlink()
    result = world.run("plan", "pot.yaml")
    assert result.code == 6
    assert result.error == (
        "pot.yaml:11:5: `teach` learns from labels, and none of the 4 images of `data: training:` "
        "(pot.yaml:8:3) has a label file. 4 of 4 images have no label file and count as showing nothing. "
        "Looked in data/labels/train (which is empty)."
    )


def pinned(world: World, folder: str = "") -> str:
    content = b"a teacher"
    world.write(f"{folder}teacher.clay", content)
    return f"like: {{file: {folder}teacher.clay, sha256: {hashlib.sha256(content).hexdigest()}}}"


def test_a_pinned_file_counts_by_its_content_and_not_by_its_place(world: World) -> None:
    recipe(world, pinned(world))
    first = world.plan()
    world.good()
    assert str(world.root) not in world.lock.read_text()
    recipe(world, pinned(world, "elsewhere/"))
    assert world.plan().final.id == first.final.id
    recipe(world)
    assert world.plan().final.id != first.final.id


def test_a_pinned_file_and_every_view_are_in_the_attestation_documents(world: World) -> None:
    recipe(world, pinned(world))
    world.good()
    digest = hashlib.sha256(b"a teacher").hexdigest()
    raw = json.loads((world.bundle / "provenance.json").read_text())
    given = raw["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert {"name": "steps/1-teach/like", "digest": {"sha256": digest}} in given
    assert {"data/training", "data/calibration", "data/evaluation"} <= {i["name"] for i in given}
    bill = json.loads((world.bundle / "bom.cdx.json").read_text())
    teacher = next(c for c in bill["components"] if c["name"] == "steps/1-teach/like")
    assert (teacher["type"], teacher["hashes"][0]["content"]) == ("machine-learning-model", digest)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is None


def test_a_pinned_file_that_is_absent_or_another_is_refused(world: World) -> None:
    recipe(world, pinned(world))
    world.write("teacher.clay", "another teacher")
    result = world.run("plan", "pot.yaml")
    assert result.code == 5
    assert result.error.startswith("pot.yaml:11:5: `like`: teacher.clay has sha256 ")
    (world.root / "teacher.clay").unlink()
    result = world.run("plan", "pot.yaml")
    assert (result.code, result.error) == (
        5,
        "pot.yaml:11:5: `like`: there is no file teacher.clay",
    )


def test_bytes_that_vary_are_named_in_the_lock_and_reused(world: World) -> None:
    recipe(world, "device: cuda")
    world.good()
    assert '"varies": "sums on cuda come in any order"' in world.lock.read_text()
    world.good("--locked")
    Store(world.cache, print).remove(world.cache / "objects" / (i := world.plan().final.id)[:2] / i)
    world.good("--locked")  # the trained step is still there
    assert world.log.count("teach") == 1
    assert world.run("cache", "prune", "--all").code == 0
    result = world.deploy("--locked")
    assert result.code == 8
    assert result.error == (
        "pot.yaml:11:5: the result of `teach` is not in the store and cannot be made again: sums "
        "on cuda come in any order. Use a store that has it (--cache, --store), or deploy without --locked and "
        "commit the new pot.lock."
    )


def test_a_varying_result_that_was_lost_is_never_replaced_below_what_was_built_on_it(
    world: World,
) -> None:
    recipe(world, "device: cuda")
    world.good()
    taught = world.plan().steps[1].id
    Store(world.cache, print).remove(world.cache / "objects" / taught[:2] / taught)
    lost = (
        "pot.yaml:11:5: the result of `teach` is not in the store and cannot be made again: sums on cuda "
        "come in any order. "
    )
    result = world.deploy()
    assert (result.code, result.error) == (
        9,
        f"{lost}Later results that were built on it are still there. Run `yolodeploy cache prune --all`, deploy again, and "
        "commit the new lock.",
    )
    assert world.deploy("--locked").error.startswith(f"{lost}Use a store that has it")
    assert world.log.count("teach") == 1
    world.run("cache", "prune", "--all")
    world.good()
    assert world.log.count("teach") == 2


def test_pruning_beside_a_run_that_ends_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder to resume from goes between being listed and being looked at."""
    (world.cache / "resume" / "0").mkdir(parents=True)
    listed = Path.glob

    def gone(folder: Path, pattern: str) -> list[Path]:
        found = list(listed(folder, pattern))
        for path in found if pattern == "resume/*" else ():
            path.rmdir()
        return found

    monkeypatch.setattr(Path, "glob", gone)
    assert world.run("cache", "prune", "--all").code == 0
