"""Killed, interrupted and concurrent runs."""

from __future__ import annotations

import random
import signal
import time

import pytest
from world import World

MOMENTS = 10


def test_killed_at_any_moment_nothing_is_lost(
    deployed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL ten times, at moments spread over a whole run; old results stay, a good run follows."""
    monkeypatch.setenv("CLAY_FAULT", "export:slow,press:slow,open:slow")
    monkeypatch.setenv("CLAY_SECONDS", "0.05")
    old = deployed.state()
    deployed.weights(padding=30_000)
    deployed.recipe(("kiln-a", "kiln-b"))
    chance = random.Random(0)
    stopped = 0
    for number in range(MOMENTS):
        process = deployed.start("deploy", "pot.yaml")
        time.sleep(chance.uniform(0.1, 0.2 + 0.1 * number))
        process.kill()
        stopped += process.wait() == -signal.SIGKILL
        process.communicate()
        now = deployed.state()
        kept = {p: v for p, v in old.items() if p.startswith(str(deployed.cache))}
        assert kept.items() <= now.items()
        assert deployed.run("cache", "verify").code == 0
        assert deployed.bundle.joinpath("manifest.json").is_file()
    assert stopped >= MOMENTS // 2
    monkeypatch.delenv("CLAY_FAULT")
    deployed.good()
    assert deployed.deploy("--locked").code == 0
    deployed.run("cache", "prune")
    assert not deployed.leftovers()


@pytest.mark.parametrize(
    ("where", "sent"),
    [
        ("export:slow", signal.SIGINT),
        ("infer:slow", signal.SIGINT),
        ("open-worker:slow", signal.SIGINT),
        ("export:slow", signal.SIGTERM),
        ("open-worker:slow", signal.SIGTERM),
    ],
)
def test_ctrl_c_and_kill(
    deployed: World, where: str, sent: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal to the process, while a step runs, while images are measured, and while it is timed.

    Models run in threads of their own, which cannot be interrupted: the run ends with the images that they are at.
    """
    monkeypatch.setenv("CLAY_FAULT", where)
    monkeypatch.setenv("CLAY_SECONDS", "5" if where == "infer:slow" else "20")
    before = deployed.state()
    deployed.recipe(("kiln-a", "kiln-b"))
    process = deployed.start("deploy", "pot.yaml")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("export" if where == "export:slow" else "measure"):
            break
    time.sleep(0.8 if "worker" in where else 0.3)
    process.send_signal(sent)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == (
        "error: stopped. Finished steps are kept; the next run continues from there."
    )
    assert "Traceback" not in err
    assert before.items() <= deployed.state().items()
    assert not deployed.leftovers()


def test_two_processes_share_the_work(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAY_FAULT", "load:slow,export:slow,press:slow")
    monkeypatch.setenv("CLAY_SECONDS", "0.3")
    processes = [world.start("deploy", "pot.yaml") for _ in range(2)]
    said = [process.communicate(timeout=50) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert sorted(world.log) == ["export", "export", "load", "press"]  # and the fp32 reference
    assert "another build is running this step; waiting for its result" in said[0][1] + said[1][1]
    assert sum(err.count("measure 6 images ...") for _, err in said) == 1
    assert world.run("cache", "verify").code == 0
    assert world.deploy("--locked").code == 0
    assert not world.leftovers()
