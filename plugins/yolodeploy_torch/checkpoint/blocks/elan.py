"""Efficient layer aggregation (YOLOv9), and its auxiliary connections."""

from __future__ import annotations

from yolodeploy_torch.checkpoint.block import Block
from yolodeploy_torch.checkpoint.lowering import Builder, Value, single
from yolodeploy_torch.graph import Resize, Split, Unsupported


def _elan(to: Builder, block: Block, value: Value) -> Value:
    made = list(to.halves(f"{block.name}.halves", to.run(block.child("cv1"), value)))
    for name in ("cv2", "cv3"):
        made.append(to.run(block.child(name), made[-1]))
    return to.run(block.child("cv4"), to.concat(f"{block.name}.join", made))


def _cb_linear(to: Builder, block: Block, value: Value) -> Value:
    """A convolution whose channels go to several places."""
    made = to.convolution(block.child("conv"), single(value, block))
    sizes = block.numbers("c2s")
    if len(sizes) == 1:
        return (made,)
    to.add(Split(name=f"{block.name}.pieces", inputs=(made,), sizes=sizes))
    return tuple(f"{block.name}.pieces.{number}" for number in range(len(sizes)))


def cb_fuse(to: Builder, block: Block, value: tuple[Value, ...]) -> Value:
    """Add one piece of each source, enlarged to the size of the last source, to the last source."""
    *sources, last = value
    target, chosen = single(last, block), block.numbers("idx")
    if len(chosen) != len(sources):
        raise Unsupported(f"{block.what} chooses {len(chosen)} pieces of {len(sources)} sources")
    terms = []
    for number, (source, index) in enumerate(zip(sources, chosen, strict=True)):
        pieces = source if isinstance(source, tuple) else (source,)
        if not 0 <= index < len(pieces):
            raise Unsupported(f"{block.what} chooses piece {index} of {len(pieces)}")
        name = f"{block.name}.resize.{number}"
        terms.append(to.add(Resize(name=name, inputs=(pieces[index], target))))
    total, *others = (*terms, target)
    for number, term in enumerate(others):
        total = to.plus(f"{block.name}.sum.{number}", total, term)
    return total


LOWERINGS = {
    "ELAN1": _elan,
    "RepNCSPELAN4": _elan,
    "CBLinear": _cb_linear,
    "CBFuse": cb_fuse,
}
