"""Evidence: what an artifact loses and costs against the source model, measured, never guessed.

Source and artifact see the same letterboxed images and go through the same decoding, NMS and mAP; the source model
once for all artifacts (`source.py`). The result is kept in the store under its own id, with the golden vectors that an app team tests its
pre- and post-processing with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from yolodeploy.backend import PICTURES, Backend, Interface, LayerBytes, Layout, Place, Weighing
from yolodeploy.errors import StoreProblem
from yolodeploy.execution import Runner, as_artifact, failing_as
from yolodeploy.hosts import Host
from yolodeploy.measure.latency import Timings, costs, obtain_timings
from yolodeploy.measure.place import place_of
from yolodeploy.measure.results import Facts, Opened, conditions_at, remember_as
from yolodeploy.measure.source import Pass
from yolodeploy.planning import Plan, forgetful
from yolodeploy.system import Report, StatCache, digest_of
from yolodeploy.tasks import USUAL, Curve, Key, Measure, one
from yolodeploy.worker.turns import Timing

if TYPE_CHECKING:
    from yolodeploy.tasks import Tally

REVISION = 16


@dataclass(frozen=True)
class Curves:
    """What source and artifact score on labels as curves by name; empty where there are none, with the reason."""

    source: Mapping[str, Curve] = field(default_factory=dict)
    artifact: Mapping[str, Curve] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class _Measured:
    """What was measured of an artifact and its source model, and on which bytes, images and runtimes.

    `scores` are what the task scores on labels, the one that decides first. `layout` is what the artifact returns. `layer_bytes` is empty
    if the plugin cannot say where the bytes are.
    """

    images: int
    scores: tuple[Key, ...]
    measures: tuple[Measure, ...]
    source: Facts
    artifact: Facts
    interface: Interface
    layout: Layout
    curves: Curves
    layer_bytes: tuple[LayerBytes, ...]


@dataclass(frozen=True)
class Comparison(_Measured):
    """What has nothing to do with time. `tensor` is the input of the golden vectors (.npy), relative to the folder that holds them."""

    tensor: str


@dataclass(frozen=True)
class Evidence(_Measured):
    """Everything that was measured of an artifact.

    `timings.timing.others_ms` has the latencies of what took turns with the artifact, by step id. `folder` holds the golden vectors.
    `place` is where all of it was measured; only the source model always ran on this machine.
    """

    timings: Timings
    folder: Path
    place: Place

    @property
    def pictures(self) -> Path:
        """The file of the evaluation images, small, with what was found in them: see `tasks.Pictures`."""
        return self.folder / PICTURES

    @property
    def primary(self) -> Measure:
        """The measure that decides."""
        return one(self.measures, self.scores[0])

    @property
    def timing(self) -> Timing | None:
        """The timing that decides the checks; None if nothing was timed."""
        return self.timings.timing


def evidence_id(plan: Plan, host: Host) -> str:
    """Digest of everything that the evidence depends on, the host included."""
    return digest_of(
        {
            "revision": REVISION,
            "artifact": plan.final.id,
            "source": plan.steps[0].id,
            "data": plan.view_digests["evaluation"],
            "imgsz": plan.imgsz.plain,
            "confidence": _confidence(plan),
            "conditions": conditions_at(host, plan, plan.backend),
            "versions": plan.versions(),
        }
    )


def _confidence(plan: Plan) -> float:
    """That of the intervals of drops."""
    return plan.file.recipe.checks.confidence or USUAL


def obtain_evidence(runner: Runner, host: Host) -> Evidence:
    """Evidence and golden vectors of a plan's artifact: from the store, or measured now."""
    found, folder = obtain_comparison(runner, host)
    tensor, batch = folder / found.tensor, found.interface.batch
    timings = obtain_timings(runner, host, found.artifact.runtime, batch, tensor)
    measures = (*found.measures, *costs(runner.plan, host, found.artifact.runtime, timings))
    place = place_of(runner.plan.backend, runner.plan.target, host, found.artifact.runtime)
    same = {each.name: getattr(found, each.name) for each in fields(_Measured)}
    return Evidence(**{**same, "measures": measures}, timings=timings, folder=folder, place=place)


def obtain_comparison(runner: Runner, host: Host) -> tuple[Comparison, Path]:
    """The part of the evidence that has nothing to do with time, and its folder: from the store, or measured now."""
    found, folder = _compared(runner, host)
    if _is_current(runner, found):
        return found, folder
    reason = "was measured on other models than are there now"
    runner.store.discard(evidence_id(runner.plan, host), reason)
    return _compared(runner, host)


def _compared(runner: Runner, host: Host) -> tuple[Comparison, Path]:
    def measure(folder: Path) -> Comparison:
        runner.info()  # refuses other classes before anything is measured
        pair = _opened(runner, host)
        (folder / "golden").mkdir()
        with runner.console.task(f"measure {len(pair.view)} images") as report:
            return pair.measure(folder, report, checked)

    id_, checked = evidence_id(runner.plan, host), forgetful()
    return remember_as(Comparison, runner, id_, "evidence", measure, checked=checked)


def _opened(runner: Runner, host: Host) -> _Pair:
    """The pair; sending the artifact to a host may take minutes, so that is said."""
    if not host.name:
        return _Pair(runner, host)
    with runner.console.task(f"send the artifact to {host.name}"):
        return _Pair(runner, host)


def _is_current(runner: Runner, evidence: Comparison) -> bool:
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
    """The artifact, opened, and the runner that knows the source model."""

    def __init__(self, runner: Runner, host: Host) -> None:
        plan = runner.plan
        self.runner, self.plan, self.view = runner, plan, plan.views["evaluation"]
        name = f"the result of `{plan.final.step.name}` in {plan.backend.NAME}"
        self.artifact = Opened(plan, plan.final, runner.final(), name, host)

    def measure(self, folder: Path, report: Report, checked: StatCache) -> Comparison:
        """The comparison; golden vectors and pictures are written below `folder`."""
        from yolodeploy.tasks import Golden, accuracy, take_pictures, task_of

        with failing_as(self.plan.final.at, f"describing {self.artifact.name}"):
            interface = self.plan.backend.describe(as_artifact(self.artifact.result))
            layer_bytes = _layer_bytes(self.plan.backend, self.artifact)
        info = self.runner.info()
        task = task_of(info)
        app = task.app.for_head(info.head)
        rules = app.with_thresholds(interface.confidence, interface.iou)
        golden = Golden(folder / "golden", rules)
        images = Pass(self.runner, self.artifact, golden.offer, report, checked)
        source = images.run()
        golden.finish()
        measures = accuracy(
            images.tally, labelled=self.view.labelled, confidence=_confidence(self.plan)
        )
        pictures = take_pictures(images.tally, self.view, self.plan.imgsz.channels)
        (folder / PICTURES).write_bytes(pictures.encoded())
        return Comparison(
            images=len(self.view),
            scores=task.scores,
            measures=measures,
            source=source.facts,
            artifact=self.artifact.facts(),
            interface=interface,
            layout=self.artifact.layout,
            tensor=golden.tensor.relative_to(folder).as_posix(),
            curves=_curves(images.tally, labelled=self.view.labelled),
            layer_bytes=layer_bytes,
        )


def _layer_bytes(backend: Backend, opened: Opened) -> tuple[LayerBytes, ...]:
    """What each layer of an artifact takes, where its plugin can say."""
    if not isinstance(backend, Weighing):
        return ()
    return tuple(backend.layer_bytes(as_artifact(opened.result)))


def _curves(tally: Tally, *, labelled: bool) -> Curves:
    """The curves of both models, where there are labels."""
    from yolodeploy.tasks import UNLABELLED

    if not labelled:
        return Curves(reason=UNLABELLED)
    source, artifact = (
        tally.task.curves(tally.truths, found) for found in (tally.source, tally.artifact)
    )
    if source is None or artifact is None:
        return Curves(reason="no evaluation image shows an object")
    return Curves(source, artifact)
