"""What a plan learns from the weights: the size, the classes, and whether they can be used at all."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from world import World

from yolodeploy.backend import ModelInfo, Params
from yolodeploy.errors import ModelError, PlanRefused
from yolodeploy.planning.planner import plan_recipe
from yolodeploy.reproduce.relocate import relocate

INFO = ModelInfo("detect", ("red", "green", "blue"), (8, 16, 32), 42, imgsz=96)
Answer = Callable[[Path], ModelInfo]


@pytest.fixture
def reads(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Path]]:
    """Make the plugin of the weights answer; returns the list of the files that it read."""
    world.recipe(("\n  imgsz: 64", ""))
    world.recipe(name="stated.yaml")

    def install(answer: ModelInfo | Exception = INFO) -> list[Path]:
        read: list[Path] = []

        def facts(weights: Path, params: Params) -> ModelInfo:
            read.append(weights)
            if isinstance(answer, Exception):
                raise answer
            return answer

        clay = importlib.import_module("clay")
        monkeypatch.setattr(clay, "facts", facts, raising=False)
        return read

    return install


Reads = Callable[..., list[Path]]


def test_the_training_size_is_the_default(world: World, reads: Reads) -> None:
    reads()
    plan = world.plan()
    assert (plan.imgsz.plain, plan.warnings) == (96, ())
    world.recipe(("imgsz: 64", "imgsz: 96"), name="same.yaml")
    same = world.plan("same.yaml")
    assert [step.id for step in same.steps] == [step.id for step in plan.steps]
    report = world.good("--json").json
    assert (report["imgsz"], report["notes"]) == (96, [])
    bundled = json.loads((world.bundle / "plan.json").read_text(encoding="utf-8"))
    assert bundled["recipe"]["model"]["imgsz"] == 96
    assert world.run("verify", "dist/pot", "--lock", "pot.lock").code == 0


def test_another_size_is_warned_about(world: World, reads: Reads) -> None:
    reads()
    note = "the model was trained at 96 px and runs at 64 px, which usually costs accuracy"
    warning = f"stated.yaml:3:3: {note}. Leave `imgsz` out to take the training size."
    checked = world.run("check", "stated.yaml")
    assert (checked.code, checked.out) == (0, "stated.yaml: ok\n")
    assert checked.err.endswith(f"\nwarning: {warning}\n")
    assert world.run("check", "stated.yaml", "--json").json[0]["warnings"] == [warning]
    deployed = world.run("deploy", "stated.yaml")
    assert f"warning: {warning}" in deployed.err
    assert f"note            {note[:40]}" in deployed.out
    report = (world.root / "dist" / "stated" / "report.html").read_text(encoding="utf-8")
    assert f"Note: {note}." in report


def test_a_rectangle_of_the_training_size_is_not_another_size(world: World, reads: Reads) -> None:
    reads()
    world.recipe(("imgsz: 64", "imgsz: [64, 96]"), name="wide.yaml")
    world.recipe(("imgsz: 64", "imgsz: [64, 128]"), name="wider.yaml")
    assert world.plan("wide.yaml").notes == ()
    assert "runs at 64 x 128 px" in world.plan("wider.yaml").notes[0]
    reads(ModelInfo("detect", INFO.names, INFO.strides, 42, imgsz=(96, 64)))
    world.weights(padding=1)
    assert world.plan().imgsz.plain == [96, 64]


def test_a_size_that_the_weights_do_not_say(world: World, reads: Reads) -> None:
    reads(ModelInfo("detect", INFO.names, INFO.strides, 42))
    plan = world.plan()
    assert plan.imgsz.plain == 640
    assert plan.warnings == (
        "pot.yaml:1:1: model.clay does not say at which size the model was trained, so 640 px are taken. "
        "Write the size as `imgsz`.",
    )
    assert world.plan("stated.yaml").warnings == ()


@pytest.mark.parametrize("imgsz", [(96, 100), 100, 8192])
def test_a_training_size_that_no_recipe_may_have(world: World, reads: Reads, imgsz: object) -> None:
    reads(ModelInfo("detect", INFO.names, INFO.strides, 42, imgsz=imgsz))  # type: ignore[arg-type]
    with pytest.raises(PlanRefused, match=r"was trained at .* px.*Write `imgsz: 640` or another"):
        world.plan()
    stated = world.plan("stated.yaml")
    assert stated.imgsz.plain == 64
    assert [text.endswith("usually costs accuracy.") for text in stated.warnings] == [True]


def test_a_stated_size_that_the_coarsest_stride_does_not_divide(world: World, reads: Reads) -> None:
    """Before anything is trained, and not when it is exported."""
    reads(ModelInfo("detect", INFO.names, (8, 16, 32, 64), 42))
    world.recipe(("imgsz: 64", "imgsz: [64, 96]"), name="wide.yaml")
    refused = world.run("plan", "wide.yaml").error
    assert refused == (
        "wide.yaml:3:3: 96 is not a multiple of 64, the coarsest stride of this model. Use 64 or 128."
    )
    assert world.plan("stated.yaml").imgsz.plain == 64


def test_weights_are_read_once_and_remembered_by_their_digest(
    world: World, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = reads()
    recipes = [world.recipe(name=f"{n}.yaml").name for n in range(20)]
    assert world.run("check", *recipes, "pot.yaml").code == 0
    assert world.run("check", "pot.yaml").code == 0
    with monkeypatch.context() as nothing_new:
        nothing_new.setattr(
            "yolodeploy.system.memo.replace_file", lambda *_: pytest.fail("written")
        )
        assert world.plan().facts == INFO
    assert len(read) == 1
    (world.cache / "facts.json").write_text("damaged")
    assert world.plan().facts == INFO
    world.weights(padding=1)
    assert world.plan().facts == INFO
    assert len(read) == 3


def test_bad_weights_are_refused_by_check_as_by_deploy(world: World, reads: Reads) -> None:
    read = reads(ModelError("model.clay is a teapot. Fire a pot instead."))
    recipes = [world.recipe(name=f"{n}.yaml").name for n in range(3)]
    checked, deployed = world.run("check", *recipes), world.deploy()
    assert checked.code == deployed.code == 5
    assert checked.err.count("is a teapot") == 3
    assert len(read) == 2  # once for each command
    assert deployed.error == "pot.yaml:2:3: model.clay is a teapot. Fire a pot instead."
    assert world.run("check", "pot.yaml").error == deployed.error
    assert world.log == []


def test_other_classes_are_refused_by_check_as_by_deploy(world: World, reads: Reads) -> None:
    reads(ModelInfo("detect", ("red", "green"), INFO.strides, 42))
    checked, deployed = world.run("check", "pot.yaml"), world.deploy()
    assert checked.code == deployed.code == 6
    assert "the data set names 3 classes, the model 2 (red, green)" in checked.error
    assert checked.error == deployed.error


def test_one_class_for_all_is_measured_so(world: World, reads: Reads) -> None:
    reads(ModelInfo("detect", ("item",), INFO.strides, 42, imgsz=64, single_cls=True))
    several = world.plan("stated.yaml").views["evaluation"]
    assert (several.names, several.merged) == (("item",), 3)
    assert {box.cls for image in several.images for box in several.boxes(image)} == {0}
    note = "the data set's 3 are measured as one, `item`"
    assert note in world.plan("stated.yaml").notes[0]
    before = world.plan("stated.yaml").view_digests
    reads(INFO)
    world.weights(padding=1)
    assert before["evaluation"] != world.plan("stated.yaml").view_digests["evaluation"]


def test_a_copy_of_merged_classes_and_hidden_images_is_the_same_plan(
    world: World, reads: Reads, tmp_path: Path
) -> None:
    val = world.root / "data/images/val"
    (val / "val000.png").rename(val / ".val000.png")
    (world.root / "data/labels/val/val000.txt").rename(world.root / "data/labels/val/.val000.txt")
    lines = [f"./images/val/{image.name}\n" for image in val.iterdir()]
    world.write("data/val.txt", "".join(lines))
    names = "names: [red, green, blue]\n"
    world.write("data/data.yaml", f"train: images/train\nval: val.txt\n{names}")
    reads(ModelInfo("detect", ("item",), INFO.strides, 42, imgsz=64, single_cls=True))
    plan = world.plan()
    copy = plan_recipe(relocate(plan, tmp_path / "copy"), world.cache)
    assert len(plan.views["evaluation"]) == 6
    assert [step.id for step in copy.steps] == [step.id for step in plan.steps]
    assert copy.view_digests == plan.view_digests


def test_the_only_class_of_a_data_set_is_called_as_the_model_calls_it(
    world: World, reads: Reads
) -> None:
    reads(ModelInfo("detect", ("item",), INFO.strides, 42, imgsz=64, single_cls=True))
    text = (world.root / "data/data.yaml").read_text(encoding="utf-8")
    world.write("data/data.yaml", re.sub(r"names:.*", "names: [pot]", text, flags=re.DOTALL))
    for label in world.root.glob("data/**/*.txt"):
        label.write_text(re.sub(r"(?m)^\d+ ", "0 ", label.read_text(encoding="utf-8")))
    (note,) = world.plan("stated.yaml").notes
    assert note.endswith("so the data set's one is called `item`")


def test_a_plugin_that_fails_in_its_own_way(world: World, reads: Reads) -> None:
    reads(KeyError("names"))
    result = world.deploy()
    assert result.code == 7
    assert result.error == "pot.yaml:2:3: reading model.clay failed: KeyError: 'names'"


def test_a_plugin_that_cannot_run_here(
    world: World, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = reads()
    monkeypatch.setattr("clay.problem", lambda: "no clay. Run: pip install clay")
    refused = world.run("plan", "pot.yaml")
    assert refused.code == 4
    assert refused.error == (
        "pot.yaml:1:1: `imgsz` is left out, so it is the size that the model was trained at. To read that, the "
        "clay backend must run here: no clay. Run: pip install clay"
    )
    assert world.run("check", "stated.yaml").out == (
        "stated.yaml: ok, but not here: no clay. Run: pip install clay\n"
    )
    world.recipe(name="task.yaml", extra="checks: {top1_drop: 0.01}\n")  # what it does is not known
    assert world.run("check", "task.yaml").out.startswith("task.yaml: ok, but not here")
    assert read == []


TEACHERS = {
    "pupil.clay is no teacher.": ModelError("pupil.clay is no teacher."),
    "the like pupil.clay tells 2 classes apart (red, green), and `blue` is none of them. "
    "Use a teacher that was trained for all classes of the model.": ModelInfo(
        "detect", ("red", "green"), INFO.strides, 42
    ),
    "the like pupil.clay takes images of 1 channels, the model 3. "
    "Use a teacher that was trained on the same kind of images.": ModelInfo(
        "detect", INFO.names, INFO.strides, 42, channels=1
    ),
    "the like pupil.clay has maps of the strides 8, 16, the model 8, 16, 32, so that their outputs cannot be compared. "
    "Use a teacher with the strides of the model.": ModelInfo(
        "detect", (*INFO.names[::-1], "gold"), (8, 16), 42
    ),
}


@pytest.mark.parametrize("said", TEACHERS)
def test_a_pinned_checkpoint_is_read_too(
    said: str, world: World, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a teacher: else a deploy would fail after the steps before it."""
    pin = f"{{file: pupil.clay, sha256: {hashlib.sha256(b'x').hexdigest()}}}"
    world.write("pupil.clay", "x")
    taught = ("  - export: {precision: fp16}", f"  - teach: {{like: {pin}}}\n  - export")
    world.recipe(
        ("\n  imgsz: 64", ""),
        taught,
        ("split: train}", "split: train}\n  training: {split: train}"),
    )

    def facts(weights: Path, params: Params) -> ModelInfo:
        answer = TEACHERS[said] if weights.name == "pupil.clay" else INFO
        if isinstance(answer, ModelError):
            raise answer
        return answer

    reads()
    monkeypatch.setattr("clay.facts", facts)
    checked, deployed = world.run("check", "pot.yaml"), world.deploy()
    assert checked.code == deployed.code == 5
    assert checked.error == deployed.error == f"pot.yaml:10:5: {said}"


def test_weights_that_change_while_they_are_read_are_not_remembered(
    world: World, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads()

    def facts(weights: Path, params: Params) -> ModelInfo:
        world.weights(padding=7)
        return INFO

    monkeypatch.setattr("clay.facts", facts)
    refused = world.run("check", "pot.yaml")
    assert (
        refused.error
        == "pot.yaml:2:3: model.clay changed meanwhile. Run again when it is complete."
    )
    assert not (world.cache / "facts.json").exists()
