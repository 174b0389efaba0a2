from .arch import (
    AnyLayer,
    Arch,
    BlockSpec,
    BranchSpec,
    C2fLayer,
    ConcatLayer,
    ConvLayer,
    ConvSpec,
    DetectLayer,
    SppfLayer,
    Unsupported,
    UpsampleLayer,
)
from .artifact import info, layer_parts, read, rebuild, write
from .exportable import exportable, fused, traced
from .flops import counts
from .layers import Group, Groups, Structure, convolutions, structure, unified_scales
from .modules import Conv, Grid, Yolo
from .runtime import TorchPredictor, threads

__all__ = [
    "AnyLayer",
    "Arch",
    "BlockSpec",
    "BranchSpec",
    "C2fLayer",
    "ConcatLayer",
    "Conv",
    "ConvLayer",
    "ConvSpec",
    "DetectLayer",
    "Grid",
    "Group",
    "Groups",
    "SppfLayer",
    "Structure",
    "TorchPredictor",
    "Unsupported",
    "UpsampleLayer",
    "Yolo",
    "convolutions",
    "counts",
    "exportable",
    "fused",
    "info",
    "layer_parts",
    "read",
    "rebuild",
    "structure",
    "threads",
    "traced",
    "unified_scales",
    "write",
]
