"""Jobs on a Ray of this machine, and what a worker of another machine would do."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from world import World

from yolodeploy.errors import EnvironmentProblem, StoreProblem
from yolodeploy.execution import Run
from yolodeploy.jobs import Job, Outcome, RayCluster, What, Work, is_cluster, ray_worker
from yolodeploy.jobs.parcels import pack_objects, unpack_objects
from yolodeploy.jobs.progress import Progress
from yolodeploy.jobs.ray_environment import Pulse, first_reason, silent_ray, unmet
from yolodeploy.store import Store
from yolodeploy.system import Console, descendants

TOKEN = "cluster-here"
START = 240  # seconds: Ray takes 5 to start, on a machine that is busy many times as long


class _Board:
    """What stands for the process that shows what workers say."""

    def __init__(self) -> None:
        self.said: list[list[Any]] = []
        self.say = self

    def remote(self, _: str, message: list[Any]) -> None:
        self.said.append(message)


@pytest.fixture
def worker(world: World) -> Iterator[_Board]:
    """A worker of this process, whose children end with the test."""
    yield _Board()
    for child in ray_worker._children.values():
        child.close()
    ray_worker._children.clear()


def _jobs(world: World, store: Path) -> list[Job]:
    work = Work(
        str(world.root / "pot.yaml"), "pot.yaml", (), trusted=False, store=str(store), shared=None,
        folder=str(world.root),
    )  # fmt: skip
    steps = world.plan().steps
    return [
        Job(step.id, What.STEP, index, tuple(s.id for s in steps[max(index - 1, 0) : index]), step.step.name, work)
        for index, step in enumerate(steps)
    ]  # fmt: skip


@pytest.mark.slow
def test_two_recipes_on_ray_a_crash_in_one_and_the_same_bytes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="not installed. Run: pip install 'yolodeploy[ray]'")
    world.recipe(("  - press: {strength: 0.25}\n", ""), name="plain.yaml")
    world.recipe(("fp16", "fp32"), ("  - press: {strength: 0.25}\n", ""), name="fp32.yaml")
    monkeypatch.setenv("CLAY_FAULT", "press:segfault")
    recipes = ["plain.yaml", "pot.yaml", "fp32.yaml"]
    command = world.start("deploy", *recipes, "--on", "ray", "--json")
    out, said = command.communicate(timeout=START)
    assert command.returncode == 139, said
    plain, pot, fp32 = json.loads(out)
    assert plain["ok"], said
    assert fp32["ok"]
    assert pot["error"]["message"].startswith(
        "pot.yaml:11:5: `press` of kiln: native code of a tool crashed"
    )
    assert sorted(world.log) == ["export", "export", "load", "press"]  # each once
    assert not list(world.cache.glob("cluster-*"))
    locks = [(world.root / name).with_suffix(".lock") for name in ("plain.yaml", "fp32.yaml")]
    made = [lock.read_bytes() for lock in locks]
    monkeypatch.setenv("YOLODEPLOY_CACHE", str(world.root / "other"))
    monkeypatch.delenv("CLAY_FAULT")
    assert world.run("deploy", "plain.yaml", "fp32.yaml").code == 0
    assert [lock.read_bytes() for lock in locks] == made


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_running(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="not installed. Run: pip install 'yolodeploy[ray]'")
    monkeypatch.setenv("CLAY_FAULT", "export:slow")
    monkeypatch.setenv("CLAY_SECONDS", "60")
    command = world.start("build", "pot.yaml", "--on", "ray")
    while world.log[-1:] != ["export"]:
        if command.poll() is not None:
            pytest.fail(command.communicate()[1])
        time.sleep(0.1)
    started = descendants(command.pid)
    assert len(started) > 3
    command.send_signal(signal.SIGINT)
    _, said = command.communicate(timeout=START)
    assert command.returncode == 130
    assert said.splitlines()[-1].startswith("error: stopped.")
    assert not {pid for pid in started if Path(f"/proc/{pid}").exists()}
    assert not world.leftovers()


class _Tasks:
    """Stands for Ray: notes which jobs are handed over, and ends each as soon as somebody waits for it."""

    def __init__(self) -> None:
        self.noted: list[str] = []
        self.wait = lambda waiting, **_: (waiting, [])
        self.get = lambda found, **_: found
        self.take = self
        self.shutdown = lambda: self.noted.append("shutdown")

    def __call__(self, *_: object) -> _Tasks:
        return self

    def options(self, **_: object) -> _Tasks:
        return self

    def remote(self, *given: Any, **_: object) -> Any:
        if not given or not isinstance(given[0], str):  # an actor, the task, or what was said
            return [] if self.noted else self
        job = Job.parse(given[0])
        self.noted.append(f"given {job.title}")
        return Outcome(job.id).text(), []


@pytest.fixture
def cluster(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayCluster]:
    """A cluster on what stands for Ray; jobs that it cannot do are noted as those of this machine."""
    pytest.importorskip("ray", reason="not installed. Run: pip install 'yolodeploy[ray]'")
    made = RayCluster("auto", Console(), Run([], [], "", json=False), Store(world.cache, print))
    made._ray = ray = _Tasks()
    made._cpus, made._memory, made._gpus, made._elsewhere = 2, 1, False, False
    noted = ray.noted
    monkeypatch.setattr(
        made._here, "run", lambda jobs, *_: noted.extend(f"here {j.title}" for j in jobs.values())
    )
    yield made
    made._ray = None


def _run(cluster: RayCluster, jobs: list[Job], noted: list[str]) -> None:
    """Let a cluster do jobs, and note what becomes of them."""
    cluster.run(
        {job.id: job for job in jobs},
        lambda job, outcome: noted.append(f"{'ended' if outcome.ok else 'failed'} {job.title}"),
        lambda _: True,
    )


def test_jobs_that_want_a_machine_alone_are_handed_over_when_all_others_have_ended(
    world: World, cluster: RayCluster
) -> None:
    """While one waits for a whole machine, Ray keeps processors of that machine idle."""
    load, *others = _jobs(world, world.cache)
    noted = cluster._ray.noted
    _run(cluster, [replace(load, alone=True), *others], noted)
    assert noted == [
        "given export", "given press", "ended export", "ended press", "given load", "ended load",
    ]  # fmt: skip


@pytest.mark.parametrize("lost", ["connection", "machine"])
def test_when_ray_ends_the_jobs_that_are_left_are_done_here(
    world: World, cluster: RayCluster, lost: str
) -> None:
    from ray import exceptions

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError if lost == "connection" else exceptions.LocalRayletDiedError

    setattr(cluster._ray, "wait" if lost == "connection" else "get", fail)
    jobs = [replace(job, needs=()) for job in _jobs(world, world.cache)]
    given = [f"given {job.title}" for job in jobs]
    here = [f"here {job.title}" for job in jobs]
    noted = cluster._ray.noted
    _run(cluster, jobs, noted)
    assert noted == [*given, "shutdown", *here]
    _run(cluster, jobs[:1], noted)
    assert noted[-2:] == [here[-1], here[0]]  # Ray is not asked again
    with pytest.raises(
        EnvironmentProblem, match=r"^--on auto: Ray has ended, or cannot be reached"
    ):
        cluster.ask(jobs)


def test_a_head_that_answers_no_more_is_noticed_before_ray_ends_the_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        pulse = Pulse(f"127.0.0.1:{server.getsockname()[1]}")
        assert pulse.feel()
    assert not pulse.feel()
    assert not pulse.feel()
    with pytest.raises(ConnectionError):
        pulse.feel()


def test_what_a_lost_job_takes_along_fails_with_the_same_words(
    world: World, cluster: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray import exceptions

    def fail(*_: object, **__: object) -> None:
        raise exceptions.WorkerCrashedError

    monkeypatch.setattr(cluster._ray, "get", fail)
    faults = []
    jobs = {job.id: job for job in _jobs(world, world.cache)}
    cluster.run(jobs, lambda _, outcome: faults.append(outcome.fault), lambda _: True)
    assert len(faults) == 3
    assert faults[0].message.startswith("load: Ray could not bring the job to its end: Worker")
    assert faults[1:] == faults[:1] * 2


def test_only_machines_that_others_may_join_are_asked_for_a_gpu(
    world: World, cluster: RayCluster
) -> None:
    training = replace(_jobs(world, world.cache)[0], gpu=True)
    assert cluster._resources(training)["num_gpus"] == 0  # the tool says what is missing
    cluster._elsewhere = True
    assert cluster._resources(training)["num_gpus"] == 1
    small = {"Alive": True, "Resources": {"CPU": 4.0, "memory": 8e9}}
    asked = {"num_cpus": 2, "num_gpus": 0, "memory": 1.5e9}
    assert unmet([("a: load", asked)], [small]) == ""
    assert unmet([("a: load", asked)], [{**small, "Alive": False}]).startswith(
        "a: load waits for 2 CPU, 1.5 GB: no machine of this Ray has as much to give."
    )
    assert "1.5 GB and a GPU:" in unmet([("a: load", {**asked, "num_gpus": 1})], [small])


def test_a_store_that_cannot_be_written_is_no_bug_and_ends_no_process_of_others(
    world: World, cluster: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a notebook's, whose process runs the cluster."""
    ended = set[int]()
    monkeypatch.setattr("yolodeploy.jobs.cluster.end_processes", lambda ids, _: ended.update(ids))
    world.cache.write_text("a file")
    cluster._ray = None
    with subprocess.Popen(["sleep", "60"]) as other:
        with pytest.raises(StoreProblem, match="The store must be writable"), cluster:
            cluster._start()
        other.kill()
    assert ended == set()


def test_the_reason_is_the_last_line_of_a_trace() -> None:
    trace = "No connection. Last error: Traceback (most recent call last):\n  File x\nray.AuthError: no token. Get one."
    assert first_reason(RuntimeError(trace)) == "no token. Get one"
    assert first_reason(RuntimeError("no\nroute: none.")) == "no route: none"


def test_what_ray_prints_does_not_mix_with_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    with silent_ray(Console(1)):
        printing = threading.Thread(
            target=print,
            args=("\033[33m(raylet)\033[0m died\n  [state-dump] 1",),
            name="ray_listen",
        )
        printing.start()
        printing.join()
        print("the result")
    assert capsys.readouterr() == ("the result\n", "(raylet) died\n")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("number", [0, signal.SIGKILL])
def test_a_command_that_is_killed_leaves_no_folder_and_nothing_that_would_make_it_again(
    tmp_path: Path, number: int
) -> None:
    file, folder = tmp_path / "token", tmp_path / "of ray"
    file.touch()
    (folder / "logs").mkdir(parents=True)
    script = (
        "import os, pathlib, subprocess, sys; from yolodeploy.jobs.ray_environment import swept\n"
        "file, folder = map(pathlib.Path, sys.argv[1:3])\n"
        "log = (folder / 'logs' / 'out').open('w')\n"
        "with swept(file, folder):\n"
        "    print(subprocess.Popen(['sleep', '300'], stdout=log).pid, flush=True)\n"
        "    os.kill(os.getpid(), int(sys.argv[3]))"
    )
    command = [sys.executable, "-c", script, file, folder, str(int(number))]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    assert done.returncode == -number
    agent, end = Path("/proc", done.stdout.decode().strip()), time.monotonic() + START
    while (file.exists() or folder.exists() or agent.exists()) and time.monotonic() < end:
        time.sleep(0.02)
    assert not list(tmp_path.glob("*o*"))
    assert not agent.exists()


def test_a_row_stays_as_its_last_job_left_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What workers said before the end of a job may arrive after it."""
    monkeypatch.setattr("yolodeploy.jobs.progress.shows_bars", lambda: True)
    load, export, _ = (replace(job, title="pot: work") for job in _jobs(world, world.cache))
    with Progress(Console(), [load, export]) as progress:
        (row,) = progress._rows.values()
        text = lambda: progress._bars.tasks[row].fields["text"]  # noqa: E731
        progress.take([(load.id, ["begin", 0, "load clay"])])
        assert text() == "load clay"
        progress.done(load, Outcome(load.id))
        progress.take([(load.id, ["report", 0, 1.0, ""]), (export.id, ["begin", 0, "export"])])
        assert text() == "export"
        progress.done(export, Outcome(export.id, other="vm sees no recipe"))
        progress.take([(export.id, ["begin", 0, "export"])])
        assert text() == ""
    monkeypatch.undo()
    with Progress(Console(), [load]) as progress:
        progress.done(load, Outcome(load.id, other="vm sees no recipe"))
    assert world.capsys.readouterr().err.endswith("\n1 of 1: pot: work: vm sees no recipe\n")


def test_more_recipes_than_lines_come_and_go_with_their_work(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolodeploy.jobs.progress.shows_bars", lambda: True)
    monkeypatch.setenv("LINES", "6")
    load, *_ = _jobs(world, world.cache)
    jobs = [replace(load, id=f"{place:064}", title=f"r{place}: load") for place in range(4)]
    with Progress(Console(), jobs) as progress:

        def rows() -> list[tuple[str, float]]:
            tasks = filter(lambda task: task.visible, progress._bars.tasks)
            return [(task.description, task.completed) for task in tasks]

        progress.take([(jobs[2].id, ["begin", 0, "load clay"])])
        assert rows() == [("recipes", 0), ("r2", 0)]
        progress.done(jobs[2], Outcome(jobs[2].id))
        progress.done(jobs[0], Outcome(jobs[0].id))
        assert rows() == [("recipes", 2)]


def test_a_worker_that_sees_the_store_sends_nothing(world: World, worker: _Board) -> None:
    world.cache.mkdir()
    (world.cache / TOKEN).touch()
    load, *_ = _jobs(world, world.cache)
    text, parcel = ray_worker.work(load.text(), TOKEN, 0, worker)
    assert Outcome.parse(text, load.id).ok
    assert parcel == []
    assert Store(world.cache, Console().warn).peek(load.id)
    assert [message[0] for message in worker.said][:2] == ["begin", "end"]


def test_results_travel_where_no_folder_is_shared(
    world: World, worker: _Board, tmp_path: Path
) -> None:
    home = Store(tmp_path / "home", Console().warn)
    load, export, press = _jobs(world, home.root)
    loaded, parcel = ray_worker.work(load.text(), TOKEN, 0, worker)
    assert len(parcel) == 1
    os.environ["YOLODEPLOY_CACHE"] = str(tmp_path / "another machine")  # restored by the fixture
    worked = ray_worker.work(export.text(), TOKEN, 0, worker, loaded, parcel)
    assert Outcome.parse(worked[0]).ok
    assert world.log == ["load", "export"]  # the other machine did not load again
    unpack_objects(home, worked[1])
    assert {load.id, export.id} == {home_id.name for home_id, _ in home.entries()}
    failed = Outcome(export.id, other="is small").text()
    skipped, nothing = ray_worker.work(press.text(), TOKEN, 0, worker, failed, [])
    assert (Outcome.parse(skipped, press.id).other, nothing) == ("is small", [])


@pytest.mark.parametrize("damage", ["byte", "cut", "id"])
def test_a_parcel_that_was_damaged_is_refused(world: World, tmp_path: Path, damage: str) -> None:
    assert world.run("build", "pot.yaml", "-q").code == 0
    store, home = Store(world.cache, Console().warn), Store(tmp_path / "home", Console().warn)
    (archive,) = pack_objects(store, [world.plan().final.id])
    broken = {
        "byte": archive[:-2000] + bytes([archive[-2000] ^ 1]) + archive[-1999:],
        "cut": archive[:-2000],
        "id": archive.replace(world.plan().final.id.encode(), b"../" * 21 + b"x"),
    }[damage]
    with pytest.raises(StoreProblem, match="a result that another machine sent "):
        unpack_objects(home, [broken])
    assert not list(home.entries())


def test_a_worker_says_what_it_does_not_see_or_plans_otherwise(
    world: World, worker: _Board
) -> None:
    world.cache.mkdir()
    (world.cache / TOKEN).touch()
    load, *_ = _jobs(world, world.cache)
    body = json.loads(load.text())
    unseen = {**body, "work": {**body["work"], "recipe": "/nowhere/pot.yaml"}}
    text, _ = ray_worker.work(json.dumps(unseen), TOKEN, 0, worker)
    assert Outcome.parse(text).other.endswith(" does not see /nowhere/pot.yaml")
    text, _ = ray_worker.work(json.dumps({**body, "id": "0" * 64}), TOKEN, 0, worker)
    assert " plans other steps: " in Outcome.parse(text).other
    elsewhere = {**body, "conditions": "0" * 64}
    text, _ = ray_worker.work(json.dumps(elsewhere), TOKEN, 0, worker)
    assert " is another machine " in Outcome.parse(text).other


def test_without_ray_the_message_says_what_to_install(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolodeploy.jobs.cluster.missing", lambda extra, _: f"not there: {extra}")
    result = world.deploy("--on", "ray")
    assert (result.code, result.error) == (4, "--on ray: not there: ray.")
    assert world.deploy("--on", "moon").code == 2
    assert is_cluster("127.0.0.1:6379")
    assert is_cluster("ray://head:10001")
