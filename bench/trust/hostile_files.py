"""Checkpoints and ONNX files made to harm whoever opens them: how many are refused, and what that takes."""

from __future__ import annotations

import re
import sys
import warnings

from bench.common import ROOT, Bench

sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "plugins")]


def hostile(bench: Bench) -> None:
    """Print how many of either kind are refused as they should be, the slowest, and the memory."""
    _checkpoints(bench)
    _onnx_files(bench)


def _onnx_files(bench: Bench) -> None:
    import hostile_onnx as onnx_files

    folder = bench.work / "hostile-onnx"
    folder.mkdir()
    files = onnx_files.everything()
    seen = onnx_files.read_all(folder, files)
    wrong = {name: fault for name, each in seen.items() if (fault := each.wrong(files[name]))}
    for name, fault in wrong.items():
        print(f"{name}: {fault}")
    count = {kind: sum(each.kind == kind for each in seen.values()) for kind in ("refused", "read")}
    print(
        f"{len(files)} ONNX files: {count['refused']} refused in one sentence, {count['read']} read, {len(wrong)} wrong; "
        f"slowest {max(each.seconds for each in seen.values()):.2f} s of CPU (limit {onnx_files.SECONDS:.0f}), "
        f"{max(each.megabytes for each in seen.values()):.0f} MB (limit {onnx_files.MEGABYTES})"
    )


def _checkpoints(bench: Bench) -> None:
    from hostile import MEGABYTES, SECONDS, read_all, write_hostile

    folder = bench.work / "hostile"
    folder.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an entry that is there twice is meant
        files = write_hostile(folder)
    outcome = read_all(folder)
    found = outcome["found"]
    refused = 0
    for name, (path, said) in files.items():
        message, _, seen = found[path.stem]
        good = bool(message and re.search(said, message) and message.isprintable() and not seen)
        refused += good
        if not good:
            print(f"{name}: {message or 'accepted'} {seen}")
    slowest = max(seconds for _, seconds, _ in found.values())
    ran = (folder / "canary").exists()
    print(
        f"{refused} of {len(files)} checkpoints refused in one sentence; {'SOMETHING RAN' if ran else 'nothing ran'}; "
        f"slowest {slowest:.2f} s of CPU (limit {SECONDS:.0f}), "
        f"{outcome['peak']:.0f} MB (limit {MEGABYTES})"
    )
