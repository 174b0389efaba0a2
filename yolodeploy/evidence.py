"""Evidence: what an artifact loses and costs against the source model, measured, never guessed.

Source and artifact see the same letterboxed images, one at a time, and go through the same
decoding, NMS and mAP. The result is kept in the store under an id of its own, with the golden
vectors that an app team tests its pre- and post-processing with.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.console import Report
from yolodeploy.digest import digest_of
from yolodeploy.errors import ModelError, StepFailed, StoreProblem
from yolodeploy.failing import failing_as
from yolodeploy.machine import conditions, threads
from yolodeploy.objects import Stored
from yolodeploy.plan import Plan
from yolodeploy.run import Runner
from yolodeploy.stages import SOURCE_DETECTIONS, facts, opened, timed, timed_result
from yolodeploy.unchanged import require_views

if TYPE_CHECKING:
    from yolodeploy.accuracy import Tally
    from yolodeploy.detect import Floats
    from yolodeploy.images import Letterboxed

REVISION = 6


def evidence_id(plan: Plan) -> str:
    """Digest of all that the evidence depends on, this machine included."""
    return digest_of(
        {
            "revision": REVISION,
            "artifact": plan.final.id,
            "source": plan.steps[0].id,
            "reference": plan.reference.id,
            "timed": sorted(timed(plan)),
            "data": plan.view_digests["evaluation"],
            "imgsz": plan.file.recipe.model.imgsz,
            "conditions": conditions(),
            "versions": plan.versions(),
        }
    )


def obtain_evidence(runner: Runner) -> tuple[dict[str, Any], Stored]:
    """Evidence and golden vectors of a plan's artifact: from the store, or measured now."""
    plan = runner.plan

    def make(work: Path) -> Path:
        runner.info()
        opened = _Opened(runner)
        folder = work / "evidence"
        (folder / "golden").mkdir(parents=True)
        with runner.console.task(f"measure {len(plan.views['evaluation'])} images") as report:
            evidence = opened.measure(folder, work, report)
        require_views(plan, ["evaluation"])
        text = json.dumps(evidence, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
        (folder / "evidence.json").write_text(text + "\n", encoding="utf-8")
        return folder

    id_, warn = evidence_id(plan), runner.console.warn
    evidence, stored = _read(runner.store.obtain(id_, "measure", "evidence", make, warn))
    if not _is_of_now(runner, evidence):
        runner.store.discard(id_, "was measured on other models than are there now", warn)
        evidence, stored = _read(runner.store.obtain(id_, "measure", "evidence", make, warn))
    return evidence, stored


def _is_of_now(runner: Runner, evidence: Mapping[str, Any]) -> bool:
    """Whether evidence was measured on the bytes that are there; if not, those must be the lock's."""
    plan, artifact, source = runner.plan, runner.final().meta.digest, runner.source().meta.digest
    measured = evidence["artifact_digest"], evidence["source_digest"]
    if measured == (artifact, source):
        return True
    if {plan.final.id: artifact, plan.steps[0].id: source}.items() <= runner.locked.items():
        return False
    raise StoreProblem(
        f"the stored evidence was measured on {measured[0][:12]} against {measured[1][:12]}, but there are "
        f"{artifact[:12]} and {source[:12]}: a step is not reproducible or the store was changed. "
        "Run `yolodeploy cache prune --all` and deploy again; report it if it comes back."
    )


def _read(stored: Stored) -> tuple[dict[str, Any], Stored]:
    return json.loads((stored.path / "evidence.json").read_text(encoding="utf-8")), stored


class _Opened:
    """Source and artifact, open side by side."""

    def __init__(self, runner: Runner) -> None:
        plan = runner.plan
        self.plan = plan
        self.artifact = runner.final()
        self.source = runner.source()
        self.what = f"the result of `{plan.final.step.name}` in {plan.backend.NAME}"
        self.theirs = opened(plan.steps[0], "the source model", self.source.artifact, plan)
        self.ours = opened(plan.final, self.what, self.artifact.artifact, plan)
        chosen = timed(plan) if self.ours.runtime.timing else {plan.reference.id: plan.export - 1}
        self.others = {id_: timed_result(runner, index) for id_, index in chosen.items()}

    def measure(self, folder: Path, work: Path, report: Report) -> dict[str, Any]:
        """All evidence; golden vectors are written below `folder`."""
        from yolodeploy.accuracy import Tally, accuracy
        from yolodeploy.detect import save_detections
        from yolodeploy.golden import Golden
        from yolodeploy.rules import APP

        with failing_as(self.plan.final.at, f"describing {self.what}"):
            interface = self.plan.backend.describe(self.artifact.artifact)
        dataset, tally = self.plan.views["evaluation"], Tally()
        rules = APP.with_thresholds(interface.confidence, interface.iou)
        golden = Golden(folder / "golden", rules)
        for number, image in enumerate(dataset.images):
            golden.offer(image, *self._one(image, tally))
            report(0.9 * (number + 1) / len(dataset), f"{number + 1}/{len(dataset)} images")
        golden.finish()
        save_detections(folder / SOURCE_DETECTIONS, tally.source)
        report(0.9, "latency")
        timing = self._time(golden.tensor, work)
        return {
            "images": len(dataset),
            **accuracy(tally, dataset.names, labelled=dataset.labelled),
            "output_diff": tally.differences(),
            **timing,
            "runtime": asdict(self.ours.runtime),
            "source_runtime": asdict(self.theirs.runtime),
            "first": facts(self.plan, 0, self.source),
            "last": facts(self.plan, -1, self.artifact),
            "artifact_digest": self.artifact.meta.digest,
            "source_digest": self.source.meta.digest,
            "interface": asdict(interface),
        }

    def _one(self, image: Path, tally: Tally) -> tuple[Letterboxed, Floats, Floats]:
        from yolodeploy.detect import detect
        from yolodeploy.images import letterboxed_file, to_tensor
        from yolodeploy.metrics import Truth
        from yolodeploy.rules import EVALUATION

        box = letterboxed_file(image, self.plan.file.recipe.model.imgsz)
        tensor = to_tensor(box.pixels)
        with failing_as(self.plan.steps[0].at, "running the source model"):
            theirs = self.theirs(tensor)[0]
        with failing_as(self.plan.final.at, f"running {self.what}"):
            ours = self.ours(tensor)[0]
        self._require_sound(theirs, ours, image)
        difference = abs(ours - theirs)
        tally.boxes.add(difference[:4])
        tally.scores.add(difference[4:])
        tally.truths.append(
            Truth(self.plan.views["evaluation"].boxes(image), box.width, box.height)
        )
        tally.source.append(detect(theirs, EVALUATION, box))
        tally.artifact.append(detect(ours, EVALUATION, box))
        return box, tensor, ours

    def _require_sound(self, theirs: Floats, ours: Floats, image: Path) -> None:
        import numpy as np

        if theirs.shape != ours.shape:
            shapes = f"{list(ours.shape)}, the source model's {list(theirs.shape)}"
            what = f"the artifact's output is shaped {shapes}"
        elif not np.isfinite(theirs).all():
            raise ModelError(
                f"{self.plan.steps[0].at}: for {image.name} the source model's output has values "
                "that are not finite. The weights are broken; train or convert them again."
            )
        elif not np.isfinite(ours).all():
            what = "the artifact's output has values that are not finite"
        else:
            return
        raise StepFailed(
            f"{self.plan.final.at}: for {image.name} {what}. "
            "The export is broken; report it with the recipe."
        )

    def _time(self, tensor: Path, work: Path) -> dict[str, Any]:
        """Latencies in turns; `timed_ms` are medians by id of what was run besides the artifact."""
        figures = self._run_worker(tensor, work)
        plan, ours = self.plan, figures["latency_ms"]["median"]
        reference = figures["timed_ms"][plan.reference.id]
        figures["reference_ms"] = {"median": reference}
        if not self.ours.runtime.timing:
            reason = f"the speed of {self.ours.runtime.name} says nothing about the device"
            nothing = {"latency_ratio": None, "latency_ratio_reason": reason}
            return {**figures, **nothing, "speedup": None, "speedup_reason": reason}
        figures["latency_ratio"] = round(ours / reference, 4)
        if 0 not in plan.floats:
            reason = f"`{plan.steps[plan.export].step.name}` does not take the model as loaded"
            return {**figures, "speedup": None, "speedup_reason": reason}
        return {**figures, "speedup": round(figures["timed_ms"][plan.floats[0].id] / ours, 4)}

    def _run_worker(self, tensor: Path, work: Path) -> dict[str, Any]:
        from yolodeploy.worker import Request, run_worker

        target = self.plan.target
        request = Request(
            backend=self.plan.backend.NAME,
            device=target.device.name,
            os_version=target.os_version,
            format=self.artifact.meta.format,
            artifact=str(self.artifact.path),
            others={id_: str(stored.path) for id_, stored in self.others.items()},
            tensor=str(tensor),
            threads=threads(),
        )
        file = work / "request.json"
        file.write_text(json.dumps(asdict(request)), encoding="utf-8")
        try:
            return run_worker(file)
        except StepFailed as fault:
            raise StepFailed(
                f"{self.plan.final.at}: timing the artifact in a process of its own failed: {fault}"
            ) from None


def copy_golden(stored: Stored, folder: Path) -> None:
    """Copy the golden vectors of stored evidence."""
    shutil.copytree(stored.path / "golden", folder, copy_function=shutil.copyfile)
