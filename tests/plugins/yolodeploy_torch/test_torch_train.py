"""`finetune` and `distill`: same bytes every time, also after kills; what stops them, and the messages."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from real_model import RealModel
from torch import Tensor
from torch_support import ROOT, context, load

from yolodeploy.backend import NO_MODEL, Artifact, Context, Load, ModelInfo
from yolodeploy.data.dataset import Dataset, load_view
from yolodeploy.errors import DataError, EnvironmentProblem, ModelError, StepFailed
from yolodeploy.recipe import Head
from yolodeploy.recipe.fields import View
from yolodeploy.system.digest import tree_digest
from yolodeploy_torch.graph import Detection, graph_in
from yolodeploy_torch.losses.distillation import (
    distance_loss,
    feature_loss,
    score_loss,
    side_loss,
)
from yolodeploy_torch.model import Trainable, read, write
from yolodeploy_torch.params import Distill, Finetune, Gains, Training
from yolodeploy_torch.training.finetune import distill, finetune, read_teacher, unfreeze
from yolodeploy_torch.training.loop import Task, hold_out, train
from yolodeploy_torch.training.teaching import require_same_heads

SIDE = 96
SMALL: dict[str, Any] = {"epochs": 3, "batch": 8, "threads": 1, "holdout": 0.25}


@pytest.fixture(scope="module")
def view(demo: RealModel) -> Dataset:
    return load_view(demo.data, View(split="train", images=24), 0)


def given(work: Path, view: Dataset, loaded: Artifact, **changes: Any) -> Context:
    names = ModelInfo.read(loaded.path).names
    made = replace(
        context(work, SIDE),
        data={"training": view},
        source=loaded,
        model=replace(NO_MODEL, names=names),
    )
    return replace(made, **changes)


def history(result: Path) -> Any:
    return json.loads((result / "training.json").read_text(encoding="utf-8"))


def test_the_same_bytes_twice(loaded: Artifact, view: Dataset, tmp_path: Path) -> None:
    params = Distill.model_validate(SMALL)
    notes: list[str] = []
    results = [
        distill(loaded, params, given(tmp_path / n, view, loaded, note=notes.append))
        for n in ("a", "b")
    ]
    assert tree_digest(results[0]) == tree_digest(results[1])
    before, after = (read(path).state_dict() for path in (loaded.path, results[0]))
    assert not torch.equal(before["model.0.conv.weight"], after["model.0.conv.weight"])
    assert torch.equal(before["model.22.dfl.conv.weight"], after["model.22.dfl.conv.weight"])
    told = history(results[0])
    assert (len(told["loss"]), len(told["map50_95"])) == (3, 3)
    assert told["map50_95"][told["best"] - 1] == max(told["map50_95"])
    loss, score, best = told["loss"][2], told["map50_95"][2], max(told["map50_95"])
    assert notes[2] == f"epoch 3/3, loss {loss:.3f}, mAP50-95 {score:.3f}, best {best:.3f}"
    assert notes[:3] == notes[3:]


@pytest.mark.slow
def test_killed_at_six_moments_and_run_again_it_ends_with_the_same_bytes(
    view: Dataset, loaded: Artifact, tmp_path: Path
) -> None:
    """SIGKILL at six random moments of one training; the seventh run goes on to the end."""
    script = ROOT / "tests" / "plugins" / "killed_training.py"
    command = [sys.executable, str(script), str(loaded.path), str(view.file), str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["killed"] == 6
    assert len(told["resumed_at"]) > 2, "the kills hit different epochs"
    assert told["digest"] == told["undisturbed"]


def test_a_damaged_state_is_dropped_and_the_training_begins_anew(
    loaded: Artifact, view: Dataset, tmp_path: Path
) -> None:
    params = Finetune.model_validate({**SMALL, "epochs": 1})
    whole = finetune(loaded, params, given(tmp_path / "a", view, loaded))
    resume = tmp_path / "resume"
    resume.mkdir()
    (resume / "state.pt").write_bytes(b"PK\x03\x04 half of an archive")
    again = finetune(loaded, params, given(tmp_path / "b", view, loaded, resume=resume))
    assert tree_digest(whole) == tree_digest(again)


def test_a_state_that_the_disk_has_no_room_for_says_so(
    loaded: Artifact, view: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "state.pt.partial").symlink_to("/dev/full")
    params = Finetune.model_validate({**SMALL, "epochs": 1})
    with pytest.raises(OSError, match="No space left on device") as fault:
        finetune(loaded, params, given(tmp_path / "work", view, loaded, resume=tmp_path))
    assert fault.value.errno == errno.ENOSPC


def test_held_out_images_are_not_trained_on(view: Dataset) -> None:
    trained, judges = hold_out(view, 0.25)
    assert (len(trained), len(judges)) == (18, 6)
    assert not {*trained.images} & {*judges.images}
    assert hold_out(view, 0.0) == (view, replace(view, images=()))


def test_without_held_out_images_the_last_epoch_is_taken(
    loaded: Artifact, view: Dataset, tmp_path: Path
) -> None:
    params = Finetune.model_validate({**SMALL, "holdout": 0, "epochs": 2})
    told = history(finetune(loaded, params, given(tmp_path / "work", view, loaded)))
    assert (told["best"], len(told["loss"]), told["map50_95"]) == (2, 2, [])


class Scripted:
    """A task whose loss is the model's own, spoilt on demand."""

    def __init__(self, loaded: Artifact, spoil: Mapping[int, float]) -> None:
        self.model = unfreeze(read(loaded.path))
        self.logits = Trainable(self.model)
        self.calls, self.spoil = 0, spoil

    def __call__(self, batch: Any) -> Mapping[str, Tensor]:
        self.calls += 1
        boxes, *_ = self.logits(batch.images).heads["one-to-many"]
        return {"box": boxes[0].square().mean() * self.spoil.get(self.calls, 1.0)}


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_state(
    loaded: Artifact, view: Dataset, tmp_path: Path
) -> None:
    task = Scripted(loaded, {4: float("nan")})  # two steps an epoch
    params = Training.model_validate(SMALL)
    resume = tmp_path / "resume"
    with pytest.raises(StepFailed) as fault:
        train(Task(task.model, task), params, given(tmp_path / "work", view, loaded, resume=resume))
    assert str(fault.value) == (
        "the training diverged: epoch 2, step 2 gave NaN or infinity (box). Lower `lr` (now 0.001). "
        f"The state after epoch 1 is kept in {resume}."
    )
    state = torch.load(resume / "state.pt", weights_only=True)
    assert len(state["history"]["loss"]) == 1
    assert all(value.isfinite().all() for value in state["parts"][0].values())


def test_gradients_that_are_no_numbers_stop_before_they_reach_the_weights(
    loaded: Artifact, view: Dataset, tmp_path: Path
) -> None:
    """The root of zero has a finite value and no finite slope; it comes in the very last step."""
    model = unfreeze(read(loaded.path))
    logits, calls = Trainable(model), 0

    def loss(batch: Any) -> Mapping[str, Tensor]:
        nonlocal calls
        calls += 1
        boxes, *_ = logits(batch.images).heads["one-to-many"]
        value = boxes[0].square().mean()
        return {"box": (value * 0).sqrt() if calls == 4 else value}

    params = Training.model_validate({**SMALL, "epochs": 2})
    with pytest.raises(
        StepFailed, match=r"diverged: epoch 2, step 2 gave NaN or infinity \(gradient\)"
    ):
        train(Task(model, loss), params, given(tmp_path / "work", view, loaded))
    assert all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.parametrize(
    ("kind", "params", "message"),
    [
        (Distill, {"labels": 0, "response": 0, "feature": 0}, "leave nothing to learn from"),
        (
            Finetune,
            {"patience": 3, "holdout": 0},
            "`patience` waits for a better score on held-out",
        ),
        (Finetune, {"lr": True}, "`lr: true` must be a number"),
        (Finetune, {"augment": {"rotate": False}}, "`rotate: false` must be a number"),
        (Finetune, {"amp": "perhaps"}, "amp"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(
    kind: type[Training], params: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        kind.model_validate(params)


def test_stops_early_when_the_held_out_map_no_longer_rises(
    loaded: Artifact, view: Dataset, tmp_path: Path
) -> None:
    """A loss that destroys the boxes: the first epoch stays the best."""
    task = Scripted(loaded, {})
    params = Training.model_validate({**SMALL, "epochs": 9, "lr": 0.01, "patience": 2})
    _, told = train(Task(task.model, task), params, given(tmp_path / "work", view, loaded))
    assert (told.best, len(told.loss)) == (1, 3)


def test_a_device_that_is_absent_is_named(loaded: Artifact, view: Dataset, tmp_path: Path) -> None:
    device = "mps" if torch.cuda.is_available() else "cuda"
    params = Finetune.model_validate({**SMALL, "device": device})
    with pytest.raises(EnvironmentProblem, match=f"`device: {device}`.* Write device: cpu"):
        finetune(loaded, params, given(tmp_path / "work", view, loaded))


def test_held_out_images_that_show_nothing_cannot_judge(
    loaded: Artifact, view: Dataset, tmp_path: Path
) -> None:
    for index, image in enumerate(view.images):
        copy = tmp_path / "images" / image.name
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(image.read_bytes())
        label = tmp_path / "labels" / f"{image.stem}.txt"
        label.parent.mkdir(exist_ok=True)
        label.write_text("" if index % 4 == 0 else "0 0.5 0.5 0.2 0.2\n", encoding="utf-8")
    bare = replace(view, images=tuple(sorted((tmp_path / "images").iterdir())))
    with pytest.raises(DataError, match="none of the 6 held-out training images shows an object"):
        finetune(loaded, Finetune.model_validate(SMALL), given(tmp_path / "work", bare, loaded))


def renamed(loaded: Artifact, work: Path, names: tuple[str, ...]) -> Artifact:
    """The same model for other classes."""
    model = read(loaded.path)
    graph = graph_in(model)
    head = graph.head.model_copy(update={"names": names})
    work.mkdir()
    write(work, graph.model_copy(update={"head": head}), model.state_dict())
    return replace(loaded, path=work)


def test_a_teacher_for_other_classes_is_refused(
    loaded: Artifact, view: Dataset, demo: RealModel, tmp_path: Path
) -> None:
    teacher = {"file": demo.weights, "sha256": "0" * 64}
    params = Distill.model_validate({**SMALL, "teacher": teacher})
    other = renamed(loaded, tmp_path / "other", ("circle", "cat", "dog", "triangle", "square"))
    with pytest.raises(ModelError) as fault:
        distill(other, params, given(tmp_path / "work", view, other))
    assert str(fault.value) == (
        "the teacher shapes-yolov8n.pt tells 5 classes apart (circle, triangle, square, ...), and `cat` is none of "
        "them. Use a teacher that was trained for all classes of the model."
    )


def test_of_a_teacher_with_other_classes_too_those_of_the_model_teach(
    loaded: Artifact, demo: RealModel, tmp_path: Path
) -> None:
    student = load(demo.weights, tmp_path / "some", Load(classes=("star", "circle")))
    teacher = Distill.model_validate({"teacher": {"file": demo.weights, "sha256": "0" * 64}})
    found = read_teacher(teacher, context(tmp_path / "work", SIDE), ModelInfo.read(student.path))
    images = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(found(images), read(student.path)(images))
        whole = read(loaded.path)(images)[:, [0, 1, 2, 3, 8, 4]]
        assert torch.allclose(found(images), whole, rtol=1e-5, atol=1e-6)


def test_a_pinned_teacher_teaches_as_the_loaded_model_does(
    loaded: Artifact, view: Dataset, demo: RealModel, tmp_path: Path
) -> None:
    small = {**SMALL, "epochs": 1}
    teacher = {"file": demo.weights, "sha256": "0" * 64}
    own = distill(loaded, Distill.model_validate(small), given(tmp_path / "a", view, loaded))
    pinned = Distill.model_validate({**small, "teacher": teacher})
    other = distill(loaded, pinned, given(tmp_path / "b", view, loaded))
    assert tree_digest(own) == tree_digest(other)


class TestDistillation:
    def levels(self, seed: int, channels: int) -> list[Tensor]:
        random = torch.Generator().manual_seed(seed)
        return [torch.randn(2, channels, side, side, generator=random) for side in (4, 2)]

    def test_a_student_that_gives_what_the_teacher_gives_has_no_loss(self) -> None:
        scores, sides = self.levels(0, 3), self.levels(1, 64)
        weights = [level.sigmoid().amax(1) for level in scores]
        assert float(score_loss(scores, scores)) == pytest.approx(0, abs=1e-5)
        assert float(side_loss(sides, sides, weights)) == pytest.approx(0, abs=1e-6)
        assert float(feature_loss(sides, sides, weights)) == 0
        assert float(score_loss(self.levels(2, 3), scores)) > 0.1
        assert float(side_loss(self.levels(2, 64), sides, weights)) > 0.1

    def test_scores_against_the_definition(self) -> None:
        """Half the summed Bernoulli divergences, over the sum of the highest teacher's scores."""
        ours, theirs = self.levels(0, 3), self.levels(1, 3)
        divergence, seen = 0.0, 0.0
        for student, teacher in zip(ours, theirs, strict=True):
            q, p = student.sigmoid().double(), teacher.sigmoid().double()
            divergence += float((p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum())
            seen += float(p.amax(1).sum())
        assert float(score_loss(ours, theirs)) == pytest.approx(0.5 * divergence / seen, rel=1e-4)

    def test_features_against_a_teacher_of_unit_variance_are_a_mean_square(self) -> None:
        """A student off by one standard deviation everywhere has a loss of 1, whatever the weights."""
        theirs = self.levels(0, 8)
        ours = [t + t.var(dim=(0, 2, 3), keepdim=True).sqrt() for t in theirs]
        weights = [level[:, 0].sigmoid() * 9 for level in theirs]
        assert float(feature_loss(ours, theirs, weights)) == pytest.approx(1, rel=1e-5)

    def test_distances_of_heads_with_other_bins(self) -> None:
        """A peak at bin 3 is a distance of 3 cells; sides count by weight, in the unit of the label's loss."""
        peak = torch.full((2, 4, 16, 4, 4), -50.0)
        peak[:, :, 3] = 50
        bins, plain = [peak.flatten(1, 2)], [torch.full((2, 4, 4, 4), 3.0)]
        weights = [torch.zeros(2, 4, 4)]
        weights[0][0, 1, 2] = 2
        assert float(distance_loss(plain, bins, weights)) == pytest.approx(0, abs=1e-5)
        plain[0][0, 1, 1, 2] -= 4
        assert float(distance_loss(plain, bins, weights)) == pytest.approx(1.5 * 4 / 4)

    @pytest.mark.parametrize(
        ("heads", "teachers", "gains", "message"),
        [
            (
                ("one-to-many",),
                ("one-to-one",),
                Gains(1, 1, 1),
                "the model only a one-to-many one, so",
            ),
            (
                ("one-to-many", "one-to-one"),
                ("one-to-many",),
                Gains(0, 1, 1),
                "nothing trains the one-to-one",
            ),
            (("one-to-many", "one-to-one"), ("one-to-many",), Gains(1, 1, 1), None),
            (("one-to-many",), ("one-to-one",), Gains(1, 0, 1), None),
        ],
    )
    def test_a_teacher_that_leaves_a_head_untaught_is_refused(
        self, heads: Sequence[Head], teachers: Sequence[Head], gains: Gains, message: str | None
    ) -> None:
        student, teacher = (
            Detection.model_construct(branches=dict.fromkeys(kinds)) for kinds in (heads, teachers)
        )
        if message is None:
            require_same_heads(student, teacher, gains)
            return
        with pytest.raises(ModelError, match=message):
            require_same_heads(student, teacher, gains)
