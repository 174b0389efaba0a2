r"""Messages between a desk and a worker: a line of JSON, then the bytes that it announces.

    {"blobs": [4, 2], ...}\\n  4 bytes  2 bytes

What comes from the other side is data and nothing else: whoever reads says how large a message may be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import IO, Any, NamedTuple

MARK = b"yolodeploy-worker 1 "  # begins the line before the first message; shells print greetings before it
HEAD_BYTES = 4 << 20
_MOST_BLOBS = 4096


class FrameError(ValueError):
    """What was read is no message."""


class Frame(NamedTuple):
    """A message: plain data, and blobs of bytes."""

    head: dict[str, Any]
    blobs: list[bytes]


def write_frame(stream: IO[bytes], head: Mapping[str, Any], blobs: Sequence[Any] = ()) -> None:
    """Write one message; a blob is anything that `bytes` or `memoryview` takes."""
    views = [memoryview(blob).cast("B") for blob in blobs]
    text = json.dumps({**head, "blobs": [len(view) for view in views]}, allow_nan=False)
    stream.write(text.encode() + b"\n")
    for view in views:
        stream.write(view)
    stream.flush()


def read_frame(stream: IO[bytes], most: int) -> Frame:
    """Read one message whose blobs have at most so many bytes; EOFError if the other side is gone, or FrameError."""
    line = stream.readline(HEAD_BYTES)
    if not line:
        raise EOFError("the connection was closed")
    if not line.endswith(b"\n"):
        raise (
            EOFError("the connection was cut")
            if len(line) < HEAD_BYTES
            else FrameError("a line without an end")
        )
    try:
        head = json.loads(line)
    except (ValueError, RecursionError):
        raise FrameError("a line that is not JSON") from None
    if not isinstance(head, dict):
        raise FrameError("JSON that is not an object")
    sizes = head.pop("blobs", None)
    if not _are_sizes(sizes):
        raise FrameError("a message without the sizes of its blobs")
    if sum(sizes) > most:
        raise FrameError(f"a message of more than the {most} bytes that are allowed")
    return Frame(head, [_read(stream, size) for size in sizes])


def _are_sizes(sizes: object) -> bool:
    if not isinstance(sizes, list) or len(sizes) > _MOST_BLOBS:
        return False
    return all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in sizes)


def _read(stream: IO[bytes], size: int) -> bytes:
    parts = []
    while size:
        part = stream.read(min(size, 1 << 24))  # no more memory than really arrives
        if not part:
            raise EOFError("the connection was cut")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
