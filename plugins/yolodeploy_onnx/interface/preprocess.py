"""What a model expects to be done to images, as nodes in front of it or as part of its first weights.

Every model that is read takes images in 0..1, RGB, so that apps, evaluation and training feed all models alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from yolodeploy.recipe import Preprocess
from yolodeploy_onnx.interface.model import Model, attribute

Floats = NDArray[np.float32]
_WHITE = 255


def prepared(images: Floats, preprocess: Preprocess) -> Floats:
    """What a model gets for images `[N, channels, H, W]` in 0..1."""
    channels = images.shape[1]
    factor, offset = _line(preprocess, channels)
    turned = images[:, ::-1] if preprocess.order == "bgr" and channels > 1 else images
    found: Floats = (turned * factor - offset).astype(np.float32)
    return np.ascontiguousarray(found)


def _line(preprocess: Preprocess, channels: int) -> tuple[Floats, Floats]:
    """Factor and offset `[1, channels, 1, 1]`: what the model gets is `image * factor - offset`."""
    scale = preprocess.scale * _WHITE
    mean, std = (
        np.asarray(values or (default,), np.float64)
        for values, default in ((preprocess.mean, 0.0), (preprocess.std, 1.0))
    )
    shape = (1, -1, 1, 1)
    factor = np.broadcast_to(scale / std, channels).reshape(shape)
    offset = np.broadcast_to(mean / std, channels).reshape(shape)
    return factor.astype(np.float32), offset.astype(np.float32)


def take_plain_images(model: Model, preprocess: Preprocess) -> None:
    """Change a model so that it takes images in 0..1, RGB.

    Factors and the order of channels go into the first convolutions' weights. Where something else reads the image,
    and for means, which a convolution's margin does not have, nodes are put in front.
    """
    channels = model.channels
    factor, offset = _line(preprocess, channels)
    swap = preprocess.order == "bgr" and channels > 1
    if not swap and (factor == 1).all() and not offset.any():
        return
    readers = model.readers(model.image)
    folds = all(
        node.op_type == "Conv" and node.input[0] == model.image and attribute(node, "group", 1) == 1
        for node in readers
    )
    if folds and not offset.any():
        for node in readers:
            weights = model.constants[node.input[1]] * factor
            model.replace_constant(node, 1, weights[:, ::-1] if swap else weights)
        return
    _put_in_front(model, factor, offset, swap=swap)


def _put_in_front(model: Model, factor: Floats, offset: Floats, *, swap: bool) -> None:
    readers, value, place = model.readers(model.image), model.image, 0
    if swap:
        pieces = model.split(value, [1] * model.channels, place)
        (value,) = model.put("Concat", pieces[::-1], place + 1, axis=1)
        place += 2
    (value,) = model.put("Mul", [value, model.new_constant(factor)], place)
    if offset.any():
        (value,) = model.put("Sub", [value, model.new_constant(offset)], place + 1)
    for node in readers:
        inputs = [value if name == model.image else name for name in node.input]
        del node.input[:]
        node.input.extend(inputs)
