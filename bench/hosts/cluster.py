"""Several recipes at once: with Ray against one after the other, what a cached step costs, and workers that are killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.common import ROOT, Bench
from bench.process import BIN, Run, in_turns, median, ratio, run
from yolodeploy.execution import Run as Command
from yolodeploy.jobs import Job, LocalChild, Outcome, RayCluster, What, Work
from yolodeploy.planning import Plan, Planner
from yolodeploy.store import Entry, Store
from yolodeploy.system import Console, descendants, threads

RECIPES = (
    "android", "android-int8", "android-small", "android-yolo11", "android-yolo26",
    "intel", "intel-int8", "intel-yolo11", "intel-yolo26",
    "ios", "ios-int8", "ios-small", "ios-yolo11", "ios-yolo26",
)  # fmt: skip
FEW = (
    "android-int8",
    "intel-int8",
    "ios-int8",
)  # no job takes much longer than the pauses between kills
PLANS, WARM_UP, KILLS = 1000, 50, 30
FASTER, EACH_MS, ALL_S = 1.7, 20, 30


def cluster(bench: Bench) -> None:
    """14 demo recipes of detection, an empty store each time: two workers of Ray against one child process."""
    project = _project(bench)
    if threads() != 2:
        print(f"this machine has {threads()} processors; the figure is for two")
    alone, beside = in_turns(
        bench.options.runs,
        lambda: _deploy(project, RECIPES),
        lambda: _deploy(project, RECIPES, "--on", "ray"),
    )
    print(
        f"{len(RECIPES)} recipes  one after the other {median(alone, 'wall'):.0f} s   "
        f"Ray {median(beside, 'wall'):.0f} s   {ratio(alone, beside, 'wall'):.2f} times as fast, "
        f"paired, {len(alone)} runs each (at least {FASTER})"
    )


def elsewhere(bench: Bench) -> None:
    """The results that the locks name, made by one process, by a child and by Ray."""
    project = _project(bench)
    found = {}
    for name, arguments, environment in (
        ("in one process", (), {"YOLODEPLOY_IN_PROCESS": "1"}),
        ("in a child", (), {}),
        ("on Ray", ("--on", "ray"), {}),
    ):
        _deploy(project, FEW, *arguments, environment=environment)
        found[name] = _results(project)
    locked = _locked()
    for name, results in found.items():
        same = sum(results.get(id_) == digest for id_, digest in locked.items())
        print(f"{name:<15} {same} of {len(locked)} results have the bytes of the locks")


def _locked() -> dict[str, str]:
    """The digests of the results that the demo's own locks name, by id."""
    locks = (json.loads((ROOT / f"recipes/{name}.lock").read_text()) for name in FEW)
    return {step["id"]: step["output"] for lock in locks for step in lock["steps"]}


def killed(bench: Bench) -> None:
    """Workers of Ray killed at random moments of a run, and their children with them: it ends with the same bytes.

    The pauses follow from how long the recipes take here: a job that is killed must have a chance to end later.
    """
    project = _project(bench)
    pause = _deploy(project, FEW).wall / 8
    expected = _results(project)
    chance, kills, rounds = random.Random(0), 0, 0
    while kills < KILLS:
        rounds += 1
        _forget(project)
        process = subprocess.Popen(
            _command(project, FEW, "--on", "ray"),
            cwd=project,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        while process.poll() is None and kills < KILLS:
            time.sleep(chance.uniform(0.0, 2 * pause))
            kills += _kill_one(process.pid, chance)
        _, said = process.communicate()
        same = sum(digest == expected.get(id_) for id_, digest in _results(project).items())
        print(
            f"round {rounds}: {kills} of {KILLS} killed, exit code {process.returncode}, {same} of {len(expected)} results have the same bytes",
            flush=True,
        )
        if process.returncode not in (0, 1):
            print(said.decode()[-2000:])


def cached(bench: Bench) -> None:
    """Jobs whose results are in the store, and many plans of them."""
    folder = bench.work / "cached"
    store = Store(folder / "cache", print)
    recipe = bench.recipe("intel", "fp16", 8)
    subprocess.run(
        [BIN / "yolodeploy", "build", recipe, "--allow", "/", "-q", "--cache", store.root],
        check=True,
    )
    jobs = _forged(recipe, folder, store)
    console, about = Console(-1), Command([], [], str(store.root), json=False)
    for name, executor in (
        ("a child", LocalChild(console, about)),
        ("Ray", RayCluster("ray", console, about, store)),
    ):
        ends: list[float] = []

        def ended(job: Job, outcome: Outcome, ends: list[float] = ends) -> None:
            assert outcome.ok, (job, outcome)
            ends.append(time.perf_counter())

        with executor:
            executor.run(jobs, ended, lambda _: True)
        each = 1000 * (ends[-1] - ends[WARM_UP]) / (len(ends) - 1 - WARM_UP)
        print(
            f"{name}: {len(jobs)} jobs of cached steps, {each:.1f} ms each (limit {EACH_MS})",
            flush=True,
        )
    recipes = sorted(folder.glob("*.yaml"))
    command = [BIN / "yolodeploy", "build", "--allow", "/", "-q", "--cache", store.root, *recipes]
    for name, more in (("without Ray", []), ("--on ray", ["--on", "ray"])):
        wall = run([*command, *more], bench.work).wall
        print(f"build of {len(recipes)} recipes, all cached, {name}: {wall:.1f} s (limit {ALL_S})")


def _forged(recipe: Path, folder: Path, store: Store) -> dict[str, Job]:
    """A job for every step of recipes that differ in their seed, all in the store: the result of the first, under other ids."""
    jobs: dict[str, Job] = {}
    text = recipe.read_text()
    with Planner.of_store(store.root, ["/"]) as planner:
        first = planner.plan(recipe)
        for number in range(1, PLANS + 1):
            other = folder / f"{number:04}.yaml"
            other.write_text(text.replace("name: ", f"seed: {number}\nname: {number}-", 1))
            plan = planner.plan(other)
            _forge(first, plan, store)
            work = Work(str(other), str(other), ("/",), trusted=False, store=str(store.root), shared=None, folder=str(folder))  # fmt: skip
            final = len(plan.steps) - 1
            jobs[plan.final.id] = Job(plan.final.id, What.STEP, final, (), str(number), work)
    return jobs


def _forge(first: Plan, plan: Plan, store: Store) -> None:
    for step, planned in zip(first.steps, plan.steps, strict=True):
        found = store.find(step.id)
        assert found

        def make(work: Path, source: Path = found.path) -> Path:
            return shutil.copytree(source, work / "data")

        store.obtain(Entry(planned.id, step.step.name, step.step.produces), make)


def _project(bench: Bench) -> Path:
    """A copy of the demo's recipes, models and images, because deploying writes locks."""
    project = bench.work / "project"
    if not project.exists():
        for name in ("recipes", "models", "examples/shapes"):
            ignored = shutil.ignore_patterns("*.lock", "runs", "__pycache__")
            shutil.copytree(ROOT / name, project / name, ignore=ignored)
        (project / "pyproject.toml").touch()  # recipes may read everything below it
    return project


def _command(project: Path, names: Sequence[str], *arguments: str) -> list[str]:
    recipes = [f"recipes/{name}.yaml" for name in names]
    cache = str(project / "cache")
    return [
        str(BIN / "yolodeploy"),
        "deploy",
        *recipes,
        "--undecided=accept",
        "--cache",
        cache,
        *arguments,
    ]


def _deploy(
    project: Path,
    names: Sequence[str],
    *arguments: str,
    environment: Mapping[str, str] | None = None,
) -> Run:
    """Deploy recipes with an empty store."""
    _forget(project)
    start = time.perf_counter()
    done = subprocess.run(
        _command(project, names, *arguments), cwd=project, env={**os.environ, **(environment or {})},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    wall = time.perf_counter() - start
    failed = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    if done.returncode not in (0, 1):  # a check of a latency may fail on a busy machine
        raise SystemExit(done.stderr[-3000:])
    print(f"{' '.join(arguments) or 'in turns':<10} {wall:6.1f} s {'; '.join(failed)}", flush=True)
    return Run(wall, 0.0, 0.0)


def _forget(project: Path) -> None:
    """Remove what was made."""
    shutil.rmtree(project / "cache", ignore_errors=True)
    for lock in project.glob("recipes/*.lock"):
        lock.unlink()


def _results(project: Path) -> dict[str, str]:
    """The digests of all results of steps by id; locks name the same, but not of a recipe whose latency failed its check."""
    store = Store(project / "cache", print)
    found = (meta for _, meta in store.entries() if meta)
    return {meta.id: meta.digest for meta in found if meta.step not in ("measure", "memo")}


def _kill_one(command: int, chance: random.Random) -> int:
    """Kill a worker of Ray that does a job; returns how many were killed."""
    found = [pid for pid in sorted(descendants(command)) if _works(pid)]
    if not found:
        return 0
    try:
        os.kill(chance.choice(found), signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


def _works(pid: int) -> bool:
    """Whether a process is a worker of Ray that does one of our jobs, whose names have a colon."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False
    return command.startswith("ray::") and ": " in command
