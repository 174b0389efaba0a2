"""`log_mlflow`: what was measured, as a run of MLflow, through its own client."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolodeploy.api.deployed import Result
from yolodeploy.errors import EnvironmentProblem
from yolodeploy.system import missing, quotable, read_json, shown_json

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from yolodeploy.api.remeasured import Proof
    from yolodeploy.tasks import Measure

EXPERIMENT = "yolodeploy"
_SETTINGS = {  # unless the user chose otherwise: by default the client tries for minutes to reach a server that is down
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_ODD = re.compile(r"[^A-Za-z0-9_\- ]")  # what the names of groups may not have in those of metrics
_LOGIN = re.compile(r"//[^/@\s]*@")
_BATCH, _PARAMS = 1000, 100  # metrics and parameters that a server takes in one request
_LONG = 500  # characters of a parameter


@dataclass(frozen=True)
class LoggedRun:
    """A run of MLflow: its id, the name of its experiment, and the server without what logs in to it."""

    id: str
    experiment: str
    server: str

    def __str__(self) -> str:
        return f"MLflow run {self.id} in the experiment {self.experiment} of {self.server}"


def require_mlflow() -> None:
    """Raise EnvironmentProblem if MLflow's client is not installed."""
    if problem := missing("mlflow", "mlflow-skinny"):
        raise EnvironmentProblem(problem)


def log_mlflow(
    what: Result | Proof, uri: str | None = None, *, experiment: str | None = None
) -> LoggedRun:
    """Log parameters, every figure, the report, the recipe and its lock as one run.

    `uri` is the address of a server (None: what `MLFLOW_TRACKING_URI` names), `experiment` is made if there is none of that name (None: what
    `MLFLOW_EXPERIMENT_NAME` names, else "yolodeploy"). A deployment that failed its checks is a run that failed. Raises
    EnvironmentProblem if MLflow is not installed, the server cannot be reached or refuses, or nothing was measured.
    """
    require_mlflow()
    if not what.measures:
        raise EnvironmentProblem(
            f"{_name(what)}: nothing was measured, so there is nothing to log."
        )
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    name = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    # The client says on standard output where the run is; that is the place of our results.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            client = MlflowClient(uri)
            return LoggedRun(_log(client, what, name), name, _without_login(client.tracking_uri))
        except (MlflowException, OSError, ValueError) as error:
            where = _without_login(uri or os.environ.get("MLFLOW_TRACKING_URI") or "MLflow")
            reason = _reason(error)
            raise EnvironmentProblem(
                f"{_name(what)}: not logged to {where}: {reason}. What was deployed is not touched by this; log it again when the "
                "server can be reached."
            ) from error


def _reason(error: Exception) -> str:
    """What the system says of a connection, without the request that the client names; else what the client says."""
    causes, each = list[str](), error.__cause__ or error.__context__
    while each:
        causes += [each.strerror] if isinstance(each, OSError) and each.strerror else []
        each = each.__cause__ or each.__context__
    said = causes[-1] if causes else _LOGIN.sub("//", " ".join(str(error).split()))
    return quotable(said, 300).rstrip(".")


def _log(client: MlflowClient, what: Result | Proof, experiment: str) -> str:
    found = client.get_experiment_by_name(experiment)
    home = found.experiment_id if found else client.create_experiment(experiment)
    run = client.create_run(home, run_name=_name(what), tags=_tags(what)).info.run_id
    done = False
    try:
        _log_figures(client, run, what)
        _log_files(client, run, what)
        done = _passed(what)
    finally:
        client.set_terminated(run, "FINISHED" if done else "FAILED")
    return str(run)


def _log_figures(client: MlflowClient, run: str, what: Result | Proof) -> None:
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    params = [Param(key, quotable(value, _LONG)) for key, value in _params(what).items()]
    for start in range(0, len(params), _PARAMS):
        client.log_batch(run, params=params[start : start + _PARAMS])
    metrics = [Metric(name, value, now, 0) for name, value in metrics_of(what.measures).items()]
    size = (_report(what).get("artifact") or {}).get("bytes")
    metrics += [Metric("size_mb", size / 1e6, now, 0)] if size else []
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run, metrics=metrics[start : start + _BATCH])


def metrics_of(measures: Sequence[Measure]) -> dict[str, float]:
    """Figures by the names of metrics: `map50_95` is the artifact's, with `.source`, `.loss` and its bounds; `class_ap50_95/cat` a group's.

    Names of classes keep only what the names of metrics may have; two that become the same get a number.
    """
    found: dict[str, float] = {}
    used = Counter[str]()
    for measure in measures:
        group = _ODD.sub("_", measure.group)[:200]
        name = f"{measure.key}/{group}" if group else str(measure.key)
        used[name] += 1
        if used[name] > 1:
            name = f"{name}.{used[name]}"
        found |= {key: float(value) for key, value in _figures(name, measure) if value is not None}
    return found


def _figures(name: str, measure: Measure) -> Iterator[tuple[str, float | None]]:
    yield name, measure.artifact
    yield f"{name}.source", measure.source
    yield f"{name}.loss", measure.loss
    if measure.interval:
        what = "loss" if measure.loss is not None and measure.higher_is_better else "figure"
        yield f"{name}.{what}_low", measure.interval[0]
        yield f"{name}.{what}_high", measure.interval[1]


def _params(what: Result | Proof) -> dict[str, Any]:
    """What was deployed: target, model, steps with their parameters as far as a bundle names them, and versions."""
    report = _report(what)
    found: dict[str, Any] = {"recipe": _name(what)}
    if "steps" not in report:
        return {**found, "device": report["device"], "artifact": report["artifact"]}
    found |= {f"target.{key}": value for key, value in report["target"].items()}
    found |= {key: report[key] for key in ("backend", "imgsz")}
    found |= {"task": report["model"]["task"], "artifact": report["artifact"]["digest"]}
    found["steps"] = " > ".join(step["name"] for step in report["steps"])
    for index, step in enumerate(_planned(what)):
        for key, value in step["params"].items():
            found[f"step{index}.{step['name']}.{key}"] = value
    for backend, versions in report["versions"].items():
        tools = versions if isinstance(versions, Mapping) else {"": versions}
        found |= {f"version.{backend}.{tool}".rstrip("."): each for tool, each in tools.items()}
    return found


def _planned(what: Result | Proof) -> Sequence[Mapping[str, Any]]:
    from yolodeploy.backend import PLAN

    bundle = what.bundle if isinstance(what, Result) else None
    return read_json(bundle / PLAN)["steps"] if bundle else ()


def _tags(what: Result | Proof) -> dict[str, str]:
    place = (_report(what).get("conditions") or {}).get("place") or _report(what).get("place") or {}
    verdict = what.error.kind if isinstance(what, Result) and what.error else "passed"
    host, runtime = str(place.get("host") or "this machine"), str(place.get("runtime", ""))
    return {"yolodeploy.verdict": verdict, "yolodeploy.host": host, "yolodeploy.runtime": runtime}


def _log_files(client: MlflowClient, run: str, what: Result | Proof) -> None:
    """The report as page and data, the recipe and its lock; of what was measured elsewhere, the evidence."""
    from yolodeploy.backend import REPORT

    with tempfile.TemporaryDirectory(prefix="yolodeploy-mlflow-") as folder:
        file = Path(folder) / REPORT
        file.write_text(shown_json(_report(what)) + "\n", encoding="utf-8")
        client.log_artifact(run, str(file))
    if not isinstance(what, Result):
        return
    lock = what.recipe.with_suffix(".lock")
    page = what.bundle / "report.html" if what.bundle else None
    for each in (page, what.recipe, lock if what.bundle else None):
        if each and each.is_file():
            client.log_artifact(run, str(each))


def _report(what: Result | Proof) -> Mapping[str, Any]:
    if isinstance(what, Result):
        return what.report or {}
    return what.report or what.evidence


def _name(what: Result | Proof) -> str:
    return what.name if isinstance(what, Result) else str(what.evidence["recipe"])


def _passed(what: Result | Proof) -> bool:
    return what.passed if isinstance(what, Result) else all(check.ok for check in what.checks)


def _without_login(uri: str) -> str:
    """An address without user and password."""
    return quotable(_LOGIN.sub("//", uri), 200)
