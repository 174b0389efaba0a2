from .codebook import Codebook, balance, kmeans, nearest, uniform
from .graph_parts import Kind, Node, decoding
from .keep_float import UNTOUCHED, layers_to_quantize, refuse_compressed, refuse_missing
from .layer_choice import Candidates, dominant, within_drop, within_noise
from .layer_cost import Cost, alone, measure_layers
from .layers import PARTS, Part, choose
from .learned_ranges import Range, Ranges, read_ranges
from .named_layers import LAYERS_FILE, carry, carry_layers, layer_named, read_layers, write_layers
from .part_counts import KERNELS_ONLY, count_parts, weigh
from .told_outputs import told_outputs, told_task

__all__ = [
    "KERNELS_ONLY",
    "LAYERS_FILE",
    "PARTS",
    "UNTOUCHED",
    "Candidates",
    "Codebook",
    "Cost",
    "Kind",
    "Node",
    "Part",
    "Range",
    "Ranges",
    "alone",
    "balance",
    "carry",
    "carry_layers",
    "choose",
    "count_parts",
    "decoding",
    "dominant",
    "kmeans",
    "layer_named",
    "layers_to_quantize",
    "measure_layers",
    "nearest",
    "read_layers",
    "read_ranges",
    "refuse_compressed",
    "refuse_missing",
    "told_outputs",
    "told_task",
    "uniform",
    "weigh",
    "within_drop",
    "within_noise",
    "write_layers",
]
