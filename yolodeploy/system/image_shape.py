"""The shape of the images that a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

RGB, GREY = 3, 1  # channels
FILL = 114  # grey of the borders, as in Ultralytics
Fit = Literal["center", "top-left", "stretch", "crop"]


@dataclass(frozen=True)
class ImageShape:
    """Height and width in pixels, the number of channels, 3 (RGB) or 1 (grey), and how images get that size.

    Everywhere the height comes first, as in Ultralytics. `fit` "center" and "top-left" scale an image until one side fits and
    fill the rest with the grey `fill`, on both sides or right and below; "stretch" scales both sides; "crop", of
    classification, scales an image until it covers the input and takes the middle.
    """

    height: int
    width: int
    channels: int = RGB
    fit: Fit = "center"
    fill: int = FILL

    @classmethod
    def square(cls, side: int) -> Self:
        """As high as wide."""
        return cls(side, side)

    @classmethod
    def of(cls, plain: int | Sequence[int]) -> Self:
        """From its plain form: the side of a square, or height and width."""
        if isinstance(plain, int):
            return cls.square(plain)
        height, width = plain
        return cls(height, width)

    @property
    def plain(self) -> int | list[int]:
        """Its size as recipes, ids, locks and reports have it: the side of a square, else height and width."""
        return self.height if self.height == self.width else [self.height, self.width]

    @property
    def pixels(self) -> int:
        """Height times width."""
        return self.height * self.width

    @property
    def batch(self) -> tuple[int, int, int, int]:
        """The shape of a batch of one: `(1, channels, height, width)`."""
        return 1, self.channels, self.height, self.width

    def __str__(self) -> str:
        text = f"{self.height} x {self.width}"
        return text if self.height == self.width else f"{text} (height x width)"
