"""`target: {gpu: ...}`: which devices have one, what it changes, and a machine without."""

from __future__ import annotations

import json

import pytest
from world import World

from yolodeploy.errors import EnvironmentProblem, PlanRefused
from yolodeploy.planning.lock import lock_of

ON_GPU = ("target: kiln-a", "target: {device: kiln-b, gpu: embers}")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "{device: kiln-a, gpu: embers}",
            "pot.yaml:8:26: `gpu: embers`: Kiln A (2021) offers no GPU to choose. Leave `gpu` out, or target a device "
            "that offers it: `kiln-b`.",
        ),
        (
            "{device: kiln-b, gpu: lava}",
            "pot.yaml:8:26: `gpu: lava` is not what Kiln B (2024) offers. Write `embers`.",
        ),
        (
            "{device: oven-x, gpu: lava}",
            "pot.yaml:8:26: `gpu: lava`: Oven X offers no GPU to choose. Leave `gpu` out.",
        ),
    ],
)
def test_a_device_without_that_gpu_is_refused(world: World, target: str, message: str) -> None:
    world.recipe(("target: kiln-a", f"target: {target}"))
    result = world.deploy()
    assert (result.code, result.error) == (PlanRefused.exit_code, message)


def test_the_gpu_is_part_of_ids_lock_and_report_where_there_is_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KILN_GPU", "1.0")
    world.recipe(("target: kiln-a", "target: kiln-b"))
    plain = world.plan()
    assert lock_of(plain, {}).target == {"device": "kiln-b", "os": None}
    world.recipe(ON_GPU)
    plan = world.plan()
    ids = [[step.id for step in each.steps] for each in (plain, plan)]
    assert ids[0][0] == ids[1][0]  # loading knows no device
    assert not set(ids[0][1:]) & set(ids[1][1:])
    report = world.good("--json").json
    named = {"device": "kiln-b", "os": None, "gpu": "embers"}
    assert report["target"] == {**named, "title": "Kiln B (2024)"}
    assert json.loads(world.lock.read_text())["target"] == named
    assert json.loads((world.bundle / "contract.json").read_text())["gpu"] == "embers"
    assert world.run("verify", "dist/pot", "--lock", "pot.lock").code == 0
    assert "Kiln B (2024), GPU through embers, 64 x 64 px" in world.run("plan", "pot.yaml").out
    assert world.run("plan", "pot.yaml", "--json").json["measured"]
    monkeypatch.setenv("KILN_GPU", "1.1")  # another driver is measured again
    found = world.run("plan", "pot.yaml", "--json").json
    assert (found["measured"], [step["cached"] for step in found["steps"]]) == (False, [True] * 3)


def test_a_machine_without_a_gpu_builds_but_does_not_measure(world: World) -> None:
    world.recipe(ON_GPU)
    result = world.deploy()
    assert (result.code, result.error) == (
        EnvironmentProblem.exit_code,
        "pot.yaml:8:26: `gpu: embers` cannot be measured here: no embers glow. Light a fire.",
    )
    assert world.log == []
    assert (
        world.run("plan", "pot.yaml", "--json").json["problem"] == "no embers glow. Light a fire."
    )
    assert world.run("build", "pot.yaml").code == 0
    assert world.log == ["load", "export", "press"]
