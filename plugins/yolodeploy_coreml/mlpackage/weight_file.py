"""The file `weight.bin`: reading and writing its records, and numbers of less than a byte.

It starts with 64 bytes; each value has a 64-byte record of the little-endian fields sentinel
0xDEADBEEF (u32), data type (u32), size in bytes, offset of the data, bits that pad its last byte
(u64). Elements of less than a byte are packed without gaps, lowest bits first. Format:
`mlmodel/src/MILBlob/Blob/StorageFormat.hpp` and `BlobDataType.hpp` of coremltools.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolodeploy.errors import StepFailed

RECORD_TYPE = {
    "FLOAT16": 1,
    "FLOAT32": 2,
    "UINT8": 3,
    "INT8": 4,
    "INT4": 8,
    "UINT1": 9,
    "UINT2": 10,
    "UINT4": 11,
    "UINT3": 12,
    "UINT6": 13,
}
_HEADER, _RECORD, _ALIGN = "<II56x", "<IIQQQ32x", 64
_SENTINEL, _FORMAT = 0xDEADBEEF, 2


def record_size(size: int) -> int:
    """Bytes that `size` bytes of data take with their record, padding included."""
    return _ALIGN + size + -size % _ALIGN


class WeightFile:
    """A weight file that is being written."""

    def __init__(self) -> None:
        self._records: list[bytes] = []
        self._size = _ALIGN

    def add(self, kind: int, data: bytes, padding_bits: int = 0) -> int:
        """Append a record and return its offset."""
        offset, size = self._size, record_size(len(data))
        record = struct.pack(_RECORD, _SENTINEL, kind, len(data), offset + _ALIGN, padding_bits)
        self._records.append((record + data).ljust(size, b"\0"))
        self._size += size
        return offset

    def write(self, path: Path) -> None:
        """Write the file."""
        header = struct.pack(_HEADER, len(self._records), _FORMAT)
        path.write_bytes(header + b"".join(self._records))


class WeightFiles:
    """The weight files of a package, mapped into memory when first read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, NDArray[np.uint8]] = {}

    def record(self, name: str, offset: int) -> tuple[int, int, NDArray[np.uint8]]:
        """Data type, bits of padding in the last byte, and data of a record."""
        file = self._folder / Path(name).name
        try:
            if name not in self._files:
                self._files[name] = np.memmap(file, np.uint8, "r")
            content = self._files[name]
            fields = struct.unpack_from(_RECORD, content.data, offset)
        except (OSError, ValueError, struct.error) as error:
            raise StepFailed(
                f"{file} cannot be read at {offset}: {error}. Export again."
            ) from error
        sentinel, kind, size, start, padding_bits = fields
        if sentinel != _SENTINEL or start + size > content.size:
            raise StepFailed(f"{file}: no weight record at {offset}; it is damaged. Export again.")
        return kind, padding_bits, content[start : start + size]


def pack(numbers: NDArray[np.uint8], bits: int) -> tuple[bytes, int]:
    """Pack the lowest `bits` of each number; also returns the unused bits at the end."""
    rows = np.unpackbits(numbers.reshape(-1, 1), axis=1, count=bits, bitorder="little")
    return np.packbits(rows, bitorder="little").tobytes(), -rows.size % 8


def unpack(
    data: bytes | NDArray[Any], bits: int, shape: tuple[int, ...], *, signed: bool = False
) -> NDArray[Any]:
    """Unpack `bits`-wide integers into uint8 (int8 if signed)."""
    count = int(np.prod(shape))
    flat = np.unpackbits(np.frombuffer(data, np.uint8), count=count * bits, bitorder="little")
    weights = (1 << np.arange(bits)).astype(np.int16)
    values = flat.reshape(count, bits) @ weights
    if signed:
        values -= (values >> (bits - 1)) << bits
    return values.astype(np.int8 if signed else np.uint8).reshape(shape)
