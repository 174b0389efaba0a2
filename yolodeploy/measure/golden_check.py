"""What can be measured of a bundle alone: whether its golden vectors come out of a runtime, latency and memory."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.backend import (
    CONTRACT,
    LABELS,
    Accelerated,
    Artifact,
    ModelInfo,
    Place,
    Runtime,
    Target,
    layout_of,
    load_registry,
    named_outputs,
)
from yolodeploy.errors import EnvironmentProblem, PlanRefused, StepFailed, VerificationFailed
from yolodeploy.hosts import Host, Timed
from yolodeploy.measure.latency import THREADS
from yolodeploy.measure.place import place_of, require_claim
from yolodeploy.system import adapter, quotable, read_json, shown
from yolodeploy.tasks import Key, Measure, Rules, golden_file, task_of
from yolodeploy.worker.noise import CONFIDENCE
from yolodeploy.worker.turns import Timing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from yolodeploy.backend import Backend, Outputs
    from yolodeploy.tasks import Task

    Floats = NDArray[np.float32]


@dataclass(frozen=True)
class GoldenCheck:
    """What was measured, where, and with which timing, if the host times anything."""

    measures: tuple[Measure, ...]
    place: Place
    runtime: Runtime
    timing: Timing | None

    def conditions(self) -> dict[str, Any]:
        """What it was measured on, as a report has it: one image, the golden one."""
        about: dict[str, Any] = {"images": 1, "runtime": asdict(self.runtime)}
        if self.timing:
            names = ("runs", "threads", "cpu", "waited", "batch")
            about |= {name: getattr(self.timing, name) for name in names}
            about["climate"] = dict(self.timing.climate)
        return about


def check_golden(
    home: Path,
    names: Iterable[str],
    plan: Mapping[str, Any],
    report: Mapping[str, Any],
    host: Host,
    scratch: Path,
) -> GoldenCheck:
    """Run an intact bundle's artifact, the files of these names, on its golden tensor, and time it.

    Raises VerificationFailed if the golden vectors or the contract are not what a bundle has, PlanRefused if no plugin has its
    device, EnvironmentProblem if it is for a GPU and this machine has none.
    """
    backend, target = _target(home, plan)
    if host.claims:
        require_claim(host, host.hardware(backend))
    _require_gpu(home, backend, target, host)
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as work:
        for name in names:
            (Path(work) / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(home / name, Path(work) / name)
        about = report["artifact"]
        artifact = Artifact(about["format"], Path(work), about["digest"])
        golden = _Golden.read(home)
        predictor = host.open(backend, artifact, target, THREADS)
        outputs = named_outputs(predictor(golden.tensor), golden.task.outputs)
        ours = {name: output[0] for name, output in outputs.items()}
        if layout_of(predictor) != golden.layout:
            raise StepFailed(
                f"{shown(home)}: its artifact returns other outputs than the golden ones"
            )
        tensor = str(home / "golden/input.npy")
        brief = not predictor.runtime.timing
        timed = Timed(backend, target, artifact, {}, tensor, THREADS, brief=brief)
        timing = None if host.untimed else host.time(timed)
    place = place_of(backend, target, host, predictor.runtime)
    measures = (*golden.compared(ours), *_costs(timing, host.untimed))
    return GoldenCheck(measures, place, predictor.runtime, timing)


def _target(home: Path, plan: Mapping[str, Any]) -> tuple[Backend, Target]:
    about, registry = plan["target"], load_registry()
    device = registry.devices().get(about["device"])
    backend = registry.backends.get(about["backend"])
    if device is None or backend is None:
        raise PlanRefused(
            f"{shown(home)}: is for `{about['device']}` of {about['backend']}, and no installed plugin has that. `yolodeploy devices` "
            "lists what there is."
        )
    target = Target(device, about["os"], about.get("gpu"))
    if target.gpu not in (None, *device.gpus):
        raise PlanRefused(
            f"{shown(home)}: is for `gpu: {quotable(target.gpu)}`, which {device.title} does not offer. Deploy again."
        )
    return backend, target


def _require_gpu(home: Path, backend: Backend, target: Target, host: Host) -> None:
    """Raise EnvironmentProblem if the bundle is for a GPU and this machine, where it shall run, has none."""
    if target.gpu is None or host.name or not isinstance(backend, Accelerated):
        return
    if problem := backend.gpu_here(target).problem:
        raise EnvironmentProblem(
            f"{shown(home)}: `gpu: {target.gpu}` cannot be measured here: {problem}"
        )


@dataclass(frozen=True)
class _Golden:
    """The golden vectors: the tensor `[1, channels, H, W]`, the outputs by name without a batch axis, how they are decoded."""

    task: Task[Any, Any]
    tensor: Floats
    outputs: Outputs
    layout: Any
    rules: Rules
    box: Any

    @classmethod
    def read(cls, home: Path) -> _Golden:
        import numpy as np

        from yolodeploy.data import Letterboxed

        try:
            contract = read_json(home / CONTRACT)
            golden = read_json(home / golden_file(str(contract["task"])))
            task = task_of(_info(home, contract))
            arrays = {name: _array(home / f"golden/{name}.npy") for name in task.outputs}
            tensor = _array(home / "golden/input.npy")
            about = dict(golden["letterbox"])
            scale = about.pop("scale")
            pixels = np.rint(tensor[0].transpose(1, 2, 0) * 255).astype(np.uint8)
            pair = tuple(scale) if isinstance(scale, list) else (scale, scale)
            box = Letterboxed(pixels, pair, **adapter(dict[str, int]).validate_python(about))
            rules = adapter(Rules).validate_python(golden["rules"])
            layout = "rows" if golden["layout"] == "rows" else "anchors"
        except (OSError, ValueError, KeyError, TypeError, IndexError, StepFailed) as error:
            raise VerificationFailed(
                f"{shown(home)}: its golden vectors cannot be used: {type(error).__name__}: {error}. Deploy again."
            ) from None
        return cls(task, tensor, arrays, layout, rules, box)

    def compared(self, ours: Outputs) -> Iterator[Measure]:
        """Differences from the golden outputs, and whether the same is found."""
        for name, output in ours.items():
            _require_like(name, output, self.outputs[name])
        kinds = self.task.differences(self.outputs, ours, self.layout)
        largest = {kind: float(each.max(initial=0.0)) for kind, each in kinds.items()}
        yield _difference(max(largest.values()), "")
        yield from (_difference(value, kind) for kind, value in largest.items())
        theirs, found = self._found(self.outputs), self._found(ours)
        same, both = (theirs & found).total(), theirs.total() + found.total()
        share = round(2 * same / both, 6) if both else 1.0
        yield Measure(Key.GOLDEN_FOUND, 1.0, share, count=theirs.total())

    def _found(self, outputs: Outputs) -> Counter[int]:
        """How often each class is found; of a classifier the most probable one."""
        plain = self.task.golden(self.task.found(outputs, self.rules, self.box, self.layout))
        rows = plain["detections"] if "detections" in plain else plain["classes"][:1]
        return Counter(row["class"] for row in rows)


def _info(home: Path, contract: Mapping[str, Any]) -> ModelInfo:
    """What decoding needs to know of the model."""
    names = (home / LABELS).read_text(encoding="utf-8").splitlines()
    told = contract["postprocess"].get("keypoints") if contract["task"] == "pose" else None
    shape = (int(told["count"]), len(told["numbers"])) if told else None
    return ModelInfo(
        str(contract["task"]),
        tuple(names),
        tuple(contract["strides"]),
        0,
        head=contract["head"],
        kpt_shape=shape,
    )


def _array(file: Path) -> Floats:
    import numpy as np

    found: Floats = np.load(file, allow_pickle=False)
    if found.dtype != np.float32 or not np.isfinite(found).all():
        raise ValueError(f"{file.name} holds {found.dtype}, or values that are not finite")
    return found


def _require_like(name: str, ours: Floats, golden: Floats) -> None:
    import numpy as np

    if ours.shape != golden.shape:
        raise StepFailed(
            f"{name} has the shape {list(ours.shape)}, the golden one {list(golden.shape)}: the artifact does not run there as it "
            "did. Use the versions that plan.json names."
        )
    if not np.isfinite(ours).all():
        raise StepFailed(
            f"{name} has values that are not finite: the runtime there cannot run this artifact."
        )


def _difference(value: float, group: str) -> Measure:
    return Measure(
        Key.GOLDEN_DIFF, None, round(value, 6), higher_is_better=False, group=group, count=1
    )


def _costs(timing: Timing | None, reason: str) -> Iterator[Measure]:
    if timing is None:
        for key in (Key.LATENCY, Key.LATENCY_P90, Key.PEAK_MEMORY):
            yield Measure(key, None, None, higher_is_better=False, reason=reason)
        return
    image, batch = timing.image, timing.batch
    interval = (round(image.low * batch, 4), round(image.high * batch, 4)) if image else None
    yield Measure(
        Key.LATENCY,
        None,
        timing.median_ms,
        higher_is_better=False,
        interval=interval,
        confidence=CONFIDENCE,
    )
    yield Measure(Key.LATENCY_P90, None, timing.p90_ms, higher_is_better=False)
    yield Measure(Key.PEAK_MEMORY, None, timing.peak_memory_mb, higher_is_better=False)
