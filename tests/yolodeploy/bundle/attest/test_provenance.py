"""Provenance, bill of materials and signatures: against the published schemas, and against forgers."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from forging import edit, mend
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from world import World

import yolodeploy
from yolodeploy.bundle.attest.components import find_tool
from yolodeploy.bundle.attest.model_card import model_card
from yolodeploy.bundle.attest.signing import read_public, require_signature
from yolodeploy.bundle.integrity import inspect_bundle

UNSIGNED = {"manifest.json", "provenance.json"}


def _json(world: World, name: str) -> Any:
    return json.loads((world.bundle / name).read_text())


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def _key(folder: Path, name: str = "key") -> tuple[str, str]:
    """Paths of a new private and public key, made with OpenSSL as the documentation says."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed; it makes the keys of this test")
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    _openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    private.chmod(0o600)
    _openssl("pkey", "-in", private, "-pubout", "-out", public)
    return str(private), str(public)


def _required(raw: dict[str, Any]) -> list[str]:
    """What SLSA v1 and in-toto require and a statement lacks; proto3, which they publish, requires nothing."""
    predicate = raw["predicate"]
    definition, run = predicate.get("buildDefinition", {}), predicate.get("runDetails", {})
    needed = {
        "subject": raw["subject"] and all(item.get("digest") for item in raw["subject"]),
        "buildType": definition.get("buildType"),
        "externalParameters": definition.get("externalParameters"),
        "builder.id": run.get("builder", {}).get("id"),
    }
    described = [*definition.get("resolvedDependencies", []), *run.get("byproducts", [])]
    for item in described:  # ResourceDescriptor: at least one of the three must be set
        needed[item.get("name")] = any(item.get(key) for key in ("uri", "digest", "content"))
    return [name for name, given in needed.items() if not given]


def _lacking(raw: dict[str, Any], *path: str | int) -> dict[str, Any]:
    changed = json.loads(json.dumps(raw))
    place = changed
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return changed


def test_the_statement_fits_the_published_protocol(deployed: World) -> None:
    """in-toto publishes its schemas as protocol buffers; an unknown field or a wrong type is an error."""
    raw = _json(deployed, "provenance.json")
    parsed = json_format.ParseDict(raw, statement_pb2.Statement())
    Statement.copy_from_pb(parsed).validate()
    predicate = provenance_pb2.Provenance()
    json_format.ParseDict(raw["predicate"], predicate)
    assert predicate.run_details.metadata.finished_on.seconds > 1_700_000_000
    with pytest.raises(json_format.ParseError):
        json_format.ParseDict({**raw["predicate"], "odd": 1}, predicate)
    assert _required(raw) == []


def test_what_the_protocol_requires_is_asked_for(deployed: World) -> None:
    raw = _json(deployed, "provenance.json")
    tool_ = raw["predicate"]["buildDefinition"]["resolvedDependencies"][-1]
    definition, run = ("predicate", "buildDefinition"), ("predicate", "runDetails")
    for path, name in (
        ((*definition, "buildType"), "buildType"),
        ((*definition, "externalParameters"), "externalParameters"),
        (definition, "buildType"),
        ((*run, "builder", "id"), "builder.id"),
        ((*run, "byproducts", 0, "digest"), "steps/0-load"),
        (("subject", 0, "digest"), "subject"),
        ((*definition, "resolvedDependencies", 0, "digest"), "weights"),
        ((*definition, "resolvedDependencies", -1, "uri"), tool_["name"]),
    ):
        assert name in _required(_lacking(raw, *path)), path


def test_a_bundle_tells_nothing_of_the_disk_the_user_and_the_host(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(name, "otto-the-potter")
    for name in ("socket.gethostname", "platform.node"):
        monkeypatch.setattr(name, lambda: "pottery-17")
    teacher = world.write("teachers/best.clay", (world.root / "model.clay").read_bytes())
    digest = hashlib.sha256(teacher.read_bytes()).hexdigest()
    step = f"  - teach: {{like: {{file: teachers/best.clay, sha256: {digest}}}}}\n  - export"
    world.recipe(
        ("  calibration:", "  training: {split: train, images: 3}\n  calibration:"),
        ("  - export", step),
    )
    world.good()
    id_ = _json(world, "manifest.json")["id"]
    for file in filter(Path.is_file, world.bundle.rglob("*")):
        for word in (
            str(tmp_path),
            tmp_path.name,
            "otto-the-potter",
            "pottery-17",
            "best.clay",
        ):
            assert word.encode() not in file.read_bytes(), (file.name, word)
    assert digest in json.dumps(_json(world, "plan.json")["recipe"])
    moved = tmp_path / "moved"
    world.root.rename(moved)
    monkeypatch.chdir(moved)
    assert world.deploy("-q").code == 0
    assert json.loads((moved / "dist/pot/manifest.json").read_text())["id"] == id_


def test_the_statement_tells_files_recipe_and_what_went_in(deployed: World) -> None:
    raw, manifest = _json(deployed, "provenance.json"), _json(deployed, "manifest.json")
    subjects = {item["name"]: item["digest"]["sha256"] for item in raw["subject"]}
    assert subjects == {n: d for n, d in manifest["files"].items() if n not in UNSIGNED}
    definition, run = raw["predicate"]["buildDefinition"], raw["predicate"]["runDetails"]
    plan = _json(deployed, "plan.json")
    assert definition["externalParameters"]["recipe"] == plan["recipe"]
    given = {item["name"]: item for item in definition["resolvedDependencies"]}
    assert given["weights"]["digest"]["sha256"] == plan["weights"]
    for view in ("evaluation", "calibration"):
        assert given[f"data/{view}"]["digest"]["sha256"] == plan["data"][view]
    assert given["clay"]["uri"] == "pkg:pypi/clay@1.0"
    assert run["metadata"]["invocationId"] == manifest["id"]
    assert run["builder"]["version"] == {"yolodeploy-bundle-writer": yolodeploy.__version__}
    locked = [step["output"] for step in json.loads(deployed.lock.read_text())["steps"]]
    assert [item["digest"]["sha256"] for item in run["byproducts"]] == locked


def test_the_bill_fits_the_published_schema_and_has_a_model_card(deployed: World) -> None:
    text = (deployed.bundle / "bom.cdx.json").read_text()
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"modelCard"', '"modlCard"')) is not None
    raw, report = json.loads(text), _json(deployed, "report.json")
    model = raw["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    metrics = {
        (m["type"], m["slice"].split(",")[0]): m["value"]
        for m in model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    }
    for name in ("artifact", "source"):
        value = report["evidence"]["map50_95"][name]
        assert float(metrics["mAP50-95", f"{name} model"]) == value
    files = {c["name"]: c["hashes"][0]["content"] for c in model["components"]}
    manifest = _json(deployed, "manifest.json")["files"]
    assert files == {name: manifest[name] for name in ("brick.json", "weights.bin")}
    rows = [c for find_tool in raw["components"] for c in find_tool.get("components", [])]
    assert {c["name"] for c in rows} <= {"RECORD, rows of the wheel"}
    kinds = {(c["type"], c["name"]) for c in raw["components"]}
    assert {("data", "data/evaluation"), ("machine-learning-model", "weights")} <= kinds


def test_the_card_names_measures_of_classes_as_the_task_does(deployed: World) -> None:
    plan, report = _json(deployed, "plan.json"), _json(deployed, "report.json")
    for key, of_a_class in (("mask_map50_95", "mask AP50-95"), ("top1", "top-1")):
        renamed = {"map50_95": key, "map50": "top5", "size_ap50_95": "fidelity"}
        measures = [{**m, "key": renamed.get(m["key"], m["key"])} for m in report["measures"]]
        changed = {**report, "scores": [key, "top5"], "measures": measures}
        card = model_card(plan, changed, "classify")
        metrics = card["quantitativeAnalysis"]["performanceMetrics"]
        assert {m["type"] for m in metrics if "class " in m["slice"]} == {of_a_class}


def test_attestation_documents_are_the_same_when_written_again(deployed: World) -> None:
    before = {n: (deployed.bundle / n).read_bytes() for n in ("bom.cdx.json", "plan.json")}
    provenance = _json(deployed, "provenance.json")
    shutil.rmtree(deployed.bundle)
    deployed.good()
    assert {n: (deployed.bundle / n).read_bytes() for n in before} == before
    after = _json(deployed, "provenance.json")
    assert after["predicate"] == provenance["predicate"]
    changed = [
        a["name"] for a, b in zip(after["subject"], provenance["subject"], strict=True) if a != b
    ]
    assert set(changed) <= {"report.json", "report.html"}  # say what was cached


def test_tools_have_package_urls_and_a_digest_that_no_folder_changes(tmp_path: Path) -> None:
    import importlib.metadata

    version = importlib.metadata.version("rich")
    found = find_tool("rich", version)
    assert found.purl == f"pkg:pypi/rich@{version}"
    assert found.record
    assert len(found.record) == 64
    assert find_tool("rich", "0.0").record is None
    home = importlib.metadata.distribution("rich")
    elsewhere = tmp_path / "made-1.dist-info"
    elsewhere.mkdir()
    (elsewhere / "METADATA").write_text("Name: made\nVersion: 1\n")
    rows = [r for r in (home.read_text("RECORD") or "").splitlines() if "METADATA" not in r]
    digests = []
    for more in (
        [],
        ["../../bin/x,sha256=abc,9", "made-1.dist-info/INSTALLER,sha256=d,4", "x.pyc,,"],
    ):
        (elsewhere / "RECORD").write_text("\n".join([*reversed(rows), *more]))
        sys.path.insert(0, str(tmp_path))
        try:
            digests.append(find_tool("made", "1").record)
        finally:
            sys.path.remove(str(tmp_path))
    assert digests[0] == digests[1]
    (elsewhere / "direct_url.json").write_text('{"dir_info": {"editable": true}}')
    sys.path.insert(0, str(tmp_path))
    try:
        assert find_tool("made", "1").record is None
    finally:
        sys.path.remove(str(tmp_path))


def test_signed_and_verified(deployed: World, tmp_path: Path) -> None:
    private, public = _key(tmp_path)
    assert deployed.good("--key", private).err.count("warning") == 0
    assert deployed.log == []  # nothing was built or measured again
    assert deployed.run("verify", "dist/pot", "--lock", "pot.lock", "--key", public).code == 0
    assert deployed.run("verify", "dist/pot").code == 0
    raw = _json(deployed, "provenance.dsse.json")
    assert raw["payloadType"] == "application/vnd.in-toto+json"
    assert base64.b64decode(raw["payload"]) == (deployed.bundle / "provenance.json").read_bytes()
    before = deployed.state()
    deployed.good("--key", private)
    deployed.good()  # without the key: the signature stays
    assert deployed.state() == before


def test_openssl_agrees_with_the_signature(deployed: World, tmp_path: Path) -> None:
    """An implementation of its own of both, the encoding before signing and Ed25519."""
    private, public = _key(tmp_path)
    deployed.good("--key", private)
    raw = _json(deployed, "provenance.dsse.json")
    payload, kind = base64.b64decode(raw["payload"]), raw["payloadType"].encode()
    text, signature = tmp_path / "text", tmp_path / "signature"
    text.write_bytes(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload))
    signature.write_bytes(base64.b64decode(raw["signatures"][0]["sig"]))
    _openssl(
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        public,
        "-rawin",
        "-in",
        text,
        "-sigfile",
        signature,
    )


def test_an_unsigned_bundle_and_another_key_are_refused(deployed: World, tmp_path: Path) -> None:
    private, public = _key(tmp_path)
    result = deployed.run("verify", "dist/pot", "--key", public)
    assert result.code == 10
    assert "provenance.dsse.json is missing: the bundle is not signed" in result.error
    deployed.good("--key", private)
    result = deployed.run("verify", "dist/pot", "--key", _key(tmp_path, "other")[1])
    assert result.code == 10
    assert "it is signed with another key (" in result.error


def _resign(bundle: Path) -> None:
    text = (bundle / "provenance.json").read_bytes()
    payload = base64.b64encode(text).decode()
    edit(bundle, "provenance.dsse.json", lambda raw: raw.update(payload=payload))


FORGERIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed file": (
        lambda b: ((b / "labels.txt").write_text("x"), mend(b, statement=False)),
        "provenance.json does not match labels.txt",
    ),
    "extra file": (
        lambda b: ((b / "x").write_text("x"), mend(b, statement=False)),
        "provenance.json does not match x",
    ),
    "missing file": (
        lambda b: ((b / "report.html").unlink(), mend(b, statement=False)),
        "provenance.json does not match report.html",
    ),
    "changed statement": (
        lambda b: ((b / "labels.txt").write_text("x"), mend(b, statement=True)),
        "provenance.dsse.json signs another text than provenance.json",
    ),
    "changed payload": (
        lambda b: (
            (b / "labels.txt").write_text("x"), mend(b, statement=True), _resign(b), mend(b, statement=False),
        ),
        "provenance.dsse.json is not valid: the signature does not match its content",
    ),
    "no statement": (
        lambda b: ((b / "provenance.json").unlink(), mend(b, statement=False)),
        "provenance.json cannot be read: No such file or directory",
    ),
    "another build": (
        lambda b: (
            edit(b, "provenance.json", lambda r: r["predicate"]["runDetails"]["metadata"].update(invocationId="0")),
            mend(b, statement=False),
        ),
        "provenance.json describes another build than manifest.json",
    ),
    "another payload type": (
        lambda b: (edit(b, "provenance.dsse.json", lambda r: r.update(payloadType="x")), mend(b, statement=False)),
        "provenance.dsse.json is not valid: its payloadType is not application/vnd.in-toto+json",
    ),
    "no signature in it": (
        lambda b: (edit(b, "provenance.dsse.json", lambda r: r.update(signatures=[])), mend(b, statement=False)),
        "it is signed with another key (none)",
    ),
    "odd signatures": (
        lambda b: (edit(b, "provenance.dsse.json", lambda r: r.update(signatures=[3])), mend(b, statement=False)),
        "it has no list of signatures",
    ),
    "another signature beside it": (
        lambda b: (
            edit(b, "provenance.dsse.json", lambda r: r["signatures"].append({"keyid": "x", "sig": ""})),
            mend(b, statement=False),
        ),
        "provenance.dsse.json is not valid: it has 2 signatures, not one",
    ),
    "another key beside it": (
        lambda b: (edit(b, "provenance.dsse.json", lambda r: r.update(odd=1)), mend(b, statement=False)),
        "provenance.dsse.json has the right content, but is not written as yolodeploy writes it",
    ),
    "another space": (
        lambda b: (
            (b / "provenance.dsse.json").write_text((b / "provenance.dsse.json").read_text() + " "),
            mend(b, statement=False),
        ),
        "provenance.dsse.json has the right content, but is not written as yolodeploy writes it",
    ),
    "no base64": (
        lambda b: (edit(b, "provenance.dsse.json", lambda r: r["signatures"][0].update(sig="%")), mend(b, statement=False)),
        "provenance.dsse.json is not valid: ",
    ),
    "signature gone": (
        lambda b: ((b / "provenance.dsse.json").unlink(), mend(b, statement=False)),
        "the bundle is not signed",
    ),
}  # fmt: skip


def test_every_forgery_of_a_signed_bundle_is_refused(deployed: World, tmp_path: Path) -> None:
    private, public = _key(tmp_path)
    deployed.good("--key", private)
    kept = tmp_path / "kept"
    shutil.copytree(deployed.bundle, kept)
    for name, (forge, message) in FORGERIES.items():
        shutil.rmtree(deployed.bundle)
        shutil.copytree(kept, deployed.bundle)
        forge(deployed.bundle)
        result = deployed.run("verify", "dist/pot", "--key", public)
        assert result.code == 10, name
        assert message in result.error, name


def test_every_bit_of_a_signature_counts(deployed: World, tmp_path: Path) -> None:
    private, public = _key(tmp_path)
    deployed.good("--key", private)
    raw, key = _json(deployed, "provenance.dsse.json"), read_public(Path(public))
    require_signature(raw, key)
    signature = base64.b64decode(raw["signatures"][0]["sig"])
    for place in range(len(signature) * 8):
        changed = bytearray(signature)
        changed[place // 8] ^= 1 << place % 8
        sig = base64.b64encode(changed).decode()
        with pytest.raises(ValueError, match="does not match its content"):
            require_signature({**raw, "signatures": [{**raw["signatures"][0], "sig": sig}]}, key)


@pytest.mark.parametrize("name", ["manifest.json", "provenance.dsse.json", "provenance.json"])
def test_no_byte_of_a_signed_document_is_free(deployed: World, tmp_path: Path, name: str) -> None:
    """Changed, removed, or with a space before it: at every 29th place."""
    private, public = _key(tmp_path)
    deployed.good("--key", private)
    file, key = deployed.bundle / name, read_public(Path(public))
    assert not inspect_bundle(deployed.bundle, key).problems
    good = file.read_bytes()
    for at in range(0, len(good), 29):
        for put in (bytes([good[at] ^ 1]), b"", b" " + good[at : at + 1]):
            file.write_bytes(good[:at] + put + good[at + 1 :])
            if name != "manifest.json":
                mend(deployed.bundle, statement=False)
            assert inspect_bundle(deployed.bundle, key).problems, (at, put)


def test_what_is_signed_comes_from_the_store(deployed: World, tmp_path: Path) -> None:
    """A bundle that was forged with a fitting manifest does not get a signature by deploying again."""
    private, public = _key(tmp_path)
    weights = (deployed.bundle / "weights.bin").read_bytes()
    (deployed.bundle / "weights.bin").write_bytes(b"forged")
    mend(deployed.bundle, statement=True)
    mend(deployed.bundle, statement=False)
    deployed.good("--key", private)
    assert (deployed.bundle / "weights.bin").read_bytes() == weights
    assert deployed.run("verify", "dist/pot", "--key", public).code == 0


@pytest.mark.parametrize("signed", [False, True])
def test_deploy_mends_whatever_verify_refuses(
    deployed: World, tmp_path: Path, signed: bool
) -> None:
    key, bundle = ["--key", _key(tmp_path)[0]] if signed else [], deployed.bundle

    def link() -> None:
        (bundle / "labels.txt").rename(tmp_path / "labels")
        (bundle / "labels.txt").symlink_to(tmp_path / "labels")

    deployed.good(*key)
    for harm in (
        link,
        lambda: os.mkfifo(bundle / "pipe"),
        (bundle / "hollow").mkdir,
        lambda: (bundle / "gone").symlink_to("nowhere"),
        lambda: (bundle / "manifest.json").write_text((bundle / "manifest.json").read_text() + " "),
    ):
        harm()
        assert deployed.run("verify", "dist/pot").code == 10
        deployed.good(*key)
        assert deployed.run("verify", "dist/pot").code == 0


def test_an_artifact_with_an_empty_folder(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.recipe(("  - press: {strength: 0.25}\n", ""))
    monkeypatch.setenv("CLAY_FAULT", "export:hollow")
    world.good()
    assert world.run("verify", "dist/pot", "--lock", "pot.lock").code == 0


def test_a_signature_is_not_lost_silently(deployed: World, tmp_path: Path) -> None:
    private, public = _key(tmp_path)
    deployed.good("--key", private)
    deployed.recipe(("0.25", "0.5"))
    before = {p: p.read_bytes() for p in deployed.bundle.rglob("*") if p.is_file()}
    result = deployed.deploy()
    assert result.code == 4
    assert result.error == (
        "dist/pot: is signed, but the new bundle is not. Sign that with --key, or move the "
        "signed bundle away."
    )
    assert {p: p.read_bytes() for p in deployed.bundle.rglob("*") if p.is_file()} == before
    assert not deployed.leftovers()
    other, other_public = _key(tmp_path, "other")
    said = deployed.good("--key", other).err
    assert "warning: dist/pot was signed with the key " in said
    assert deployed.run("verify", "dist/pot", "--key", other_public).code == 0
    assert deployed.run("verify", "dist/pot", "--key", public).code == 10


def test_keys_that_cannot_sign(world: World, tmp_path: Path) -> None:
    private, public = _key(tmp_path)
    rsa = tmp_path / "rsa.pem"
    _openssl("genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", rsa)
    (tmp_path / "text").write_text("hello")
    for file, message in (
        (public, "this is a public key. Sign with its private key; `verify` takes the public one"),
        (str(rsa), "is of the type ECPrivateKey, not an Ed25519 key. Create one with: openssl"),
        (str(tmp_path / "text"), "cannot be read as a private key in PEM form"),
        (str(tmp_path / "none"), "cannot be read: No such file or directory"),
        (str(tmp_path), "cannot be read: Is a directory"),
    ):
        result = world.deploy("--key", file)
        assert (result.code, message in result.error) == (2, True), result.err
    assert world.log == []  # a wrong key costs no build
    for file, message in (
        (
            private,
            "this is a private key, but `verify` takes the public one: openssl",
        ),
        (str(tmp_path / "text"), "cannot be read as a public key in PEM form"),
    ):
        result = world.run("verify", "dist/pot", "--key", file)
        assert (result.code, message in result.error) == (2, True), result.err


def test_a_key_with_a_passphrase(
    deployed: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = _key(tmp_path)
    locked = tmp_path / "locked.pem"
    _openssl("pkey", "-in", private, "-aes256", "-passout", "pass:clay", "-out", locked)
    locked.chmod(0o600)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    result = deployed.deploy("--key", str(locked))
    assert (result.code, "has a passphrase. Set YOLODEPLOY_KEY_PASSPHRASE" in result.error) == (
        2,
        True,
    )
    monkeypatch.setenv("YOLODEPLOY_KEY_PASSPHRASE", "mud")
    assert "the passphrase is wrong" in deployed.deploy("--key", str(locked)).error
    monkeypatch.setenv("YOLODEPLOY_KEY_PASSPHRASE", "clay")
    deployed.good("--key", str(locked))
    assert deployed.run("verify", "dist/pot", "--key", public).code == 0
    for file in deployed.bundle.rglob("*.json"):
        assert "PRIVATE KEY" not in file.read_text()


@pytest.mark.apart
def test_no_process_of_ours_is_told_the_passphrase(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the one that measures nor the one that listens."""
    monkeypatch.setenv("YOLODEPLOY_KEY_PASSPHRASE", "mud")
    monkeypatch.setenv("CLAY_FAULT", "open-worker:tell")
    world.good()
    told = (world.root / "told").read_text()
    assert "PATH=" in told
    assert "YOLODEPLOY_KEY_PASSPHRASE" not in told


def test_a_private_key_that_others_can_read_is_warned_of(deployed: World, tmp_path: Path) -> None:
    private, _ = _key(tmp_path)
    Path(private).chmod(0o644)
    assert (
        "other users can read this private key. Run: chmod 600"
        in deployed.good("--key", private).err
    )


def test_without_the_library_the_message_names_the_extra(deployed: World, tmp_path: Path) -> None:
    private, _ = _key(tmp_path)
    code = (
        "import sys; sys.modules['securesystemslib'] = None; from yolodeploy.cli import main as cli; "
        "sys.exit(cli.main(['deploy', 'pot.yaml', '--key', sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, private], capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert "which is not installed. Run: pip install 'yolodeploy[sign]'" in done.stderr
