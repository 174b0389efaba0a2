"""The bundle `dist/<name>/`: what an app team gets. It appears complete, or the old one stays.

<artifact files>   labels.txt        contract.json           golden/    report.json   report.html
plan.json          provenance.json   provenance.dsse.json    bom.cdx.json
pictures.json      evidence/          manifest.json (sha256 of every other file)
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from yolodeploy.backend import BILL, MANIFEST, PICTURES, PLAN, PROVENANCE, REPORT, SIGNATURE
from yolodeploy.bundle.app_contract import app_digests
from yolodeploy.bundle.attest import envelope, key_ids
from yolodeploy.bundle.integrity import inspect_bundle
from yolodeploy.bundle.manifest import SETS, identify, set_names
from yolodeploy.errors import EnvironmentProblem
from yolodeploy.planning import Plan, named_target
from yolodeploy.store import DISK_FULL, Stored
from yolodeploy.system import digest_of, file_digest, read_json, shown, swap, tree_files, write_json
from yolodeploy.tasks import read_pictures

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner, SSlibKey

    from yolodeploy.bundle.evidence_sets import EvidenceSet
    from yolodeploy.tasks import Pictures


@dataclass(frozen=True)
class Contents:
    """What goes into a bundle.

    `outputs` are the digests of the steps' results by step id, `app_files` the files that an app reads beside
    the artifact, by name, `golden` is the folder of the golden vectors, `pictures` the file of the pictures (None: the bundle shall have
    none), and `page` renders the report, sets of evidence and pictures as HTML.
    """

    plan: Plan
    artifact: Stored
    outputs: Mapping[str, str]
    app_files: Mapping[str, bytes]
    golden: Path
    pictures: Path | None
    report: Mapping[str, Any]
    page: Callable[[Sequence[EvidenceSet], Pictures | None], str]
    task: str


def place_bundle(
    dist: Path, contents: Contents, signer: CryptoSigner | None, warn: Callable[[str], None]
) -> Path:
    """Make `dist/<name>` this bundle and return it; one that is there and complete is left alone."""
    home, plan = dist / contents.plan.file.recipe.name, resolved_plan(contents.plan)
    id_ = identify(plan, contents.report)
    found = inspect_bundle(home, signer.public_key if signer else None)
    same = found.id == id_ and app_digests(contents.app_files).items() <= found.digests.items()
    wanted = file_digest(contents.pictures) if contents.pictures else None
    same = same and found.digests.get(PICTURES) == wanted
    if same and not found.problems:
        return home
    if signer:
        warn_of_other_key(home, signer.public_key.keyid, warn)
    with replacing(dist, home) as new:
        _require_replaceable(home, signer)
        key = signer.public_key if signer else None
        sets = _keep_evidence(home, new, contents, key, warn)
        _fill(new, contents, plan, id_, sets)
        seal_bundle(new, id_, signer)
    return home


def _keep_evidence(
    home: Path, new: Path, contents: Contents, key: SSlibKey | None, warn: Callable[[str], None]
) -> Sequence[EvidenceSet]:
    """Keep the sets of evidence of a bundle that is replaced by one with the same artifact; returns them."""
    if not (home / SETS).is_dir():
        return ()
    found = inspect_bundle(home, key)
    why = ""
    if found.problems:
        why = f"the bundle is not as it should be ({found.problems[0]})"
    elif found.report["artifact"]["digest"] != contents.report["artifact"]["digest"]:
        why = "it is of another artifact"
    if why:
        warn(
            f"{shown(home)}: evidence from elsewhere is dropped: {why}. Measure again: yolodeploy measure"
        )
        return ()
    (new / SETS).mkdir(parents=True)
    for name in set_names(found.digests):
        shutil.copyfile(home / name, new / name)
    return found.sets


def warn_of_other_key(home: Path, own: str, warn: Callable[[str], None]) -> None:
    """Say that a bundle gets the signature of another key than it had."""
    if (others := signers(home)) and own not in others:
        listed = ", ".join(key[:12] for key in others)
        warn(f"{shown(home)} was signed with the key {listed}, and is now signed with {own[:12]}")


@contextlib.contextmanager
def replacing(dist: Path, home: Path) -> Iterator[Path]:
    """Give a folder, not there yet, that replaces `home` in one move if nothing is raised."""
    with _explaining_errors(dist):
        dist.mkdir(parents=True, exist_ok=True)
        guard = dist / f".{home.name}.lock"
        if guard.is_symlink():  # locking empties the file that a link leads to
            guard.unlink()
        with FileLock(guard):
            _recover(home)
            work = Path(tempfile.mkdtemp(prefix=f".{home.name}~", dir=dist))
            try:
                yield work / home.name
                swap(work / home.name, home)
            finally:
                shutil.rmtree(work, ignore_errors=True)  # the next run removes what is left


def _require_replaceable(home: Path, signer: CryptoSigner | None) -> None:
    """Refuse to replace what is not a bundle (`--dist .` must not cost anyone a folder), or a signed one."""
    ours = (home / MANIFEST).is_file() or not home.exists()
    if not ours and not (home.is_dir() and not any(home.iterdir())):
        raise EnvironmentProblem(
            f"{home}: exists and is not a bundle that yolodeploy wrote. "
            "Move it away, or choose another folder with --dist."
        )
    if signer is None and (home / SIGNATURE).exists():
        raise EnvironmentProblem(
            f"{home}: is signed, but the new bundle is not. Sign that with --key, or move the signed bundle "
            "away."
        )


def _recover(home: Path) -> None:
    """Remove what a killed run left; if it was killed between two renames, restore the old bundle."""
    for left in home.parent.glob(f".{home.name}~*/"):  # no recipe's name has a `~`
        if left.is_symlink():
            continue
        for old in left.glob("*.old"):
            if not home.exists():
                old.replace(home)
        shutil.rmtree(left)


def _fill(
    folder: Path, contents: Contents, plan: Mapping[str, Any], id_: str, sets: Sequence[EvidenceSet]
) -> None:
    """Write everything but signature and manifest."""
    from yolodeploy.bundle.attest import BuildRecord, bill_of_materials, installed_tools, statement

    artifact = tree_files(contents.artifact.path)  # without empty folders, which have no digest
    for name, file in artifact.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name)
    shutil.copytree(contents.golden, folder / "golden", copy_function=shutil.copyfile)
    for name, data in contents.app_files.items():
        (folder / name).write_bytes(data)
    write_json(folder / PLAN, plan)
    write_json(folder / REPORT, contents.report)
    page = contents.page(sets, _copy_pictures(contents.pictures, folder))
    (folder / "report.html").write_text(page, encoding="utf-8")
    build = BuildRecord(
        id=id_,
        plan=plan,
        report=contents.report,
        files=digests(folder),
        outputs=contents.outputs,
        created=contents.artifact.meta.created,
        tools=installed_tools(contents.plan.versions()),
    )
    write_json(folder / BILL, bill_of_materials(build, contents.task))
    write_json(folder / PROVENANCE, statement(replace(build, files=digests(folder))))


def _copy_pictures(file: Path | None, folder: Path) -> Pictures | None:
    """Copy the pictures into a bundle, and read them for its page."""
    if file is None:
        return None
    shutil.copyfile(file, folder / PICTURES)
    return read_pictures(folder / PICTURES)


def digests(folder: Path) -> dict[str, str]:
    """Digests of all files of a bundle but the manifest, by relative POSIX path."""
    found = tree_files(folder)
    return {name: file_digest(path) for name, path in found.items() if name != MANIFEST}


def seal_bundle(folder: Path, id_: str, signer: CryptoSigner | None) -> None:
    """Sign the provenance if there is a key, and write the manifest."""
    if signer is not None:
        payload = (folder / PROVENANCE).read_bytes()
        write_json(folder / SIGNATURE, envelope(payload, signer))
    write_json(folder / MANIFEST, {"id": id_, "files": digests(folder)})


def signers(folder: Path) -> list[str]:
    """Ids of the keys that signed a bundle; none if it has no readable signature."""
    try:
        return key_ids(read_json(folder / SIGNATURE))
    except (OSError, ValueError):
        return []


def resolved_plan(plan: Plan) -> dict[str, Any]:
    """The plan as data: every parameter, defaults included, but no path of this machine."""
    recipe = plan.file.recipe.model_dump(
        mode="json", exclude={"model": {"weights", "loader"}, "data": {"path"}, "steps": True}
    )
    loader = plan.file.recipe.model.loader
    named = {"loader": loader.name} if loader else {}
    return {
        "recipe": {
            **recipe,
            "model": {**recipe["model"], **named, "imgsz": plan.imgsz.plain},
            "steps": [
                {"name": planned.step.name, "params": planned.params.model_dump(mode="json")}
                for planned in plan.steps[1:]  # the first loads the weights
            ],
        },
        "target": {**named_target(plan.target), "backend": plan.backend.NAME},
        "weights": plan.weights_digest,
        "data": dict(plan.view_digests),
        "steps": [
            {
                "name": planned.step.name,
                "backend": planned.backend.NAME,
                "params": planned.params.model_dump(mode="json"),
                "id": planned.id,
                **({"executes": "weights"} if planned.step.executes else {}),
            }
            for planned in plan.steps
        ],
        "versions": plan.versions(),
    }


def plan_digest(plan: Plan) -> str:
    """The digest of the plan as data, which says what evidence was measured by."""
    return digest_of(resolved_plan(plan))


@contextlib.contextmanager
def _explaining_errors(dist: Path) -> Iterator[None]:
    """Turn an OSError into an EnvironmentProblem that says what to do."""
    try:
        yield
    except OSError as error:
        where = (
            dist if error.errno in DISK_FULL else error.filename or dist
        )  # copying names the source
        raise EnvironmentProblem(
            f"{where}: the bundle cannot be written: {_reason(error)}. An earlier bundle is unchanged. "
            "Choose another folder with --dist, or free some space."
        ) from None


def _reason(error: OSError) -> str:
    if isinstance(error, shutil.Error):  # copytree's list of (source, target, text)
        text = str(error.args[0][0][2])
        full = any(text.startswith(f"[Errno {code}]") for code in DISK_FULL)
        return "the disk is full" if full else text
    if error.errno in DISK_FULL:
        return "the disk is full"
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return "it is a file, not a folder"
    return error.strerror or str(error)
