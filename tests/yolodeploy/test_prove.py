"""`measure`: evidence for an artifact that was built, from elsewhere, kept in its bundle."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import Any

import pytest
from elsewhere import KILN, Elsewhere
from forging import mend
from world import World

from yolodeploy.backend import Artifact, Backend, Predictor, Target
from yolodeploy.deployment import deploy
from yolodeploy.errors import (
    ChecksFailed,
    EnvironmentProblem,
    LockMismatch,
    PlanRefused,
    StoreProblem,
    VerificationFailed,
)
from yolodeploy.prove import Proved, prove_bundle, prove_recipe
from yolodeploy.store import Store
from yolodeploy.system import Console


def _prove(world: World, host: Elsewhere | None = None, signer: Any = None) -> Proved:
    request = replace((host or Elsewhere()).request(world), signer=signer)
    return prove_recipe(request, Store(world.cache, print), Console(-1))


def _alone(world: World, host: Elsewhere) -> Proved:
    return prove_bundle(world.bundle, host, None, Store(world.cache, print), Console(-1))


def _files(world: World) -> dict[str, bytes]:
    return {
        path.relative_to(world.bundle).as_posix(): path.read_bytes()
        for path in world.bundle.rglob("*")
        if path.is_file()
    }


def test_evidence_from_elsewhere_is_added_and_nothing_that_ships_changes(deployed: World) -> None:
    before, log, lock = _files(deployed), deployed.log, deployed.lock.read_bytes()
    proved = _prove(deployed)
    assert str(proved.file) == "dist/pot/evidence/shed.json"
    after = _files(deployed)
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert changed == {"evidence/shed.json", "report.html", "provenance.json", "manifest.json"}
    assert json.loads(before["manifest.json"])["id"] == json.loads(after["manifest.json"])["id"]
    assert deployed.lock.read_bytes() == lock
    assert deployed.log == log  # no step ran
    kept = json.loads(after["evidence/shed.json"])
    report = json.loads(after["report.json"])
    assert kept["artifact"] == report["artifact"]["digest"]
    assert kept["place"]["on_device"]
    scores = {m["key"]: m["artifact"] for m in kept["measures"] if not m["group"]}
    assert scores["map50_95"] == report["evidence"]["map50_95"]["artifact"]
    assert scores["latency_ratio"] is not None
    page = after["report.html"].decode()
    assert "On shed (Kiln A mark 7), the target device" in page
    verified = deployed.run("verify", "dist/pot", "--lock", "pot.lock")
    assert verified.code == 0
    assert "evidence from shed (Kiln A mark 7), the target device" in verified.out
    assert max(map(len, verified.out.splitlines())) <= 80
    said = deployed.run("inspect", "dist/pot", "--json").json["bundle"]["sets"]
    assert [(each["place"]["host"], each["accuracy"]) for each in said] == [
        ("shed", scores["map50_95"])
    ]


def test_the_command_measures_here_and_a_second_time_replaces_the_first(deployed: World) -> None:
    result = deployed.run("measure", "pot.yaml")
    assert result.code == 0, result.err
    assert "evidence: dist/pot/evidence/this-machine.json" in result.out
    assert "not on the target device: its system is Linux, not KilnOS" in " ".join(
        result.out.split()
    )
    before = _files(deployed)
    assert deployed.run("measure", "pot.yaml", "--json").json["file"].endswith("this-machine.json")
    assert _files(deployed) == before


def test_deploy_keeps_sets_of_the_same_artifact_and_drops_those_of_another(
    deployed: World,
) -> None:
    _prove(deployed)
    before = _files(deployed)
    deployed.good()
    assert _files(deployed) == before
    deployed.recipe(extra="checks: {map_drop: 0.5}\n")  # another report of the same artifact
    result = deployed.good()
    assert "dropped" not in result.err
    assert _files(deployed)["evidence/shed.json"] == before["evidence/shed.json"]
    assert "Kiln A mark 7" in _files(deployed)["report.html"].decode()
    assert deployed.run("verify", "dist/pot").code == 0
    deployed.recipe(("fp16", "fp32"))
    result = deployed.good()
    assert "evidence from elsewhere is dropped: it is of another artifact." in result.err
    assert "evidence/shed.json" not in _files(deployed)


def test_a_bundle_alone_gives_golden_vectors_latency_and_memory(deployed: World) -> None:
    shutil.rmtree(deployed.cache)
    proved = _alone(deployed, Elsewhere())
    figures = {m["key"]: m["artifact"] for m in proved.value["measures"] if not m["group"]}
    assert figures["golden_diff"] == 0.0
    assert figures["golden_found"] == 1.0
    assert figures["latency_ms"] > 0
    assert figures["peak_memory_mb"] > 0
    assert "the recipe and its images" in proved.value["missing"][0]
    assert deployed.run("verify", "dist/pot").code == 0
    result = deployed.run("measure", "dist/pot")
    assert result.code == 0, result.err
    text = " ".join(result.out.split())
    assert "golden image the same, of 3 findings by class" in text
    assert "golden output max difference 0 (boxes max 0 px, scores max 0)" in text
    assert "not measured accuracy and the checks" in text
    names = sorted(path.name for path in (deployed.bundle / "evidence").iterdir())
    assert names == ["shed.golden.json", "this-machine.golden.json"]


def test_other_findings_elsewhere_are_said(deployed: World) -> None:

    class Dim(Elsewhere):
        def open(
            self, backend: Backend, artifact: Artifact, target: Target, threads: int
        ) -> Predictor:
            brick = artifact.path / "brick.json"
            text = json.loads(brick.read_text())
            brick.write_text(json.dumps({**text, "damage": {"miss": ["red"], "shift": 0.5}}))
            return super().open(backend, artifact, target, threads)

    measures = _alone(deployed, Dim()).value["measures"]
    figures = {(m["key"], m["group"]): m["artifact"] for m in measures}
    assert figures["golden_found", ""] == 0.8  # 2 of 3 are found again
    assert figures["golden_diff", "scores"] == 0.875


def test_checks_that_fail_there_are_an_error_and_kept(deployed: World) -> None:
    deployed.recipe(extra="checks: {latency_ms: 0.00001}\n")
    deployed.run("deploy", "pot.yaml")
    with pytest.raises(PlanRefused, match="`latency_ms: 1e-05` must be measured on"):
        _prove(deployed, Elsewhere(what=replace(KILN, system="Linux")))
    with pytest.raises(
        ChecksFailed, match=r"dist/pot keeps the evidence, and ships as before.\n  lat"
    ):
        _prove(deployed)
    kept = json.loads((deployed.bundle / "evidence/shed.json").read_text())
    assert [check["verdict"] for check in kept["checks"]] == ["FAILED"]
    assert "missed checks: latency_ms" in " ".join(deployed.run("inspect", "dist/pot").out.split())


def test_a_missing_artifact_is_refused_or_taken_from_the_bundle_that_the_lock_proves(
    deployed: World,
) -> None:
    log = deployed.log
    shutil.rmtree(deployed.cache)
    value = _prove(deployed).value
    assert deployed.log == [*log, "load"]  # only the weights, to measure the source model
    reasons = {m["key"]: m["reason"] for m in value["measures"]}
    assert (
        reasons["latency_ratio"] == "the fp32 export that it is compared with is not in the store"
    )
    shutil.rmtree(deployed.cache)
    deployed.lock.unlink()
    with pytest.raises(StoreProblem, match=r"no lock proves .* Run: yolodeploy deploy pot.yaml"):
        _prove(deployed)
    shutil.rmtree(deployed.bundle)
    with pytest.raises(
        StoreProblem, match=r"neither in the store nor in dist/pot, and `measure` b"
    ):
        _prove(deployed)


def test_a_bundle_of_other_steps_or_another_lock_is_refused(deployed: World) -> None:
    text = deployed.lock.read_text()
    digest = json.loads(text)["bundle"]["labels.txt"]
    deployed.lock.write_text(text.replace(digest, "0" * 64))
    with pytest.raises(LockMismatch, match=r"dist/pot: differs from pot.lock:\n  lock: bundle"):
        _prove(deployed)
    deployed.recipe(("strength: 0.25", "strength: 0.5"))
    with pytest.raises(LockMismatch, match=r"dist/pot: is not what pot.yaml asks for now"):
        _prove(deployed)
    (deployed.bundle / "labels.txt").write_text("pink\n")
    with pytest.raises(VerificationFailed, match=r"labels.txt was changed"):
        _prove(deployed)


def test_a_signed_bundle_needs_the_key_again(world: World) -> None:
    from securesystemslib.signer import CryptoSigner

    from yolodeploy.bundle import inspect_bundle

    signer = CryptoSigner.generate_ed25519()
    request = replace(Elsewhere().request(world), signer=signer)
    deploy(request, Store(world.cache, print), Console(-1))
    with pytest.raises(EnvironmentProblem, match="is signed, and evidence that is added changes"):
        _prove(world)
    _prove(world, signer=signer)
    found = inspect_bundle(world.bundle, signer.public_key)
    assert (found.problems, [each.place.host for each in found.sets]) == ([], ["shed"])


@pytest.fixture
def proven(deployed: World) -> World:
    """A world whose bundle has a set of evidence."""
    _prove(deployed)
    return deployed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"artifact": "0" * 64}, "is of another artifact: 000000000000"),
        ({"device": "kiln-b"}, "is for another device: kiln-b"),
        ({"measures": [{"key": "map50_95"}]}, "is not a set of evidence: measures.0.source"),
        ({"conditions": {"runs": float("nan")}}, "it has a number that is not finite"),
        ({"conditions": {"runs": float("inf")}}, "it has a number that is not finite"),
        ({"extra": 1}, "is not a set of evidence: extra: Extra inputs are not permitted"),
        ({"missing": ["x" * 3000]}, "missing.0: String should have at most 2000 characters"),
        ({"place": {"host": "barn"}}, "place.host: the file has the name of another host"),
        ({"place": {"reason": "no"}}, "it must either be the target device or say why it is not"),
        ({"place": {"cpu": "x" * 9999}}, "place: a text of it has more than 2000 characters"),
        ({"place": {"processors": "2"}}, "place.processors: Input should be a valid integer"),
    ],
)
def test_sets_are_checked(proven: World, change: dict[str, Any], said: str) -> None:
    file = proven.bundle / "evidence/shed.json"
    value = json.loads(file.read_text())
    for key, new in change.items():
        value[key] = {**value[key], **new} if key == "place" else new
    file.write_text(json.dumps(value))
    mend(proven.bundle, statement=True)
    result = proven.run("verify", "dist/pot")
    assert result.code == 10
    assert said in result.error


def test_a_bundle_has_a_bounded_number_of_sets(
    proven: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolodeploy.bundle.adding.MAX_SETS", 1)
    before = _files(proven)
    _prove(proven)  # replaces its own
    with pytest.raises(EnvironmentProblem, match="has evidence from 1 places already"):
        _prove(proven, Elsewhere(name="barn"))
    assert _files(proven) == before


def test_only_plain_names_are_sets(proven: World) -> None:
    (proven.bundle / "evidence/Shed 2.json").write_text("{}")
    mend(proven.bundle, statement=True)
    assert (
        "evidence/Shed 2.json is not a file of a bundle" in proven.run("verify", "dist/pot").error
    )


def test_a_bundle_for_a_gpu_alone_runs_on_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KILN_GPU", "1.0")
    world.recipe(("target: kiln-a", "target: {device: kiln-b, gpu: embers}"))
    world.good()
    used = []

    class Noting(Elsewhere):
        def open(
            self, backend: Backend, artifact: Artifact, target: Target, threads: int
        ) -> Predictor:
            used.append(target.gpu)
            return super().open(backend, artifact, target, threads)

    assert _alone(world, Noting()).value["measures"]
    assert used == ["embers"]
    monkeypatch.delenv("KILN_GPU")
    result = world.run("measure", "dist/pot")
    assert (result.code, result.error) == (
        EnvironmentProblem.exit_code,
        "dist/pot: `gpu: embers` cannot be measured here: no embers glow. Light a fire.",
    )


def test_a_host_on_which_nothing_is_timed_says_so(deployed: World) -> None:
    from yolodeploy.report import report_table, set_table

    slow = Elsewhere(untimed="shed emulates its processor", what=replace(KILN, emulated=True))
    alone, whole = _alone(deployed, slow), _prove(deployed, slow)
    assert whole.report is not None
    for value in (alone.value, whole.value):
        latency = next(m for m in value["measures"] if m["key"] == "latency_ms")
        assert (latency["artifact"], latency["reason"]) == (None, "shed emulates its processor")
        assert value["place"]["reason"] == "it emulates Kiln A mark 7"
    noted = {**alone.value["conditions"]["runtime"], "note": "not tried in rain"}
    told = {**alone.value, "conditions": {**alone.value["conditions"], "runtime": noted}}
    assert "not tried in rain" in set_table(told)
    for table in (set_table(alone.value), report_table(whole.report)):
        assert "not measured: shed emulates its processor" in " ".join(table.split())
    assert deployed.run("verify", "dist/pot").code == 0
    shown = " ".join(deployed.run("inspect", "dist/pot").out.split())
    assert "it emulates Kiln A mark 7 (golden vectors only)" in shown
