"""COCO's compressed RLE: the lengths of runs down the columns, five bits of them in a character.

A length is written as its difference from the one two before (from the fourth on), the low five
bits first; a character is 48 plus those bits, plus 32 if more follow; the last one's bit 16 is the
sign. The first run lies outside the mask. Source of the format: cocoapi, `maskApi.c`.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def unpack(mask: dict[str, Any]) -> np.ndarray:
    """The mask as booleans [height, width]."""
    height, width = mask["size"]
    pixels: list[bool] = []
    for place, length in enumerate(lengths(mask["counts"])):
        pixels += [place % 2 == 1] * length
    return np.array(pixels, bool).reshape(width, height).T


def pack(mask: np.ndarray) -> str:
    """The `counts` of booleans [height, width]."""
    runs, inside = [0], False
    for pixel in mask.T.reshape(-1).tolist():
        if pixel != inside:
            runs.append(0)
            inside = pixel
        runs[-1] += 1
    text = ""
    for place, length in enumerate(runs):
        text += _characters(length - runs[place - 2] if place > 2 else length)
    return text


def lengths(counts: str) -> list[int]:
    """The lengths of the runs."""
    found: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        found.append(value + found[-2] if len(found) > 2 else value)
        value = shift = 0
    return found


def _characters(value: int) -> str:
    text = ""
    while True:
        bits = value & 31
        value >>= 5
        if value == (-1 if bits & 16 else 0):
            return text + chr(48 + bits)
        text += chr(48 + bits + 32)
