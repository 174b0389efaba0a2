from .codebook import Codebook, balance, kmeans, nearest, uniform
from .graph_parts import Kind, Node, find_parts
from .keep_float import UNTOUCHED, layers_to_quantize, refuse_compressed, refuse_missing
from .layer_choice import Candidates, within_drop, within_noise
from .layer_cost import Cost, alone, measure_layers
from .layers import Part, choose
from .learned_ranges import Range, Ranges, carry, read_ranges

__all__ = [
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
    "choose",
    "find_parts",
    "kmeans",
    "layers_to_quantize",
    "measure_layers",
    "nearest",
    "read_ranges",
    "refuse_compressed",
    "refuse_missing",
    "uniform",
    "within_drop",
    "within_noise",
]
