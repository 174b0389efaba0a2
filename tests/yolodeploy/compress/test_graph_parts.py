"""The parts of a small graph that is written down by hand."""

from __future__ import annotations

import pytest

from yolodeploy.compress.graph_parts import Kind, Node, decoding
from yolodeploy.errors import StepFailed

# A backbone of two convolutions, a neck that upsamples the second, and two branches that share it.
GRAPH: tuple[tuple[str, Kind, str], ...] = (
    ("image", "other", ""),
    ("first", "convolution", "image"),
    ("second", "convolution", "first"),
    ("larger", "other", "second"),
    ("joined", "other", "larger first"),
    ("merged", "convolution", "joined"),
    ("boxes", "convolution", "merged"),
    ("boxes.last", "convolution", "boxes"),
    ("offset", "constant", ""),
    ("biased", "bias", "boxes.last offset"),
    ("scores.last", "convolution", "merged"),
    ("shares", "other", "biased"),
    ("distances", "convolution", "shares"),
    ("output", "other", "distances scores.last offset"),
)
NODES = [Node(name, kind, tuple(sources.split())) for name, kind, sources in GRAPH]
PARTS = {
    "first": "backbone",
    "second": "backbone",
    "merged": "neck",
    "boxes": "head",
    "boxes.last": "head.last",
    "scores.last": "head.last",
    "shares": "decode",
    "distances": "dfl",
    "output": "decode",
}
CONVOLUTIONS = {name: part for name, part in PARTS.items() if part != "decode"}


def test_what_decodes_follows_from_the_edges_and_the_named_parts() -> None:
    assert decoding(NODES, ["output"], CONVOLUTIONS) == ("shares", "output")


def test_branches_of_other_tasks_end_in_decoding_too() -> None:
    """All their convolutions are of one part; what lies between two of them does not decode."""
    branch = {"boxes": "head.keypoints", "boxes.last": "head.keypoints"}
    assert decoding(NODES, ["output"], {**CONVOLUTIONS, **branch}) == ("shares", "output")


def test_what_a_convolution_reads_too_does_not_decode() -> None:
    """Attention behind a last convolution, say: an operation counts by all its paths, not by one."""
    given = [*NODES[:9], Node("shared", "other", ("boxes.last",)), *NODES[9:]]
    given += [Node("more", "convolution", ("shared",)), Node("both", "other", ("output", "more"))]
    assert decoding(given, ["both"], CONVOLUTIONS) == ("shares", "output", "both")


@pytest.mark.parametrize("outputs", [["merged"], ["scores.last"], [], ["nowhere"]])
def test_a_graph_that_decodes_nothing_is_refused(outputs: list[str]) -> None:
    with pytest.raises(StepFailed, match=r"not that of a YOLO model.*Export the model again"):
        decoding(NODES, outputs, CONVOLUTIONS)
