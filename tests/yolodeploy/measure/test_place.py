"""Evidence says where it was measured, and only the device itself satisfies checks that demand it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from elsewhere import KILN, Elsewhere
from world import World

from yolodeploy.backend import Hardware, load_registry, not_device
from yolodeploy.errors import ChecksFailed, HostProblem, PlanRefused, Undecided
from yolodeploy.report import report_table

_ARM = frozenset({"fp", "asimd", "asimdhp", "asimddp"})
_PI5 = Hardware(
    "Linux",
    "6.12",
    "aarch64",
    "Cortex-A76",
    4,
    "Raspberry Pi 5 Model B Rev 1.0",
    ("raspberrypi,5-model-b", "brcm,bcm2712"),
    _ARM,
)
_PIXEL = Hardware("Android", "16", "aarch64", "Tensor G3", 9, "Pixel 8", ("Tensor G3",))
_XEON = Hardware(
    "Linux", "6.1", "x86_64", "Intel(R) Xeon(R) Platinum 8480+", 4, features=frozenset({"avx2"})
)


@pytest.mark.parametrize(
    ("device", "machine", "why"),
    [
        ("raspberry-pi-5", _PI5, ""),
        ("arm-linux", _PI5, ""),
        ("linux-arm64", _PI5, ""),
        ("raspberry-pi-4", _PI5, "it says that it is a Raspberry Pi 5 Model B Rev 1.0"),
        ("android", _PI5, "its system is Linux, not Android"),
        ("raspberry-pi-5", replace(_PI5, arch="armv7l"), "its processor is armv7l, not arm64"),
        (
            "raspberry-pi-5",
            replace(_PI5, features=_ARM - {"asimddp"}),
            "its processor lacks dotprod",
        ),
        ("raspberry-pi-5", replace(_PI5, features=frozenset()), ""),  # the board implies them
        (
            "linux-arm64",
            replace(_PI5, features=frozenset()),
            "it does not say whether its processor has dotprod",
        ),
        (
            "raspberry-pi-5",
            replace(_PI5, emulated=True),
            "it emulates Raspberry Pi 5 Model B Rev 1.0",
        ),
        ("pixel-8", _PIXEL, ""),
        ("pixel-9", _PIXEL, "it says that it is a Pixel 8"),
        ("galaxy-a54", replace(_PIXEL, board="SM-A546B"), ""),
        ("intel-cpu", _XEON, ""),
        ("xeon-sapphirerapids", _XEON, "its processor lacks amx, avx512, vnni"),
        ("n100", _XEON, "its processor is the Intel(R) Xeon(R) Platinum 8480+"),
        ("n100", replace(_XEON, cpu="Intel N1000"), "its processor is the Intel N1000"),
        ("iphone-16", _PI5, "its system is Linux, not iOS"),
        (
            "iphone-16",
            replace(_PI5, system="iOS"),
            "nothing is known by which a machine could be recognised as the iPhone 16",
        ),
    ],
)
def test_machines_are_compared_with_devices(device: str, machine: Hardware, why: str) -> None:
    assert not_device(load_registry().devices()[device], machine) == why


def test_every_device_that_is_not_generic_can_be_recognised_or_is_an_iphone() -> None:
    devices = load_registry().devices().values()
    unknown = {d.os for d in devices if not (d.generic or d.identity.names or d.identity.cpu)}
    assert unknown <= {"iOS", "OvenOS"}  # no host reaches a phone of Apple's


def test_demands_of_the_device_are_refused_elsewhere_before_anything_is_built(
    world: World,
) -> None:
    world.recipe(extra="checks:\n  on_device: true\n  map_drop: 0.1\n")
    result = world.deploy()
    assert result.code == 3
    assert result.error == (
        "pot.yaml:13:3: `on_device: true` must be measured on the target itself, `kiln-a` (Kiln A (2021)), and this machine is not one: its system is "
        "Linux, not KilnOS. Name a host of hosts.toml that is one, as in `yolodeploy deploy pot.yaml --on HOST`, or remove "
        "the check."
    )
    assert world.log == []
    world.recipe(extra="checks: {latency_ms: 30}\n")
    assert (
        "`latency_ms: 30` must be measured on the target itself, `kiln-a` (Kiln A (2021))"
        in world.deploy().error
    )
    with pytest.raises(
        PlanRefused, match=r"the host `shed` is not one: it says that it is a kiln-b-2"
    ):
        Elsewhere(what=replace(KILN, board="", names=("kiln-b-2",))).deploy(world)
    assert world.log == []


def test_a_host_that_is_the_target_proves_what_is_demanded_of_it(world: World) -> None:
    world.weights(seconds=0.0002)
    world.recipe(extra="checks: {on_device: true, latency_ms: 500, map_drop: 0.1}\n")
    report = Elsewhere().deploy(world).report
    place = report["conditions"]["place"]
    assert (place["host"], place["board"], place["on_device"]) == ("shed", "Kiln A mark 7", True)
    latency = next(check for check in report["checks"] if check["name"] == "latency_ms")
    low, high = latency["interval"]
    assert 0.5 < low < latency["value"] < high < 500
    assert latency["ok"]
    shown = world.run("inspect", "dist/pot")
    assert "shed (Kiln A mark 7), the target device" in " ".join(shown.out.split())
    page = (world.bundle / "report.html").read_text(encoding="utf-8")
    assert "shed (Kiln A mark 7), the target device" in page
    world.recipe(extra="checks: {latency_ms: 0.1}\n")
    with pytest.raises(ChecksFailed, match=r"latency_ms \(per image, on .*over the limit of 0.1"):
        Elsewhere().deploy(world)
    world.recipe(extra=f"checks: {{latency_ms: {latency['value']}}}\n")
    with pytest.raises(Undecided, match="latency_ms"):
        Elsewhere().deploy(world)


def test_a_runtime_that_does_not_compute_where_the_device_does_proves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAY_FAULT", "runtime:untimed")
    world.recipe(extra="checks: {on_device: true, map_drop: 0.1, size_mb: 1}\n")
    with pytest.raises(ChecksFailed) as caught:
        Elsewhere().deploy(world)
    why = "map_drop: not measured (on shed (Kiln A mark 7), not on the target device: clay did not compute on the unit"
    assert why in str(caught.value)
    assert "size_mb" not in str(caught.value)


def test_a_host_that_lies_about_its_device_is_refused(world: World) -> None:
    with pytest.raises(HostProblem) as caught:
        Elsewhere(claims="kiln-b").deploy(world)
    assert str(caught.value) == (
        "host `shed`: hosts.toml says `device: kiln-b` (Kiln B (2024)), but it says that it is a Kiln A mark 7. Correct "
        "`device` there, or remove it: machines are compared with the target anyway."
    )
    with pytest.raises(HostProblem, match=r"`device: kiln-z`, and no installed plugin has such"):
        Elsewhere(claims="kiln-z").deploy(world)
    assert world.log == []
    assert Elsewhere(claims="kiln-a").deploy(world).report["conditions"]["place"]["on_device"]


def test_this_machine_says_so_and_why_it_is_not_the_target(world: World) -> None:
    text = " ".join(world.good().out.split())
    assert "measured on this machine (" in text
    assert "not on the target device: its system is Linux, not KilnOS" in text


def test_a_host_on_which_nothing_is_timed_says_so_everywhere(world: World) -> None:
    why = "shed emulates its processor, so its speed is no device's"
    world.recipe(extra="checks: {map_drop: 0.1}\n")
    emulated = Elsewhere(untimed=why, what=replace(KILN, emulated=True))
    report = emulated.deploy(world).report
    silent = {
        each["key"]: each["reason"] for each in report["measures"] if each["artifact"] is None
    }
    costs = {"latency_ms", "latency_p90_ms", "peak_memory_mb", "latency_ratio", "speedup"}
    assert {key for key, reason in silent.items() if reason == why} >= costs
    assert report["evidence"]["latency_ms"] == {"median": None, "p90": None}
    assert (report["conditions"]["runs"], report["conditions"]["place"]["on_device"]) == (0, False)
    assert f"not measured: {why}" in " ".join(report_table(report).split())
    page = (world.bundle / "report.html").read_text(encoding="utf-8")
    assert f"not measured: {why.replace(chr(39), '&#39;')}" in page
    world.recipe(extra="checks: {latency_ratio: 2}\n")
    with pytest.raises(ChecksFailed, match=f"latency_ratio: not measured \\({why}"):
        emulated.deploy(world)
