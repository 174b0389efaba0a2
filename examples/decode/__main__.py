"""`python examples/decode BUNDLE`: decodes the golden outputs of a bundle and compares with its golden results.

Exit code 0 if they are equal, 1 if not.
"""

from __future__ import annotations

import sys
from pathlib import Path

import classify
import detect
import obb
import pose
import segment
from bundle import load, shape_faults

DECODERS = {
    "detect": detect,
    "segment": segment,
    "pose": pose,
    "obb": obb,
    "classify": classify,
}


def main(arguments: list[str]) -> int:
    """Prints what is found and whether that equals the golden results."""
    if len(arguments) != 1:
        print("usage: python examples/decode BUNDLE")
        return 2
    bundle = load(Path(arguments[0]))
    task, layout = bundle.contract["task"], bundle.contract["postprocess"]["layout"]
    decoder = DECODERS[task]
    found = decoder.decode(bundle)
    print(f"{task}, layout {layout}: {len(found)} found")
    for one in found:
        score = one["score"] if "score" in one else one["probability"]
        print(f"  {bundle.labels[one['class']]} {score:.3f} {decoder.describe(one)}")
    faults = shape_faults(bundle) + decoder.check(found, bundle)
    for fault in faults:
        print(f"  {fault}")
    if task == "segment":
        print(f"  {segment.remark(found, bundle)}")
    print("differs from the golden results" if faults else "equal to the golden results")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
