"""What MLflow gets, from its own server."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from world import World

import yolodeploy as yd
from yolodeploy.api.logged import metrics_of
from yolodeploy.tasks import Key, Measure

SERVER = "YOLODEPLOY_MLFLOW_SERVER"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("mlflow.server", reason="not installed. Run: pip install mlflow")
    given = os.environ.get(SERVER)
    if given != "start":
        if not given:
            pytest.skip(
                f"a server takes half a minute to start. Set {SERVER}=start, or to its address"
            )
        yield given
        return
    folder, port = tmp_path_factory.mktemp("mlflow"), _free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/db.sqlite", "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    uri = f"http://127.0.0.1:{port}"
    try:
        _wait(uri, process)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _wait(uri: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "the server did not start"
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=1)
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail("the server does not answer")


@pytest.mark.slow
def test_figures_report_recipe_and_lock_arrive(
    deployed: World, server: str, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    result = deployed.good("--mlflow", server)
    assert f"in the experiment yolodeploy of {server}" in result.err
    assert result.out == deployed.good().out
    client = MlflowClient(server)
    home = client.get_experiment_by_name("yolodeploy")
    run = client.search_runs([home.experiment_id], order_by=["start_time DESC"])[0]
    report = json.loads((deployed.bundle / "report.json").read_text())
    accuracy = report["evidence"]["map50_95"]
    figures = run.data.metrics
    assert (figures["map50_95"], figures["map50_95.source"]) == (
        accuracy["artifact"],
        accuracy["source"],
    )
    assert figures["size_mb"] == report["artifact"]["bytes"] / 1e6
    assert {"class_ap50_95/red", "latency_ms", "fidelity"} <= figures.keys()
    assert run.data.params["step2.press.strength"] == "0.25"
    assert run.data.params["steps"] == "load > export > press"
    assert (run.info.status, run.data.tags["yolodeploy.verdict"]) == ("FINISHED", "passed")
    names = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert names == {"report.json", "report.html", "pot.yaml", "pot.lock"}
    lock = client.download_artifacts(run.info.run_id, "pot.lock", str(tmp_path))
    assert Path(lock).read_bytes() == deployed.lock.read_bytes()


@pytest.mark.slow
def test_a_deployment_that_failed_is_a_run_that_failed(deployed: World, server: str) -> None:
    from mlflow import MlflowClient

    deployed.recipe(name="bad.yaml", extra="checks:\n  size_mb: 0.000001\n")
    here = yd.Session(verbosity=-1, in_process=True)
    result = yd.deploy("bad.yaml", raises=False, session=here)
    logged = yd.log_mlflow(result, server, experiment="other")
    run = MlflowClient(server).get_run(logged.id)
    assert (run.info.status, run.data.tags["yolodeploy.verdict"]) == ("FAILED", "checks failed")
    proof = yd.remeasure("pot.yaml", session=here)
    again = MlflowClient(server).get_run(yd.log_mlflow(proof, server).id)
    assert again.data.metrics["map50_95"] == proof.measure("map50_95").artifact


def test_a_server_that_is_down_costs_a_warning(
    deployed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="not installed. Run: pip install 'yolodeploy[mlflow]'")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    nowhere = f"http://me:secret@127.0.0.1:{_free_port()}"
    result = deployed.good("--mlflow", nowhere)
    assert re.search(
        r"warning: pot: not logged to http://127.0.0.1:\d+: Connection refused. What was",
        result.err,
    )
    assert "secret" not in result.err
    assert "bundle: dist/pot" in result.out
    monkeypatch.setattr("yolodeploy.api.logged.missing", lambda *_: "mlflow-skinny not installed")
    (deployed.bundle / "manifest.json").unlink()
    refused = deployed.deploy("--mlflow", nowhere)
    assert (refused.code, refused.error) == (4, "mlflow-skinny not installed")
    assert not (deployed.bundle / "manifest.json").exists()


def test_classes_of_any_name_are_metrics() -> None:
    measures = [
        Measure(Key.CLASS_AP, 0.5, 0.25, group=name)
        for name in ("cat", "a/../b?", "a//..b!", "é" * 300)
    ] + [Measure(Key.FIDELITY, None, None, reason="none")]
    found = metrics_of(measures)
    assert {
        "class_ap50_95/cat",
        "class_ap50_95/a____b_",
        "class_ap50_95/a____b_.2",
    } <= found.keys()
    assert found["class_ap50_95/cat.loss"] == 0.25
    assert all(len(name) <= 250 for name in found)
    assert "fidelity" not in found


def test_thousands_of_classes_whose_names_become_the_same_take_no_time() -> None:
    names = [f"{chr(0x4E00 + number)}{chr(0x4E00 + 7 * number % 9000)}" for number in range(10_000)]
    start = time.process_time()
    found = metrics_of([Measure(Key.CLASS_AP, 0.5, 0.25, group=name) for name in names])
    assert time.process_time() - start < 2
    assert len(found) == 30_000
