"""Similarity of heatmaps against SciPy and scikit-image, and what must hold of it for any map."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr
from skimage.metrics import structural_similarity

from rapbench.core.errors import RapbenchError
from rapbench.protocols.base.similarity import check_window, mean_ranks, scaled, spearman, ssim

SPACES = [(9,), (40,), (3, 3), (5, 6), (16, 33), (4, 3, 5), (9, 8, 10)]


def maps(space, seed, ties=False):
    found = torch.randn(4, *space, generator=torch.Generator().manual_seed(seed))
    return found.mul(2).round() if ties else found


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_spearman_is_scipys(space, ties):
    one, other = maps(space, 0, ties), maps(space, 1, ties) + maps(space, 0, ties)
    want = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(spearman(one, other), want, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(mean_ranks(one.flatten(1)), rankdata(one.flatten(1), axis=1))


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_ssim_is_scikit_images_on_maps_scaled_to_their_99th_percentile(space):
    one, other = maps(space, 0), maps(space, 1) + 2 * maps(space, 0)
    window = min(7, *((length - 1) // 2 * 2 + 1 for length in space))
    for got, a, b in zip(ssim(one, other).tolist(), one.double().numpy(), other.double().numpy(), strict=True):
        a, b = (np.clip(map / np.percentile(np.abs(map), 99), -1, 1) for map in (a, b))
        assert got == pytest.approx(structural_similarity(a, b, win_size=window, data_range=2), abs=1e-12)


@given(st.floats(1e-3, 1e3), st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_the_scale_of_a_map_does_not_matter(scale, seed):
    one, other = maps((8, 9), seed), maps((8, 9), seed + 100)
    for measure in (spearman, ssim):
        torch.testing.assert_close(measure(scale * one.double(), other.double()), measure(one.double(), other.double()))
        torch.testing.assert_close(measure(one, one), torch.ones(4, dtype=torch.float64))
        torch.testing.assert_close(measure(one, other), measure(other, one))
    assert spearman(one, -one).tolist() == pytest.approx([-1] * 4)


def test_batch_is_singles():
    one, other = maps((8, 9), 0), maps((8, 9), 1)
    for measure in (spearman, ssim):
        singles = torch.cat([measure(one[[row]], other[[row]]) for row in range(4)])
        torch.testing.assert_close(measure(one, other), singles, rtol=0, atol=1e-14)


@pytest.mark.parametrize("value", [0.0, torch.nan, torch.inf])
def test_a_map_of_zeros_or_without_numbers_has_no_similarity(value):
    one, other = maps((5, 6), 0), maps((5, 6), 1)
    one[1] = value
    other[2] = value
    for measure in (spearman, ssim):
        assert measure(one, other).isnan().tolist() == [False, True, True, False]
        one[1, 0, 0] = torch.nan
        assert measure(one, other).isnan().tolist() == [False, True, True, False]
        one[1] = value


def test_a_constant_map_has_no_order():
    one = torch.ones(1, 5, 6)
    assert spearman(one, maps((5, 6), 0)[:1]).isnan()
    assert ssim(one, one).tolist() == [1]


def test_of_a_sparse_map_the_largest_value_is_the_unit():
    one = torch.zeros(1, 20, 20)
    one[0, 3, 4], one[0, 5, 6] = -4, 2
    assert scaled(one)[0, 3, 4] == -1
    assert scaled(one)[0, 5, 6] == 0.5


def test_maps_without_room_for_a_window_are_refused():
    check_window((3, 40))
    with pytest.raises(RapbenchError, match=r"3 pixels or more along each dimension, got \(2, 40\)"):
        check_window((2, 40))
