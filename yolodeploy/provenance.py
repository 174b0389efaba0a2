"""`provenance.json`: how a bundle came to be, as an in-toto statement with a SLSA predicate.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md and https://slsa.dev/spec/v1.0/provenance.
docs/decisions/018-provenance.md says what goes where.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yolodeploy
from yolodeploy.manifest import MANIFEST, PROVENANCE, is_subject

if TYPE_CHECKING:
    from yolodeploy.tools import Tool

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:yolodeploy:deploy:v1"
BUILDER = "urn:yolodeploy:builder:unspecified"
VIEW = "of the list of its images and labels with their digests"
_FOUR_DIGITS = 253_402_300_800  # the year 10000, in seconds since 1970


@dataclass(frozen=True)
class Made:
    """What the papers of a bundle are written from: its documents, and what the store knows.

    `files` are digests by relative path, `outputs` those of the steps' results by step id,
    `created` is when the artifact was finished, in seconds since 1970.
    """

    id: str
    plan: Mapping[str, Any]
    report: Mapping[str, Any]
    files: Mapping[str, str]
    outputs: Mapping[str, str]
    created: float
    tools: Sequence[Tool]


def statement(made: Made) -> dict[str, Any]:
    """The statement as data."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": subjects(made.files),
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": _definition(made),
            "runDetails": {
                "builder": {
                    "id": BUILDER,
                    "version": {"yolodeploy-bundle-writer": yolodeploy.__version__},
                },
                "metadata": {"invocationId": made.id, **_finished(made.created)},
                "byproducts": list(_results(made)),
            },
        },
    }


def subjects(files: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every file that the statement vouches for, in order of the names."""
    return [
        {"name": name, "digest": {"sha256": files[name]}}
        for name in sorted(files)
        if is_subject(name)
    ]


def disagreements(value: Mapping[str, Any], files: Mapping[str, str], id_: str) -> Iterator[str]:
    """Where a statement does not vouch for the files of a bundle and its id, one sentence each."""
    if (value.get("_type"), value.get("predicateType")) != (STATEMENT_TYPE, PREDICATE_TYPE):
        yield f"{PROVENANCE} is no {STATEMENT_TYPE} with {PREDICATE_TYPE}"
        return
    try:
        listed = {item["name"]: item["digest"]["sha256"] for item in value["subject"]}
        run = value["predicate"]["runDetails"]["metadata"]["invocationId"]
    except (KeyError, TypeError):
        yield f"{PROVENANCE} has no subjects with sha256, or no invocationId"
        return
    wanted = {name: digest for name, digest in files.items() if is_subject(name)}
    for name in sorted({*listed, *wanted}, key=str):
        if listed.get(name) != wanted.get(name):
            yield f"{PROVENANCE} does not vouch for {name} as it is"
    if run != id_:
        yield f"{PROVENANCE} tells of another build than {MANIFEST}"


def _definition(made: Made) -> dict[str, Any]:
    plan = made.plan
    return {
        "buildType": BUILD_TYPE,
        "externalParameters": {"recipe": plan["recipe"], "target": plan["target"]},
        "internalParameters": {"steps": plan["steps"]},
        "resolvedDependencies": [
            {"name": "weights", "digest": {"sha256": plan["weights"]}},
            *_views(made),
            *pinned_files(plan),
            *map(_tool, made.tools),
        ],
    }


def _views(made: Made) -> Iterator[dict[str, Any]]:
    for name, digest in sorted(made.plan["data"].items()):
        view = made.report["data"][name]
        about = {"images": view["images"], "split": view["split"], "sha256": VIEW}
        yield {"name": f"data/{name}", "digest": {"sha256": digest}, "annotations": about}


def pinned_files(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Files that parameters of steps name, a teacher for instance, with their digests."""
    return [
        {"name": f"steps/{number}-{step['name']}/{key}", "digest": {"sha256": value["sha256"]}}
        for number, step in enumerate(plan["steps"])
        for key, value in sorted(step["params"].items())
        if isinstance(value, Mapping) and value.keys() == {"sha256"}
    ]


def _tool(tool: Tool) -> dict[str, Any]:
    """No `digest`: that would be read as the digest of a wheel, which an installation does not keep."""
    known = {"annotations": {"record-sha256": tool.record}} if tool.record else {}
    return {"name": tool.name, "uri": tool.purl, **known}


def _finished(created: float) -> dict[str, str]:
    time = moment(created)
    return {"finishedOn": time.isoformat().replace("+00:00", "Z")} if time else {}


def moment(created: float) -> datetime | None:
    """A time of the store, to the second; None if that is none that a date can say."""
    return datetime.fromtimestamp(int(created), UTC) if 0 <= created < _FOUR_DIGITS else None


def _results(made: Made) -> Iterator[dict[str, Any]]:
    for number, step in enumerate(made.plan["steps"]):
        if digest := made.outputs.get(step["id"]):
            about = {"step": step["id"], "sha256": "of the list of its files with their digests"}
            yield {
                "name": f"steps/{number}-{step['name']}",
                "digest": {"sha256": digest},
                "annotations": about,
            }
