"""`provenance.json`: how a bundle was built, as an in-toto statement with a SLSA predicate.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md and https://slsa.dev/spec/v1.0/provenance.
docs/decisions/018-provenance.md says what goes where.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yolodeploy
from yolodeploy.backend import MANIFEST, PROVENANCE
from yolodeploy.bundle.manifest import is_subject

if TYPE_CHECKING:
    from yolodeploy.bundle.attest.components import Tool


STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:yolodeploy:deploy:v1"
BUILDER = "urn:yolodeploy:builder:unspecified"
VIEW = "of the list of its images and labels with their digests"
_YEAR_10000 = 253_402_300_800  # in seconds since 1970


@dataclass(frozen=True)
class BuildRecord:
    """What the attestation documents are written from.

    `files` are digests by relative path, `outputs` those of the steps' results by step id, `created` is when the
    artifact was finished, in seconds since 1970.
    """

    id: str
    plan: Mapping[str, Any]
    report: Mapping[str, Any]
    files: Mapping[str, str]
    outputs: Mapping[str, str]
    created: float
    tools: Sequence[Tool]


def statement(build: BuildRecord) -> dict[str, Any]:
    """The statement as data."""
    finished = timestamp(build.created)
    return {
        "_type": STATEMENT_TYPE,
        "subject": subjects(build.files),
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": _definition(build),
            "runDetails": {
                "builder": {
                    "id": BUILDER,
                    "version": {"yolodeploy-bundle-writer": yolodeploy.__version__},
                },
                "metadata": {
                    "invocationId": build.id,
                    **({"finishedOn": finished} if finished else {}),
                },
                "byproducts": list(_results(build)),
            },
        },
    }


def subjects(files: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every file that the statement lists, sorted by name."""
    return [
        {"name": name, "digest": {"sha256": files[name]}}
        for name in sorted(files)
        if is_subject(name)
    ]


def with_subjects(value: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """A statement that lists these files, by relative path with their digests, and says the same of the build."""
    return {**value, "subject": subjects(files)}


def statement_problems(
    value: Mapping[str, Any], files: Mapping[str, str], id_: str
) -> Iterator[str]:
    """How a statement differs from the files of a bundle and its id, one sentence each."""
    if (value.get("_type"), value.get("predicateType")) != (STATEMENT_TYPE, PREDICATE_TYPE):
        yield f"{PROVENANCE} is not a {STATEMENT_TYPE} with {PREDICATE_TYPE}"
        return
    try:
        listed = {item["name"]: item["digest"]["sha256"] for item in value["subject"]}
        run = value["predicate"]["runDetails"]["metadata"]["invocationId"]
    except (KeyError, TypeError):
        yield f"{PROVENANCE} has no subjects with sha256, or no invocationId"
        return
    actual = {name: digest for name, digest in files.items() if is_subject(name)}
    for name in sorted({*listed, *actual}, key=str):
        if listed.get(name) != actual.get(name):
            yield f"{PROVENANCE} does not match {name}"
    if run != id_:
        yield f"{PROVENANCE} describes another build than {MANIFEST}"


def _definition(build: BuildRecord) -> dict[str, Any]:
    plan = build.plan
    return {
        "buildType": BUILD_TYPE,
        "externalParameters": {"recipe": plan["recipe"], "target": plan["target"]},
        "internalParameters": {"steps": plan["steps"]},
        "resolvedDependencies": [
            {"name": "weights", "digest": {"sha256": plan["weights"]}},
            *_views(build),
            *pinned_files(plan),
            *map(_tool, build.tools),
        ],
    }


def _views(build: BuildRecord) -> Iterator[dict[str, Any]]:
    for name, digest in sorted(build.plan["data"].items()):
        view = build.report["data"][name]
        about = {"images": view["images"], "split": view["split"], "sha256": VIEW}
        yield {"name": f"data/{name}", "digest": {"sha256": digest}, "annotations": about}


def pinned_files(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Files that parameters of steps name, such as a teacher model, with their digests."""
    return [
        {"name": f"steps/{number}-{step['name']}/{key}", "digest": {"sha256": value["sha256"]}}
        for number, step in enumerate(plan["steps"])
        for key, value in sorted(step["params"].items())
        if isinstance(value, Mapping) and value.keys() == {"sha256"}
    ]


def _tool(tool: Tool) -> dict[str, Any]:
    """Without `digest`, which would mean that of a wheel, and an installation does not keep it."""
    record = {"annotations": {"record-sha256": tool.record}} if tool.record else {}
    return {"name": tool.name, "uri": tool.purl, **record}


def timestamp(created: float) -> str | None:
    """A time of the store in UTC, to the second; None if no date can express it."""
    if not 0 <= created < _YEAR_10000:
        return None
    return datetime.fromtimestamp(int(created), UTC).isoformat().replace("+00:00", "Z")


def _results(build: BuildRecord) -> Iterator[dict[str, Any]]:
    for number, step in enumerate(build.plan["steps"]):
        if digest := build.outputs.get(step["id"]):
            about = {"step": step["id"], "sha256": "of the list of its files with their digests"}
            yield {
                "name": f"steps/{number}-{step['name']}",
                "digest": {"sha256": digest},
                "annotations": about,
            }
