"""The source model's findings: measured once for all recipes with the same model and evaluation images.

They are a stored result of their own. Where the store has none, the source model runs in the same pass over the
images as the artifact, each in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.backend import OUTPUT, ROWS
from yolodeploy.errors import ModelError, StepFailed
from yolodeploy.execution import Runner
from yolodeploy.hosts import LOCAL
from yolodeploy.measure.results import Facts, Opened, remember_as
from yolodeploy.system import Report, StatCache, conditions, digest_of, threads

if TYPE_CHECKING:
    from yolodeploy.backend import ModelInfo, Outputs
    from yolodeploy.tasks import Run, Seen, Task

REVISION = 4
_Shapes = Mapping[str, tuple[int, ...]]  # of the outputs of one image
_WEIGHTS = "The weights are broken; train or convert them again."
_EXPORT = "The export is broken; report it with the recipe."


@dataclass(frozen=True)
class Source:
    """What was measured of the source model, and the folder with its findings."""

    facts: Facts
    folder: Path

    def found(self, info: ModelInfo) -> list[Any]:
        """What it found in the evaluation images, in order; `info` is what it says of itself."""
        from yolodeploy.tasks import read_findings, task_of

        return read_findings(self.folder, task_of(info)).found


def obtain_source(runner: Runner) -> Source:
    """The source model's findings: from the store, or measured now."""

    def measure(folder: Path) -> Facts:
        with runner.console.task("measure the source model") as report:
            return _record(runner, folder, [], lambda _: None, report)

    return _remembered(runner, measure, None)


class Pass:
    """Runs an artifact on the evaluation images and compares it with the source model.

    `look` is called with every image; the artifact is the last of the models. `checked` remembers the digests of
    the images, which are read again when a pass over them is done.
    """

    def __init__(
        self,
        runner: Runner,
        artifact: Opened,
        look: Callable[[Seen], None],
        report: Report,
        checked: StatCache,
    ) -> None:
        from yolodeploy.tasks import Tally, task_of

        self._runner, self._artifact, self._look = runner, artifact, look
        self._report, self._checked = report, checked
        self._task: Task[Any, Any] = task_of(runner.info())
        self.tally = Tally(self._task)

    def run(self) -> Source:
        """Fill the tally, in one pass with the source model if the store has no findings of it."""
        from yolodeploy.tasks import evaluate, read_findings

        plan = self._runner.plan
        self._require_one_to_one()
        source = _remembered(self._runner, self._both, self._checked)
        findings = read_findings(source.folder, self._task)
        if not self.tally.truths:
            shapes = _shapes(next(iter(findings.outputs.values())))
            view = plan.views["evaluation"]
            copies, head = self._artifact.copies(len(view)), self._runner.info().head
            imgsz = self._runner.imgsz
            task = self._task
            for seen in evaluate(view, imgsz, copies, task=task, head=head, progress=self._report):
                self._add(seen, shapes, findings.outputs.get(seen.number))
        self.tally.source = findings.found
        return source

    def _require_one_to_one(self) -> None:
        """Raise StepFailed for rows of a one-to-many head: they would have to be suppressed."""
        planned, head = self._artifact.planned, self._runner.info().head
        if self._artifact.layout == "rows" and head != "one-to-one":
            raise StepFailed(
                f"{planned.at}: {self._artifact.name} returns rows of a {head} head, and only those of a one-to-one head need "
                f"no suppression. Report it to the author of the {planned.backend.NAME} plugin."
            )

    def _both(self, folder: Path) -> Facts:
        from yolodeploy.tasks import compared

        numbers = set(compared(len(self._runner.plan.views["evaluation"])))

        def add(seen: Seen) -> None:
            outputs = seen.outputs[0]
            self._add(seen, _shapes(outputs), outputs if seen.number in numbers else None)

        return _record(self._runner, folder, [self._artifact], add, self._report)

    def _add(self, seen: Seen, shapes: _Shapes, source: Outputs | None) -> None:
        """Add an image; StepFailed if the artifact's outputs are broken. `shapes` are those of the source model's."""
        at, rows = self._artifact.planned.at, seen.layouts[-1] == "rows"
        for name, output in seen.outputs[-1].items():
            expected = shapes[name]
            if rows and name == OUTPUT:
                extras = expected[0] - 4 - len(self._task.names)
                expected = (min(ROWS, expected[1]), 6 + extras)
            if output.shape != expected:
                raise StepFailed(
                    f"{at}: for {seen.image.name} the artifact's {name} has the shape {list(output.shape)}, the "
                    f"source model's {'rows ' * rows}{list(expected)}. {_EXPORT}"
                )
            self._artifact.require_finite(output, seen.image, StepFailed, _EXPORT)
        if fault := self._task.fault(seen.outputs[-1], seen.layouts[-1]):
            raise StepFailed(
                f"{at}: for {seen.image.name} the artifact's output {fault}. {_EXPORT}"
            )
        self.tally.add(seen, source)
        self._look(seen)


def _shapes(outputs: Outputs) -> _Shapes:
    return {name: output.shape for name, output in outputs.items()}


def _remembered(
    runner: Runner, measure: Callable[[Path], Facts], checked: StatCache | None
) -> Source:
    return Source(*remember_as(Facts, runner, _id(runner), "source", measure, checked=checked))


def _id(runner: Runner) -> str:
    """Digest of everything that the findings depend on; no artifact is among it."""
    from yolodeploy.tasks import COMPARED, evaluation_rules

    plan, source, info = runner.plan, runner.source(), runner.info()
    return digest_of(
        {
            "revision": REVISION,
            "source": [plan.steps[0].id, source.meta.digest],
            "data": plan.view_digests["evaluation"],
            "imgsz": plan.imgsz.plain,
            "task": info.task,
            "rules": asdict(evaluation_rules(info.task).for_head(info.head)),
            "compared": COMPARED,
            "conditions": conditions(),
            "versions": plan.steps[0].versions,
        }
    )


def _record(
    runner: Runner,
    folder: Path,
    others: Sequence[Opened],
    look: Callable[[Seen], None],
    report: Report,
) -> Facts:
    """Run the source model, and beside it the others; write its findings into `folder`."""
    from yolodeploy.tasks import Recorder, evaluate, task_of

    plan = runner.plan
    view = plan.views["evaluation"]
    # On all processors, because a second copy takes as much memory again for what it computes.
    source = Opened(plan, plan.steps[0], runner.source(), "the source model", LOCAL, threads())
    if source.layout != "anchors":
        raise StepFailed(
            f"{source.planned.at}: the source model returns rows, and others are compared with its anchors. Report it "
            f"to the author of the {source.planned.backend.NAME} plugin."
        )
    task, head = task_of(runner.info()), runner.info().head
    recorder = Recorder(folder, len(view), task)
    models: list[Sequence[Run]] = [[source], *([other] for other in others)]
    for seen in evaluate(view, runner.imgsz, *models, task=task, head=head, progress=report):
        for output in seen.outputs[0].values():
            source.require_finite(output, seen.image, ModelError, _WEIGHTS)
        recorder.add(seen)
        look(seen)
    recorder.finish()
    return source.facts()
