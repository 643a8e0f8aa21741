"""The control `edge`."""

import pytest
import torch
from torch import nn

import rapbench


class NotCalled(nn.Module):
    def forward(self, x):
        raise AssertionError


def test_edges_of_a_step_by_hand_and_without_the_model():
    x = torch.zeros(2, 3, 5, 6)
    x[0, :, :, 3:] = torch.tensor([1.0, 2.0, 6.0])[:, None, None]  # a step of 3 in the mean
    relevance = rapbench.attribute(NotCalled(), x, 0, "edge")
    row = torch.tensor([0.0, 0, 12, 12, 0, 0])  # (1 + 2 + 1) * 3 on both sides
    torch.testing.assert_close(relevance[0], row.expand(3, 5, 6))
    assert (relevance[1] == 0).all()


@pytest.mark.parametrize("shape", [(2, 1, 9), (2, 2, 5, 6, 7)])
def test_edges_in_any_number_of_dimensions(shape):
    x = torch.rand(shape)
    relevance = rapbench.attribute(NotCalled(), x, 0, "edge")
    assert relevance.shape == x.shape
    assert relevance.dtype == x.dtype
    assert torch.equal(relevance[:, :1].expand(shape), relevance)


def test_edges_need_an_image():
    with pytest.raises(rapbench.RapbenchError, match=r"edge needs images, \(N, C, ...\), got inputs of shape \(2, 3\)"):
        rapbench.attribute(NotCalled(), torch.rand(2, 3), 0, "edge")
