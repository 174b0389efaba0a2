"""Damaged files of every kind that is read: each is refused in a sentence or read, whatever is in it.

Inputs are made by `tests/fuzz/mutate.py`, and read in processes of their own (`tests/fuzz/fuzzing.py`). The
last rows are readers of the runtimes; their files come from our own steps and are checked by digest.
"""

from __future__ import annotations

import sys

from bench.common import ROOT, Bench

sys.path[:0] = [str(ROOT / "tests" / "fuzz"), str(ROOT / "tests" / "plugins")]

SEED = 20260101
_NATIVE_SHARE = 20  # their own readers get fewer inputs, being of others' making


def fuzz(bench: Bench) -> None:
    """Print a row for each parser, and the faults."""
    import fuzzing
    from fuzz_parsers import PARSERS
    from fuzz_seeds import make_seeds

    seeds = bench.work / "seeds"
    if not seeds.is_dir():
        make_seeds(seeds)
    rows = []
    print(fuzzing.HEAD, flush=True)
    for name, parser in PARSERS.items():
        count = bench.options.inputs // (_NATIVE_SHARE if parser.native else 1)
        rows.append(fuzzing.fuzz(name, count, SEED, seeds))
        print(rows[-1].line(), flush=True)
    for row in rows:
        for number, text in row.faults:
            print(f"\n{row.parser}, input {number}:\n{text}")
    inputs, refused, faulty = (
        sum(getattr(row, key) for row in rows) for key in ("inputs", "refused", "faulty")
    )
    print(f"\n{inputs} inputs, {refused} refused in a sentence, {faulty} faults")
