from .diff import parts
from .editor import Editor, set_value
from .encodings import Array, Encoded, Mask, Operand, floats, integers, palette, sparse
from .inspection import inspect
from .interface import OUTPUT, RAW_OUTPUTS, read_interface
from .layers import Layer, before_rows, block_of, ends_in_rows, is_quantized
from .operations import (
    bindings,
    main_function,
    names_read,
    new_operation,
    replace_operations,
    set_text,
    type_numbers,
)
from .package import PACKAGE, Package, inner, messages, read_package, report_damage, write_package
from .values import CONSTEXPR, Reader, Value, shape_of

__all__ = [
    "CONSTEXPR",
    "OUTPUT",
    "PACKAGE",
    "RAW_OUTPUTS",
    "Array",
    "Editor",
    "Encoded",
    "Layer",
    "Mask",
    "Operand",
    "Package",
    "Reader",
    "Value",
    "before_rows",
    "bindings",
    "block_of",
    "ends_in_rows",
    "floats",
    "inner",
    "inspect",
    "integers",
    "is_quantized",
    "main_function",
    "messages",
    "names_read",
    "new_operation",
    "palette",
    "parts",
    "read_interface",
    "read_package",
    "replace_operations",
    "report_damage",
    "set_text",
    "set_value",
    "shape_of",
    "sparse",
    "type_numbers",
    "write_package",
]
