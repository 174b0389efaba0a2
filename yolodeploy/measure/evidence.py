"""Evidence: what an artifact loses and costs against the source model, measured, never guessed.

Source and artifact see the same letterboxed images, one at a time, and go through the same decoding, NMS
and mAP. The result is kept in the store under its own id, with the golden vectors that an app team tests its
pre- and post-processing with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from yolodeploy.backend import Interface
from yolodeploy.errors import ModelError, StepFailed, StoreProblem
from yolodeploy.execution import Runner, as_artifact, failing_as
from yolodeploy.measure.results import (
    SOURCE_DETECTIONS,
    Facts,
    Opened,
    remember_as,
    timed,
    timed_result,
)
from yolodeploy.measure.timing import Request, Timing, time_apart
from yolodeploy.plan import Plan
from yolodeploy.system import Report, conditions, digest_of, threads
from yolodeploy.tasks import Key, Measure

if TYPE_CHECKING:
    from yolodeploy.tasks.detection import Seen

REVISION = 8
_BROKEN = "The export is broken; report it with the recipe."


@dataclass(frozen=True)
class Evidence:
    """Everything that was measured of an artifact, and on which bytes, images and runtimes.

    `timing.others_ms` has the latencies of what took turns with the artifact, by step id. `folder` holds the
    golden vectors and the source model's detections.
    """

    images: int
    measures: tuple[Measure, ...]
    source: Facts
    artifact: Facts
    timing: Timing
    interface: Interface
    folder: Path = Path()


def evidence_id(plan: Plan) -> str:
    """Digest of everything that the evidence depends on, this machine included."""
    return digest_of(
        {
            "revision": REVISION,
            "artifact": plan.final.id,
            "source": plan.steps[0].id,
            "reference": plan.reference.id,
            "timed": sorted(timed(plan)),
            "data": plan.view_digests["evaluation"],
            "imgsz": plan.imgsz,
            "conditions": conditions(),
            "versions": plan.versions(),
        }
    )


def obtain_evidence(runner: Runner) -> Evidence:
    """Evidence and golden vectors of a plan's artifact: from the store, or measured now."""
    evidence = _remembered(runner)
    if not _is_current(runner, evidence):
        reason = "was measured on other models than are there now"
        runner.store.discard(evidence_id(runner.plan), reason)
        evidence = _remembered(runner)
    return evidence


def _remembered(runner: Runner) -> Evidence:
    def measure(folder: Path) -> Evidence:
        runner.info()  # refuses other classes before anything is measured
        pair = _Pair(runner)
        (folder / "golden").mkdir()
        with runner.console.task(f"measure {len(pair.view)} images") as report:
            return pair.measure(folder, report)

    id_ = evidence_id(runner.plan)
    evidence, folder = remember_as(Evidence, runner, id_, "evidence", measure)
    return replace(evidence, folder=folder)


def _is_current(runner: Runner, evidence: Evidence) -> bool:
    """Whether evidence is of the stored results; StoreProblem if it is not, and those are not the lock's."""
    plan, artifact, source = runner.plan, runner.final().meta.digest, runner.source().meta.digest
    measured = evidence.artifact.digest, evidence.source.digest
    if measured == (artifact, source):
        return True
    if {plan.final.id: artifact, plan.steps[0].id: source}.items() <= runner.locked.items():
        return False
    raise StoreProblem(
        f"the stored evidence was measured on {measured[0][:12]} against {measured[1][:12]}, but the store "
        f"holds {artifact[:12]} and {source[:12]}: a step is not reproducible, or the store was changed. "
        "Run `yolodeploy cache prune --all` and deploy again; report it if it happens again."
    )


class _Pair:
    """Source model and artifact, opened side by side."""

    def __init__(self, runner: Runner) -> None:
        plan = runner.plan
        self.plan, self.view = plan, plan.views["evaluation"]
        self.source = Opened(plan, plan.steps[0], runner.source(), "the source model")
        name = f"the result of `{plan.final.step.name}` in {plan.backend.NAME}"
        self.artifact = Opened(plan, plan.final, runner.final(), name)
        indexes = {plan.reference.id: plan.export - 1}
        if self.artifact.runtime.timing:
            indexes = timed(plan)
        self.others = {id_: timed_result(runner, index) for id_, index in indexes.items()}

    def measure(self, folder: Path, report: Report) -> Evidence:
        """All evidence; golden vectors and the source's detections are written below `folder`."""
        from yolodeploy.tasks import detection

        with failing_as(self.plan.final.at, f"describing {self.artifact.name}"):
            interface = self.plan.backend.describe(as_artifact(self.artifact.result))
        rules = detection.APP.with_thresholds(interface.confidence, interface.iou)
        golden, tally = detection.Golden(folder / "golden", rules), detection.Tally()
        models, imgsz = (self.source, self.artifact), self.plan.imgsz
        for seen in detection.evaluate(
            self.view, imgsz, *models, progress=lambda done, text: report(0.9 * done, text)
        ):
            self._require_sound(seen)
            tally.add(seen)
            golden.offer(seen.image, seen.box, seen.tensor, seen.outputs[1])
        golden.finish()
        detection.save_detections(folder / SOURCE_DETECTIONS, tally.source)
        report(0.9, "latency")
        timing = self._time(golden.tensor)
        scores = detection.accuracy(tally, self.view.names, labelled=self.view.labelled)
        return Evidence(
            images=len(self.view),
            measures=(*scores, *self._costs(timing)),
            source=self.source.facts(),
            artifact=self.artifact.facts(),
            timing=timing,
            interface=interface,
        )

    def _require_sound(self, seen: Seen) -> None:
        """Raise ModelError or StepFailed if an output is broken."""
        source, artifact = seen.outputs
        if source.shape != artifact.shape:
            raise StepFailed(
                f"{self.plan.final.at}: for {seen.image.name} the artifact's output has the shape "
                f"{list(artifact.shape)}, the source model's {list(source.shape)}. {_BROKEN}"
            )
        remedy = "The weights are broken; train or convert them again."
        self.source.require_finite(source, seen.image, ModelError, remedy)
        self.artifact.require_finite(artifact, seen.image, StepFailed, _BROKEN)

    def _time(self, tensor: Path) -> Timing:
        target, result = self.plan.target, self.artifact.result
        request = Request(
            backend=self.plan.backend.NAME,
            device=target.device.name,
            os_version=target.os_version,
            format=result.meta.format,
            artifact=str(result.path),
            others={id_: str(stored.path) for id_, stored in self.others.items()},
            tensor=str(tensor),
            threads=threads(),
        )
        try:
            return time_apart(request)
        except StepFailed as error:
            raise StepFailed(
                f"{self.plan.final.at}: timing the artifact in a process of its own failed: {error}"
            ) from None

    def _costs(self, timing: Timing) -> Iterator[Measure]:
        """Latencies and memory; ratios only if this runtime's speed says something about the device."""
        plan, reference = self.plan, timing.others_ms[self.plan.reference.id]
        yield Measure(Key.LATENCY, reference, timing.median_ms, higher_is_better=False)
        yield Measure(Key.LATENCY_P90, None, timing.p90_ms, higher_is_better=False)
        yield Measure(Key.PEAK_MEMORY, None, timing.peak_memory_mb, higher_is_better=False)
        ratio, speedup, no_ratio, no_speedup = None, None, "", ""
        if not self.artifact.runtime.timing:
            no_ratio = f"the speed of {self.artifact.runtime.name} says nothing about the device"
            no_speedup = no_ratio
        else:
            ratio = round(timing.median_ms / reference, 4)
            if 0 in plan.floats:
                speedup = round(timing.others_ms[plan.floats[0].id] / timing.median_ms, 4)
            else:
                export = plan.steps[plan.export].step.name
                no_speedup = f"`{export}` does not take the model as loaded"
        yield Measure(Key.LATENCY_RATIO, None, ratio, higher_is_better=False, reason=no_ratio)
        yield Measure(Key.SPEEDUP, None, speedup, reason=no_speedup)
