"""What was read for a view of a data set, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from yolodeploy.data.paths import skipped_text


@dataclass(frozen=True)
class Counts:
    """What was read for a view, and what was left out.

    `images` were chosen of `available`; `labelled` have a label file, `background` show no object, with or
    without one; `skipped` says how many files among the images are none, by reason. `left_out` are labelled
    objects of classes that the recipe does not keep. Images in class folders are labelled and show one object each;
    `empty` are the classes that no image shows, of `classes`, which is 0 where labels are files.
    """

    images: int = 0
    available: int = 0
    labelled: int = 0
    background: int = 0
    objects: int = 0
    skipped: tuple[tuple[str, int], ...] = ()
    left_out: int = 0
    classes: int = 0
    empty: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As plain data; the classes are left out where labels are files."""
        values = {**vars(self), "skipped": dict(self.skipped), "empty": list(self.empty)}
        return {k: v for k, v in values.items() if self.classes or k not in ("classes", "empty")}

    def __str__(self) -> str:
        chosen = f"{self.images} of {self.available}"
        images = f"{self.images if self.images == self.available else chosen} images"
        if self.classes:
            few = [*self.empty[:5], "..."] if len(self.empty) > 5 else self.empty
            none = f", none of {', '.join(few)}" if few else ""
            left = f", {self.left_out} of other classes left out" if self.left_out else ""
            return f"{images} of {self.classes} classes{none}{left}{skipped_text(self.skipped)}"
        shows = f"{self.labelled} with a label file, {self.background} without objects"
        others = f", {self.left_out} of other classes left out" if self.left_out else ""
        return f"{images}, {shows}, {self.objects} objects{others}{skipped_text(self.skipped)}"
