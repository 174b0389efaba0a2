from .artifact import anchor_count, info, read, read_graph, write, write_module
from .channels import Channels, Group, Numbers, Structure, channel_groups
from .classes import keep_classes
from .described import described
from .exportable import exportable, fused_module, traced
from .flops import counts, macs, node_macs
from .fusing import fused, norms
from .inspection import counted_size, inspect_artifact, is_artifact, part_counts, total_macs
from .merging import merged, merged_graph
from .parts import layer_parts, layers, parts
from .runtime import TorchPredictor, threads
from .scales import unified_scales
from .trainable import Logits, Outputs, Trainable, features, outputs, training_values

__all__ = [
    "Channels",
    "Group",
    "Logits",
    "Numbers",
    "Outputs",
    "Structure",
    "TorchPredictor",
    "Trainable",
    "anchor_count",
    "channel_groups",
    "counted_size",
    "counts",
    "described",
    "exportable",
    "features",
    "fused",
    "fused_module",
    "info",
    "inspect_artifact",
    "is_artifact",
    "keep_classes",
    "layer_parts",
    "layers",
    "macs",
    "merged",
    "merged_graph",
    "node_macs",
    "norms",
    "outputs",
    "part_counts",
    "parts",
    "read",
    "read_graph",
    "threads",
    "total_macs",
    "traced",
    "training_values",
    "unified_scales",
    "write",
    "write_module",
]
