"""The best rows of a model without suppression: in torch, and as OpenVINO converts them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from yolodeploy_torch.model.top_k import best_rows

K = 30


class End(nn.Module):
    def forward(self, raw: Tensor) -> Tensor:
        return best_rows(raw[:, :4], raw[:, 4:], K)


def raw(batch: int, classes: int) -> Tensor:
    noise = torch.Generator().manual_seed(classes)
    return torch.rand(batch, 4 + classes, 70, generator=noise)


@pytest.mark.parametrize("classes", [1, 7])
def test_rows_are_the_best_of_all_pairs(classes: int) -> None:
    given = raw(2, classes)
    for image, rows in zip(given, End()(given), strict=True):
        order = image[4:].T.flatten().argsort(descending=True)[:K]
        anchors, kinds = order // classes, order % classes
        wanted = torch.cat(
            [image[:4, anchors].T, image[4 + kinds, anchors][:, None], kinds[:, None].float()], 1
        )
        assert torch.equal(rows, wanted)


def test_openvino_gives_the_same_rows() -> None:
    ov = pytest.importorskip("openvino")
    given = raw(2, 7)
    script = torch.jit.trace(End(), given, check_trace=False)
    model = ov.compile_model(ov.convert_model(script, input=[list(given.shape)]), "CPU")
    found = next(iter(model(given.numpy()).values()))
    np.testing.assert_array_equal(found, End()(given).numpy())
