"""Writing `weight.bin`; see `values.py` for the format."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

# Data types of weight records: `BlobDataType` in mlmodel/src/MILBlob/Blob/BlobDataType.hpp.
RECORD_TYPE = {
    "FLOAT16": 1,
    "FLOAT32": 2,
    "UINT8": 3,
    "INT8": 4,
    "UINT1": 9,
    "UINT2": 10,
    "UINT4": 11,
    "UINT3": 12,
    "UINT6": 13,
    "INT4": 8,
}
_HEADER, _RECORD, _ALIGN = "<II56x", "<IIQQQ32x", 64
_SENTINEL, _FORMAT = 0xDEADBEEF, 2


def record_size(size: int) -> int:
    """Bytes that `size` bytes of data take with their record, padding included."""
    return _ALIGN + _aligned(size)


def _aligned(size: int) -> int:
    return size + -size % _ALIGN


@dataclass
class WeightFile:
    """A weight file in the making; see `values.py` for the format."""

    chunks: list[bytes] = field(default_factory=list)
    size: int = _ALIGN
    count: int = 0

    def add(self, kind: int, data: bytes, padding_bits: int = 0) -> int:
        """Append a record and return its offset."""
        offset = self.size
        record = struct.pack(_RECORD, _SENTINEL, kind, len(data), offset + _ALIGN, padding_bits)
        padded = record + data + bytes(_aligned(len(data)) - len(data))
        self.chunks.append(padded)
        self.size += len(padded)
        self.count += 1
        return offset

    def write(self, path: Path) -> None:
        """Write the file."""
        path.write_bytes(struct.pack(_HEADER, self.count, _FORMAT) + b"".join(self.chunks))
