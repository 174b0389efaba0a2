"""The layers of a graph that have weights; their names are those of the checkpoint (`naming`)."""

from __future__ import annotations

from yolodeploy_ncnn.param_file import Graph

CONVOLUTIONS = frozenset({"Convolution", "ConvolutionDepthWise"})
MATRIX, TRANSPOSED = "InnerProduct", "Deconvolution"
EIGHT_BIT = CONVOLUTIONS | {MATRIX}  # ncnn has no transposed convolution in int8
WEIGHTED = EIGHT_BIT | {TRANSPOSED}


def source(graph: Graph, blob: str) -> str:
    """The blob that a blob is a copy of: ncnn copies what several layers read."""
    while graph.producers[blob].type == "Split":
        blob = graph.producers[blob].inputs[0]
    return blob
