"""`verify`: every way in which a bundle can differ from what was deployed is named."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from forging import edit, mend
from world import World

from yolodeploy.backend.bundle_files import RESERVED
from yolodeploy.bundle.manifest import is_known
from yolodeploy.tasks import golden_file

ROOT = Path(__file__).resolve().parents[3]
CODE = 10


@pytest.fixture
def bundle(world: World) -> Path:
    world.good()
    return world.bundle


def _manifest(bundle: Path, change: Callable[[dict], None]) -> None:
    file = bundle / "manifest.json"
    raw = json.loads(file.read_text())
    change(raw)
    file.write_text(json.dumps(raw))


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_bundle_as_it_was_deployed_is_ok_with_its_lock(world: World, bundle: Path) -> None:
    result = world.run("verify", "dist/pot", "--lock", "pot.lock", "--json")
    id_ = json.loads((bundle / "manifest.json").read_text())["id"]
    row = {"bundle": "dist/pot", "ok": True, "recipe": "pot", "device": "kiln-a", "id": id_}
    assert (result.code, result.json) == (0, [{**row, "evidence": [], "faults": []}])
    said = world.run("verify", str(bundle)).out
    assert said == f"{bundle}: ok, pot for kiln-a, bundle {id_[:12]}\n"


def test_digests_can_be_recomputed_as_documented(world: World, bundle: Path) -> None:
    """The script of the documentation, which imports nothing of ours."""
    text = (ROOT / "docs" / "verify-and-sign.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.+?)```", text, re.DOTALL)
    assert found
    names, root = ["red", "green", "blue"], world.root / "data"
    images = sorted((root / "images/val").iterdir())
    labels = [root / "labels/val" / f"{image.stem}.txt" for image in images]
    pairs = [
        (str(i), str(la) if la.exists() else None) for i, la in zip(images, labels, strict=True)
    ]
    script = found[1] + (
        f"print(view({names!r}, [(pathlib.Path(i), la and pathlib.Path(la)) for i, la in {pairs!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script, "dist/pot"], capture_output=True, text=True, check=True
    )
    lock = json.loads(world.lock.read_text())
    assert done.stdout.split() == [lock["steps"][-1]["output"], lock["data"]["evaluation"]]
    assert {name for name in RESERVED if name not in found[1]} == set()


def test_every_single_changed_byte_is_named(world: World, bundle: Path) -> None:
    for path in [p for p in sorted(bundle.rglob("*")) if p.is_file() and p.name != "manifest.json"]:
        before = path.read_bytes()
        _flip(path)
        result = world.run("verify", "dist/pot")
        assert result.code == CODE
        assert f"{path.relative_to(bundle).as_posix()} was changed: its sha256 is" in result.error
        path.write_bytes(before)
    assert world.run("verify", "dist/pot").code == 0


def _text(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def _link(bundle: Path) -> None:
    (bundle / "labels.txt").rename(bundle.parent / "real")
    (bundle / "labels.txt").symlink_to(bundle.parent / "real")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda b: (b / "labels.txt").unlink(), "labels.txt is missing"),
    "extra": (lambda b: (b / "x.so").write_text(""), "x.so is not in manifest.json"),
    "extra below": (
        lambda b: (b / "golden" / "x").write_text(""),
        "golden/x is not in manifest.json",
    ),
    "linked file": (_link, "labels.txt is a link or a device, not a file"),
    "linked folder": (
        lambda b: (b / "more").symlink_to(b.parent),
        "more is not in manifest.json",
    ),
    "pipe": (
        lambda b: ((b / "labels.txt").unlink(), os.mkfifo(b / "labels.txt")),
        "labels.txt is a link or a device, not a file",
    ),
    "empty folder": (lambda b: (b / "more").mkdir(), "more is not in manifest.json"),
    "hidden folder": (
        lambda b: (b / ".more" / "x").mkdir(parents=True),
        ".more is not in manifest.json",
    ),
    "folder in place of a file": (
        lambda b: ((b / "labels.txt").unlink(), (b / "labels.txt").mkdir()),
        "labels.txt is a folder, not a file",
    ),
    "escaping": (
        lambda b: _manifest(b, lambda m: m["files"].update({"../pot.lock": "0"})),
        "../pot.lock in manifest.json leads out of the bundle",
    ),
    "id": (
        lambda b: _manifest(b, lambda m: m.update(id="0" * 64)),
        "manifest.json does not have the id of plan.json and report.json",
    ),
    "twice": (
        lambda b: _text(b / "manifest.json", '{\n "id"', '{\n "id": "x",\n "id"'),
        "manifest.json has the right content, but is not written as yolodeploy writes it",
    ),
    "spaced": (
        lambda b: _text(b / "manifest.json", "{\n", "{ \n"),
        "manifest.json has the right content, but is not written as yolodeploy writes it",
    ),
    "lists itself": (
        lambda b: edit(b, "manifest.json", lambda m: m["files"].update({"manifest.json": "0"})),
        "manifest.json has the right content, but is not written as yolodeploy writes it",
    ),
    "long": (
        lambda b: _text(b / "manifest.json", "{\n", "{" + " " * 9_000_000),
        "manifest.json cannot be read: it is larger than 8 MiB",
    ),
    "endless names": (
        lambda b: edit(b, "manifest.json", lambda m: m["files"].update({"a/" * 60_000: "0"})),
        "manifest.json cannot be read: it lists more than 10,000 files, or a name that is too long",
    ),
    "many names": (
        lambda b: edit(
            b,
            "manifest.json",
            lambda m: m["files"].update(dict.fromkeys(map(str, range(9_999)), "0")),
        ),
        "manifest.json cannot be read: it lists more than 10,000 files",
    ),
    "file in place of a folder": (
        lambda b: (shutil.rmtree(b / "golden"), (b / "golden").write_text("x")),
        "golden is a file, not a folder",
    ),
    "no json": (
        lambda b: (b / "manifest.json").write_text("{"),
        "manifest.json cannot be read: it is not JSON (line 1, column 2)",
    ),
    "no object": (
        lambda b: (b / "manifest.json").write_text("[]"),
        "manifest.json cannot be read: it is not a JSON object",
    ),
    "deep": (
        lambda b: (b / "manifest.json").write_text("[" * 100_000),
        "manifest.json cannot be read: it is nested too deeply",
    ),
    "no files": (
        lambda b: (b / "manifest.json").write_text('{"id": "x", "files": []}'),
        "manifest.json cannot be read: it has no `id`, or no `files`",
    ),
    "manifest is a pipe": (
        lambda b: ((b / "manifest.json").unlink(), os.mkfifo(b / "manifest.json")),
        "manifest.json cannot be read: it is a link or a device, not a file",
    ),
    "report is a pipe": (
        lambda b: ((b / "report.json").unlink(), os.mkfifo(b / "report.json")),
        "plan.json or report.json cannot be read: it is a link or a device, not a file",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named(world: World, bundle: Path, damage: str) -> None:
    harm, message = DAMAGE[damage]
    harm(bundle)
    result = world.run("verify", "dist/pot")
    assert result.code == CODE
    assert result.error.startswith("dist/pot is not what was deployed:\n")
    assert message in result.error


def test_what_is_no_bundle_has_one_code(world: World, bundle: Path) -> None:
    (bundle / "manifest.json").unlink()
    (bundle / "report.json").unlink()
    told = "dist/pot is not a bundle: neither it nor a folder in it has a manifest.json. Name "
    for command in ("verify", "compare", "measure", "report"):
        result = world.run(command, "dist/pot")
        assert (command, result.code) == (command, CODE)
        assert result.error.startswith(told), command
        result = world.run(command, "dist/none")
        assert (command, result.code) == (command, CODE)
        assert result.error.startswith("dist/none does not exist. Name ")
    assert world.run("measure", "none.yaml").code == 2  # which can only be a recipe


def test_a_folder_of_bundles(world: World, bundle: Path) -> None:
    dist = bundle.parent
    for command in ("measure", "report"):  # which take one
        alone = world.run(command, "dist")
        said = "dist is a folder of bundles. Name one of them, such as dist/pot."
        assert (alone.code, alone.error) == (CODE, said)
    shutil.copytree(bundle, dist / "a-pot-with-a-name-that-has-no-room-in-a-column")
    (dist / ".pot~work").mkdir()  # of a deploy that was killed
    result = world.run("verify", "dist", "dist/pot")  # once
    assert (result.code, result.err) == (0, "")
    id_ = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["id"][:12]
    assert result.out.splitlines() == [
        "bundle                                        verdict recipe device id",
        f"dist/a-pot-wit...that-has-no-room-in-a-column ok      pot    kiln-a {id_}",
        f"dist/pot                                      ok      pot    kiln-a {id_}",
        "2 of 2 ok",
    ]
    _flip(bundle / "labels.txt")
    (dist / "no-manifest").mkdir()
    (dist / "stray.so").write_text("", encoding="utf-8")
    result = world.run("verify", "dist", "--json")
    assert result.code == CODE
    assert [row["ok"] for row in result.json] == [True, False, False, False]
    assert (
        "error: dist/no-manifest is not a bundle: neither it nor a folder in it has a manifest.json. Name"
        in result.err
    )
    assert "error: dist/stray.so is a file, not a bundle. Name" in result.err
    assert "labels.txt was changed" in result.err
    assert world.run("verify", "dist").out.splitlines()[-2:] == [
        "dist/stray.so                                 failed  -      -      -",
        "1 of 4 ok",
    ]


def _forged(bundle: Path, change: Callable[[dict], None], name: str = "report.json") -> None:
    """Change a document, and mend provenance and manifest as a forger would."""
    edit(bundle, name, change)
    mend(bundle, statement=True)


def test_the_lock_catches_what_a_mended_manifest_hides(world: World, bundle: Path) -> None:
    _forged(bundle, lambda report: report["artifact"].update(digest="0" * 64))
    result = world.run("verify", "dist/pot", "--lock", "pot.lock")
    assert result.code == CODE
    assert "the artifact is not the one that report.json measured" in result.error
    assert (
        f"lock: the artifact should be {json.loads(world.lock.read_text())['steps'][-1]['output']}"
        in (result.error)
    )


def test_a_plan_that_is_not_the_locked_one(world: World, bundle: Path) -> None:
    _forged(bundle, lambda plan: plan.update(weights="0" * 64), "plan.json")
    assert world.run("verify", "dist/pot").code == 0  # nothing but the lock can tell
    result = world.run("verify", "dist/pot", "--lock", "pot.lock")
    assert result.code == CODE
    assert "lock: model: locked " in result.error


def _edit_app_file(bundle: Path, name: str) -> None:
    text = (bundle / name).read_text()
    (bundle / name).write_text(text.replace("red", "rot").replace("RGB", "BGR"))


FORGED = {
    "labels": (lambda b: _edit_app_file(b, "labels.txt"), "bundle.labels.txt: locked "),
    "contract": (lambda b: _edit_app_file(b, "contract.json"), "bundle.contract.json: locked "),
    "imgsz": (
        lambda b: edit(b, "plan.json", lambda p: p["recipe"]["model"].update(imgsz=96)),
        "imgsz: locked 64, now 96",
    ),
    "seed": (
        lambda b: edit(b, "plan.json", lambda p: p["recipe"].update(seed=7)),
        "seed: locked 0, now 7",
    ),
    "backend": (
        lambda b: edit(b, "plan.json", lambda p: p["target"].update(backend="stove")),
        "backends: locked clay, kiln, now clay, kiln, stove",
    ),
    "backend of a step": (
        lambda b: edit(b, "plan.json", lambda p: p["steps"][0].update(backend="stove")),
        "backends: locked clay, kiln, now kiln, stove",
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_nothing_but_the_lock_can_tell(world: World, bundle: Path, name: str) -> None:
    forge, message = FORGED[name]
    forge(bundle)
    mend(bundle, statement=True)
    assert world.run("verify", "dist/pot").code == 0
    result = world.run("verify", "dist/pot", "--lock", "pot.lock")
    assert result.code == CODE
    assert f"  lock: {message}" in result.error


@pytest.mark.parametrize("name", FORGED)
def test_deploy_writes_a_forged_bundle_again(world: World, bundle: Path, name: str) -> None:
    before = {n: (bundle / n).read_bytes() for n in ("labels.txt", "contract.json", "plan.json")}
    FORGED[name][0](bundle)
    mend(bundle, statement=True)
    world.good("--locked")
    assert {n: (bundle / n).read_bytes() for n in before} == before
    assert world.run("verify", "dist/pot", "--lock", "pot.lock").code == 0


@pytest.mark.parametrize("name", ["golden/run.sh", "golden/more/x.npy", "weights2.bin"])
def test_a_file_that_a_bundle_has_no_room_for(world: World, bundle: Path, name: str) -> None:
    """Whatever a forger lists, it is the artifact's, or one of the names that every bundle has."""
    (bundle / name).parent.mkdir(exist_ok=True)
    (bundle / name).write_text("")
    mend(bundle, statement=True)
    result = world.run("verify", "dist/pot", "--lock", "pot.lock")
    assert result.code == CODE
    ours = name.startswith("golden")
    fault = (
        f"{name} is not a file of a bundle" if ours else "the artifact is not the one that report"
    )
    assert fault in result.error


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb", "classify"])
def test_golden_files_of_every_task_belong_to_a_bundle(task: str) -> None:
    for name in (golden_file(task), "golden/output.npy", "golden/prototypes.npy"):
        assert is_known(name)


def test_an_additional_file_is_named_and_not_read(world: World, bundle: Path) -> None:
    with (bundle / "huge").open("wb") as file:
        file.truncate(1 << 40)
    result = world.run("verify", "dist/pot")
    assert result.code == CODE
    assert result.error == "dist/pot is not what was deployed:\n  huge is not in manifest.json"


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: plan.clear(),
        lambda plan: plan.update(steps=[]),
        lambda plan: plan.update(steps=[{}]),
        lambda plan: plan.update(steps=[1]),
        lambda plan: plan.update(steps=None),
        lambda plan: plan.update(target=[]),
        lambda plan: plan.pop("data"),
    ],
)
def test_a_forged_plan_of_another_shape(
    world: World, bundle: Path, change: Callable[[dict], None]
) -> None:
    _forged(bundle, change, "plan.json")
    result = world.run("verify", "dist/pot", "--lock", "pot.lock")
    assert result.code == CODE
    assert "lock: " in result.error


def test_a_file_that_cannot_be_read(
    world: World, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Modes do not bind root, so that the refusal is made here."""

    def refuse(path: Path, *_: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("yolodeploy.bundle.integrity.file_digest", refuse)
    result = world.run("verify", "dist/pot")
    assert result.code == CODE
    assert "bom.cdx.json cannot be read: Permission denied" in result.error


def test_a_folder_that_cannot_be_listed(
    world: World, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "golden":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr("yolodeploy.bundle.integrity.os.scandir", refuse)
    result = world.run("verify", "dist/pot")
    assert result.code == CODE
    assert "  golden cannot be read: Permission denied\n" in result.error


def test_a_lock_that_is_not_there_and_one_that_is_damaged(world: World, bundle: Path) -> None:
    assert world.run("verify", "dist/pot", "--lock", "no.lock").code == 8
    world.write("bad.lock", "{}")
    assert world.run("verify", "dist/pot", "--lock", "bad.lock").code == 8
    raw = json.loads(world.lock.read_text())
    world.write("empty.lock", json.dumps({**raw, "steps": []}))
    assert world.run("verify", "dist/pot", "--lock", "empty.lock").code == CODE
    (world.root / "linked.lock").symlink_to("pot.lock")
    assert world.run("verify", "dist/pot", "--lock", "linked.lock").code == 0
    (world.root / "endless.lock").symlink_to("/dev/zero")
    os.mkfifo(world.root / "pipe.lock")
    with (world.root / "sparse.lock").open("wb") as file:
        file.truncate(1 << 40)
    for name, why in (
        ("endless", "it is a pipe or a device, not a file"),
        ("pipe", "it is a pipe or a device, not a file"),
        ("sparse", "it is larger than 8 MiB, the most that is read"),
    ):
        result = world.run("verify", "dist/pot", "--lock", f"{name}.lock")
        assert result.code == 8
        assert f"{name}.lock: cannot be read as a lock file: {why}." in result.error


def test_a_lock_of_an_earlier_version_says_nothing_of_what_an_app_reads(
    world: World, bundle: Path
) -> None:
    lock = json.loads(world.lock.read_text())
    del lock["bundle"]
    world.lock.write_text(json.dumps(lock))
    result = world.run("verify", "dist/pot", "--lock", "pot.lock")
    assert result.code == CODE
    assert "bundle.labels.txt: locked None, now " in result.error
    ran = len(world.log)
    result = world.run("deploy", "pot.yaml", "--locked", "--cache", "empty")
    assert (result.code, len(world.log)) == (8, ran)  # told before anything is built
    assert "was written by an earlier yolodeploy" in result.error
    assert world.run("build", "pot.yaml", "--locked").code == 0
    assert world.run("reproduce", "pot.yaml").code == 0
    world.good()
    assert world.run("verify", "dist/pot", "--lock", "pot.lock").code == 0


def test_one_bad_bundle_of_two(world: World, bundle: Path) -> None:
    _flip(bundle / "labels.txt")
    result = world.run("verify", "dist/pot", "dist/none", "--json")
    assert result.code == CODE
    assert [row["ok"] for row in result.json] == [False, False]
    assert (
        "error: dist/none does not exist. Name a bundle that `yolodeploy deploy` wrote"
        in result.err
    )


def test_ten_megabytes_take_a_third_of_a_second_and_no_framework(
    world: World, bundle: Path
) -> None:
    """Processor time of the whole process, because other tests run beside it; a folder of bundles has a table, too."""
    shutil.copytree(bundle, bundle.parent / "bowl")
    (bundle / "weights.bin").write_bytes(os.urandom(10_000_000))
    mend(bundle, statement=True)
    command = (
        "import sys; from yolodeploy.cli import main as cli; code = cli.main(['verify', 'dist']); "
        "print(code, sorted({'torch', 'numpy', 'cv2', 'pydantic'} & set(sys.modules)))"
    )
    seconds = []
    for _ in range(3):
        before = os.times()
        done = subprocess.run(
            [sys.executable, "-c", command],
            cwd=world.root,
            capture_output=True,
            text=True,
            check=False,
        )
        after = os.times()
        seconds.append(sum(after[2:4]) - sum(before[2:4]))  # of children: user and system
    assert done.stdout.splitlines()[-1] == f"{CODE} []"  # of another artifact, which was hashed
    assert min(seconds) < 0.3
