"""ROAD: linear imputation by hand, against a sparse direct solver and by what it must keep; then the protocol."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import spsolve
from torch import nn

import rapbench
from rapbench.app.cli import main
from rapbench.core.random import random_normal, random_uniform, seed_of
from rapbench.evaluation.answers import table_of
from rapbench.protocols.base import imputation
from rapbench.protocols.base.batch import Batch
from rapbench.protocols.base.imputation import linearly_imputed
from rapbench.protocols.road import Road
from tests.small import SMALL

SPACES = [(2,), (7,), (64,), (1, 9), (5, 6), (17, 33), (40, 40), (1, 1, 5), (4, 3, 5), (2, 8, 2), (9, 10, 11)]


def case(space, count=4, channels=2, seed=0):
    """Images, and masks from a few removed pixels to all but one."""
    generator = torch.Generator().manual_seed(seed + math.prod(space))
    images = torch.randn(count, channels, *space, generator=generator)
    ranks = torch.rand(count, math.prod(space), generator=generator).argsort(1).argsort(1)
    most = math.prod(space) - 1
    counts = torch.tensor([1 + (most - 1) * number // max(count - 1, 1) for number in range(count)])
    return images, (ranks < counts[:, None]).view(count, *space)


def solved(image: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """The system written out, pixel by pixel, and solved by SciPy. image: (C, *space), removed: (*space)."""
    unknown = {tuple(place): number for number, place in enumerate(np.argwhere(removed))}
    rows, columns, values = [], [], []
    right = np.zeros((len(unknown), len(image)))
    for place, number in unknown.items():
        around = {}
        for offset in itertools.product((-1, 0, 1), repeat=removed.ndim):
            there = tuple(np.add(place, offset))
            if any(offset) and all(0 <= at < length for at, length in zip(there, removed.shape, strict=True)):
                around[there] = 2.0 ** offset.count(0)
        rows.append(number), columns.append(number), values.append(1.0)
        for there, weight in around.items():
            share = weight / sum(around.values())
            if there in unknown:
                rows.append(number), columns.append(unknown[there]), values.append(-share)
            else:
                right[number] += share * image[(slice(None), *there)]
    found = spsolve(csc_matrix((values, (rows, columns))), right).reshape(right.shape)
    filled = image.astype(np.float64).copy()
    filled[:, removed] = found.T
    return filled


def blobs(side: int, share: float, count: int = 1, seed: int = 0) -> torch.Tensor:
    """Masks as heatmaps have them: contiguous, some large."""
    drawn = np.random.default_rng(seed).standard_normal((count, side, side))
    smooth = torch.tensor(np.stack([gaussian_filter(one, side / 12) for one in drawn])).flatten(1)
    ranks = smooth.argsort(dim=1, descending=True).argsort(dim=1)
    return (ranks < round(share * side**2)).view(count, side, side)


# By hand


def test_one_removed_pixel_is_the_mean_of_its_eight_neighbours():
    image = torch.tensor([[[1.0, 2, 3], [4, 100, 6], [7, 8, 10]]])[None]
    removed = torch.zeros(1, 3, 3, dtype=torch.bool)
    removed[0, 1, 1] = True
    want = (2 + 4 + 6 + 8) / 6 + (1 + 3 + 7 + 10) / 12
    assert linearly_imputed(image, removed)[0, 0, 1, 1].item() == pytest.approx(want, rel=1e-6)


def test_two_removed_pixels_enter_each_others_mean():
    """x at (1, 1) and y at (1, 2): 12 x = 2 y + 2 (2 + 4 + 8) + 1 + 3 + 7 + 10, 8 y = 2 x + 2 (3 + 10) + 2 + 8."""
    image = torch.tensor([[[1.0, 2, 3], [4, 100, -50], [7, 8, 10]]])[None]
    removed = torch.zeros(1, 3, 3, dtype=torch.bool)
    removed[0, 1, 1:] = True
    x, y = np.linalg.solve([[12, -2], [-2, 8]], [49, 36])
    found = linearly_imputed(image, removed)[0, 0, 1]
    assert found.tolist() == pytest.approx([4, x, y], rel=1e-6)


@pytest.mark.parametrize(("place", "want"), [
    ((0, 0), (2 * 2 + 2 * 4 + 5) / 5),  # a corner has three neighbours, 1/6 + 1/6 + 1/12 = 5/12
    ((0, 1), (2 * 1 + 2 * 3 + 2 * 5 + 4 + 6) / 8),  # a border has five, 8/12
])  # fmt: skip
def test_weights_beyond_the_border_are_left_out_and_the_rest_rescaled(place, want):
    image = torch.arange(1.0, 10).view(1, 1, 3, 3)
    removed = torch.zeros(1, 3, 3, dtype=torch.bool)
    removed[(0, *place)] = True
    assert linearly_imputed(image, removed)[(0, 0, *place)].item() == pytest.approx(want, rel=1e-6)


def test_a_series_is_interpolated_and_a_cube_has_26_neighbours():
    series = torch.tensor([[[9.0, 1, 9, 9, 9, 5, 9]]])
    removed = torch.tensor([[True, False, True, True, True, False, True]])
    np.testing.assert_allclose(linearly_imputed(series, removed)[0, 0], [1, 1, 2, 3, 4, 5, 5], rtol=1e-6)
    cube, one = torch.zeros(1, 1, 3, 3, 3), torch.zeros(1, 3, 3, 3, dtype=torch.bool)
    one[0, 1, 1, 1] = True
    cube[0, 0, 0, 1, 1], cube[0, 0, 0, 0, 1], cube[0, 0, 0, 0, 0] = 1, 10, 100  # face, edge, corner
    found = linearly_imputed(cube, one)[0, 0, 1, 1, 1].item()
    assert found == pytest.approx((4 * 1 + 2 * 10 + 1 * 100) / (6 * 4 + 12 * 2 + 8), rel=1e-6)


# Against a sparse direct solver


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_it_is_the_solution_of_the_system_written_out(space):
    images, removed = case(space)
    found = linearly_imputed(images, removed)
    assert found.dtype == images.dtype
    for image, mask, one in zip(images.numpy(), removed.numpy(), found.numpy(), strict=True):
        np.testing.assert_allclose(one, solved(image, mask), atol=1e-5)
        assert np.array_equal(one[:, ~mask], image[:, ~mask])


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("contiguous", [True, False])
def test_so_is_an_image_of_224(share, contiguous):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(1, 3, 224, 224, generator=generator)
    removed = blobs(224, share) if contiguous else torch.rand(1, 224, 224, generator=generator) < share
    found = linearly_imputed(images, removed)[0].numpy()
    np.testing.assert_allclose(found, solved(images[0].numpy(), removed[0].numpy()), atol=1e-5)


def test_one_pixel_that_is_left_fills_the_image():
    images, removed = torch.randn(2, 3, 224, 224), torch.ones(2, 224, 224, dtype=torch.bool)
    removed[0, 0, 0] = removed[1, 100, 37] = False
    found = linearly_imputed(images, removed)
    for row, place in enumerate([(0, 0), (100, 37)]):
        want = images[(row, slice(None), *place)].view(3, 1, 1).expand(3, 224, 224)
        torch.testing.assert_close(found[row], want, rtol=0, atol=1e-5)


# What it must keep


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_constant_image_stays_constant(space):
    images, removed = case(space)
    torch.testing.assert_close(linearly_imputed(torch.full_like(images, 3), removed), torch.full_like(images, 3))


@pytest.mark.parametrize("space", [(30,), (20, 30), (9, 10, 11)], ids=str)
def test_a_ramp_stays_a_ramp_inside(space):
    """Each pixel of a ramp is the mean of those around it, but at the border, where they lie on one side."""
    ramp = sum((1 + axis) * torch.arange(length).view(*[-1 if axis == a else 1 for a in range(len(space))])
               for axis, length in enumerate(space))  # fmt: skip
    _, removed = case(space)
    inside = torch.zeros(space, dtype=torch.bool)
    inside[tuple(slice(1, -1) for _ in space)] = True
    images = ramp.expand(4, 1, *space).float()
    torch.testing.assert_close(linearly_imputed(images, removed & inside), images, rtol=0, atol=1e-5 * images.max())


def test_imputed_values_lie_between_those_that_are_left():
    images, removed = case((33, 40))
    found = linearly_imputed(images, removed)
    for image, mask, one in zip(images, removed, found, strict=True):
        for channel in range(2):
            left = image[channel][~mask]
            assert one[channel].min() >= left.min() - 1e-5
            assert one[channel].max() <= left.max() + 1e-5


@pytest.mark.parametrize("scale", [2.0**-60, 2.0**60])
def test_scale_does_not_matter_to_the_last_bit(scale):
    images, removed = case((33, 40))
    assert torch.equal(linearly_imputed(images * scale, removed), linearly_imputed(images, removed) * scale)


@pytest.mark.parametrize("space", [(64,), (40, 40), (224, 224), (9, 10, 11)], ids=str)
def test_a_batch_gives_what_its_images_give_to_the_last_bit(space):
    images, removed = case(space)
    images[1] = 0  # solved before all others
    together = linearly_imputed(images, removed)
    for row in range(len(images)):
        part = slice(row, row + 1)
        assert torch.equal(linearly_imputed(images[part], removed[part])[0], together[row])
    backwards = [2, 0, 3, 1]
    assert torch.equal(linearly_imputed(images[backwards], removed[backwards]), together[backwards])
    laid_out = images.transpose(1, -1).contiguous().transpose(1, -1)
    assert torch.equal(linearly_imputed(laid_out, removed), together)
    for channel in range(2):
        alone = linearly_imputed(images[:, channel : channel + 1], removed)
        assert torch.equal(alone, together[:, channel : channel + 1])


@pytest.mark.parametrize("space", [(1,), (7,), (5, 6), (4, 3, 5)], ids=str)
def test_where_nothing_is_left_or_finite_it_is_refused(space):
    images, _ = case(space)
    removed = torch.ones(4, *space, dtype=torch.bool)
    removed[1:] = False
    with pytest.raises(rapbench.RapbenchError, match="is a pixel left in each image"):
        linearly_imputed(images, removed)
    removed[0, 0] = False
    images[0] = torch.nan
    with pytest.raises(rapbench.RapbenchError, match="are all values finite"):
        linearly_imputed(images[:1], ~removed[:1] if math.prod(space) == 1 else removed[:1])


# What solves it


@pytest.mark.parametrize("space", [(16,), (9, 7), (6, 5, 4)], ids=str)
def test_coarse_operators_are_galerkins(space):
    """P' A P written out as matrices, on every level; each is symmetric, and Jacobi's steps shrink every error."""
    _, removed = case(space, count=3)
    levels = imputation.hierarchy(imputation.Neighbours.of(removed[:, None], torch.float64))

    def matrices(operator, shape):
        units = torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)[None].expand(3, -1, *shape)
        return operator.mask_of(operator.apply(operator.mask_of(units))).flatten(2).transpose(1, 2)

    for fine, coarse in itertools.pairwise(levels):
        shapes = [level.step.shape[2:] for level in (fine, coarse)]
        size = math.prod(shapes[1])
        hats = torch.eye(size, dtype=torch.float64).view(1, size, *shapes[1])
        up = imputation.interpolated(hats, shapes[0]).flatten(2)[0].T
        down = imputation.restricted(torch.eye(len(up), dtype=torch.float64).view(1, -1, *shapes[0])).flatten(2)[0].T
        assert torch.equal(down, up.T)
        assert torch.equal(up.sum(1), torch.ones(len(up), dtype=torch.float64))
        matrix = matrices(fine, shapes[0])
        torch.testing.assert_close(matrix, matrix.transpose(1, 2), rtol=0, atol=1e-12)
        torch.testing.assert_close(matrices(coarse, shapes[1]), up.T @ matrix @ up, rtol=0, atol=1e-12)
        root = fine.step.flatten(1).sqrt()
        steps = torch.linalg.eigvalsh(root[:, :, None] * matrix * root[:, None])
        assert steps.max() < 2 - 1e-6
        assert steps.min() > -1e-12
    assert math.prod(levels[-1].step.shape[2:]) == 1


@pytest.mark.parametrize("space", [(16,), (9, 7), (6, 5, 4)], ids=str)
def test_the_preconditioner_is_symmetric_and_positive_definite(space):
    _, removed = case(space, count=3)
    levels = imputation.hierarchy(imputation.Neighbours.of(removed[:, None], torch.float64))
    units = torch.eye(math.prod(space), dtype=torch.float64).view(1, -1, *space).expand(3, -1, *space)
    found = imputation.cycle(levels, levels[0].mask_of(units)).flatten(2)
    for matrix, mask in zip(found, removed.flatten(1), strict=True):
        part = matrix[mask][:, mask]
        torch.testing.assert_close(part, part.T, rtol=0, atol=1e-12)
        assert torch.linalg.eigvalsh(part).min() > 0


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 1000, 50176])
def test_inner_products_are_summed_in_an_order_of_their_own(count):
    generator = torch.Generator().manual_seed(count)
    x, y = torch.randn(2, 5, 3, count, generator=generator)
    found = imputation.inner(x, y)
    np.testing.assert_allclose(found.flatten(), (x.double() * y.double()).sum(2).flatten(), atol=1e-3)
    assert torch.equal(imputation.inner(x[2:3], y[2:3]), found[2:3])


# The protocol


def batch(images, heatmaps, size=8, ids="abcde", shared=None):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 7)).double()

    def forward(inputs):
        with torch.no_grad():
            return torch.cat([net(one[None].double()) for one in inputs])  # one by one: no rounding of its own

    labels = torch.arange(len(images)) % 7
    return Batch(images, labels, heatmaps, forward, lambda: forward(images), list(ids), 5, None, size, shared or {})


def protocol_case(count=5, side=12):
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(count, 3, side, side, generator=generator)
    return images, torch.randn(count, side, side, generator=generator).mul(3).round().div(4)  # with ties and zeros


@pytest.mark.parametrize("output", ["probability", "logit"])
def test_the_protocol_is_as_written_out(output):
    """Sorted in Python, solved by SciPy, with the noise drawn by its definition."""
    images, heatmaps = protocol_case()
    shares = ["1%", "30%", "55.5%", "99%"]
    given = batch(images, heatmaps)
    protocol = Road(shares=shares, output=output)
    table = table_of(given, protocol, protocol.variants(("positive",)))
    at = 0
    for order, row in itertools.product(("morf", "lerf"), range(5)):
        values = heatmaps[row].flatten().tolist()
        ranked = sorted(range(144), key=lambda place: ((-1 if order == "morf" else 1) * values[place], place))
        drawn = random_uniform(torch.tensor([seed_of(5, "abcde"[row], "road")]), 432)[0].double()
        noise = (0.01 * math.sqrt(2) * torch.erfinv(drawn)).view(3, 12, 12)
        for share, number in zip(shares, (1, 43, 80, 143), strict=True):
            removed = np.zeros(144, dtype=bool)
            removed[ranked[:number]] = True
            removed = removed.reshape(12, 12)
            filled = torch.tensor(solved(images[row].numpy(), removed)) + noise * torch.tensor(removed)
            logits = given.forward(filled[None])[0]
            want = logits if output == "logit" else logits.softmax(0)
            assert (table["variant"][at], table["row"][at], table["k"][at]) == (order, row, share)
            assert table["predicted"][at] == logits.argmax()
            assert table["accuracy"][at] == (logits.argmax() == row)
            assert table[output][at] == pytest.approx(want[row].item(), abs=2e-5)
            at += 1
    assert at == len(table["row"])


def test_both_orders_are_there_whatever_the_signs():
    for signs in (("positive",), ("positive", "negative"), ("negative",)):
        assert list(Road().variants(signs)) == ["morf", "lerf"]
    assert Road().variants(("positive",))["lerf"] == [f"{share}%" for share in range(10, 100, 10)]
    better = {metric.name: metric.better for metric in Road().metrics if not metric.detail}
    assert set(better) == {"accuracy", "probability"}
    assert all(one == {"morf": "lower", "lerf": "higher"} for one in better.values())


def test_methods_orders_and_shares_meet_the_same_noise():
    """A constant image shows it: what is removed is the constant again, and the noise."""
    images = torch.full((2, 3, 12, 12), 2.0)
    seen = []

    def forward(inputs):
        seen.append(inputs)
        return inputs.flatten(1)[:, :7]

    shared = {}
    for seed in (0, 1):
        heatmaps = torch.randn(2, 12, 12, generator=torch.Generator().manual_seed(seed))
        given = Batch(images, torch.zeros(2, dtype=torch.int64), heatmaps, forward, lambda: images.flatten(1)[:, :7],
                      ["a", "b"], shared=shared, size=2)  # fmt: skip
        table_of(given, Road(), Road().variants(()))
    assert len(seen) == 36
    added = torch.stack(seen) - 2
    for row in range(2):
        whole = torch.zeros(3, 12, 12)
        for one in added[:, row]:
            here = one != 0
            known = here & (whole != 0)
            torch.testing.assert_close(one[known], whole[known], rtol=0, atol=1e-6)
            whole = torch.where(here, one, whole)
        assert (whole != 0).all()
        assert whole.std() == pytest.approx(0.01, rel=0.1)
    assert not torch.allclose(added[0, 0], added[0, 1])


def test_the_noise_is_normal():
    drawn = random_normal(torch.tensor([seed_of("a"), seed_of("b")]), 100000)
    assert drawn.dtype == torch.float32
    for row in drawn.double():
        assert row.mean().abs() < 0.015
        assert row.std().item() == pytest.approx(1, abs=0.01)
        quantiles = torch.tensor([0.025, 0.16, 0.5, 0.84, 0.975], dtype=torch.float64)
        want = torch.special.ndtri(quantiles)
        torch.testing.assert_close(row.quantile(quantiles), want, rtol=0, atol=0.03)
    assert torch.equal(random_normal(torch.tensor([seed_of("b")]), 50)[0], drawn[1, :50])


def test_without_noise_what_is_asked_about_is_the_imputation():
    images, heatmaps = protocol_case()
    seen = []
    given = batch(images, heatmaps)
    asked = given.forward
    given.forward = lambda inputs: (seen.append(inputs), asked(inputs))[1]
    Road(noise=0.0, shares=["50%"]).evaluate(given, "morf", ["50%"])
    ranks = heatmaps.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    assert torch.equal(torch.cat(seen), linearly_imputed(images, (ranks < 72).view(5, 12, 12)))


@pytest.mark.parametrize("size", [1, 3, 8, 100])
def test_batches_and_orders_of_images_give_the_same_to_the_last_bit(size):
    images, heatmaps = protocol_case()
    want = table_of(batch(images, heatmaps), Road(), Road().variants(()))
    found = table_of(batch(images, heatmaps, size), Road(), Road().variants(()))
    for column in want:
        assert np.array_equal(found[column], want[column])
    part = [3, 1]
    given = batch(images[part], heatmaps[part], size, ids="db")
    given.labels = torch.tensor(part)
    few = table_of(given, Road(), Road().variants(()))
    for row, number in enumerate(part):
        for column in ("probability", "accuracy", "predicted"):
            assert np.array_equal(few[column][few["row"] == row], want[column][want["row"] == number])


@pytest.mark.parametrize(("shares", "says"), [
    (["10%", "100%"], "below 100%.* got '100%'"), (["0%"], "above 0"), (["20%", "10%"], "ascend"),
    (["10%", "10%"], "ascend"), ([], "ascend, and hold at least one"), (["all"], "such as 0.5% or 20%"),
    (["10"], "shares of all pixels"),
])  # fmt: skip
def test_shares_that_are_none_are_refused(shares, says):
    with pytest.raises(rapbench.RapbenchError, match=f"^shares must .*{says}"):
        Road(shares=shares)


@pytest.mark.parametrize(("shares", "says"), [
    (["1%", "50%"], "1%, which is no pixel: an input has 25 pixels"),
    (["50%", "99%"], "99%, which is every pixel: an input has 25 pixels"),
    (["4%", "5%"], "5%, which is as many as the share before"),
])  # fmt: skip
def test_shares_that_an_input_does_not_have_are_refused(shares, says):
    with pytest.raises(rapbench.RapbenchError, match=says):
        Road(shares=shares).check((5, 5))


def test_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    wanted = ["run", f"model={SMALL}", "method=[rap,random]", "protocol=[road]", "subset.n=3", "gallery=0"]
    assert main([*wanted, "name=whole"]) == 0
    assert main([*wanted, "name=parts", "chunk=1", "batch=1"]) == 0
    whole, parts = (rapbench.load_results(tmp_path / "results" / name).frame for name in ("whole", "parts"))
    keys = ["input", "method", "variant", "k", "metric"]
    for frame in (whole, parts):
        assert len(frame) == 3 * 2 * 2 * 9 * 3
        assert set(frame["k"]) == {f"{share}%" for share in range(10, 100, 10)}
    merged = whole.merge(parts, on=keys, suffixes=("", "_parts"))
    assert len(merged) == len(whole)
    np.testing.assert_allclose(merged["value"], merged["value_parts"], atol=1e-5)
    capsys.readouterr()
    assert main([*wanted, "name=none", "protocol.road.shares=[50%,100%]"]) == 2
    assert "protocol 'road': shares must hold" in capsys.readouterr().err
    assert main([*wanted, "name=none", "protocol.road.shares=[0.001%]"]) == 2
    assert "0.001%, which is no pixel" in capsys.readouterr().err


@pytest.mark.parametrize("space", [(40,), (8, 9), (5, 6, 7)], ids=str)
def test_series_images_and_cubes_are_evaluated(space):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(space), 3))
    results = rapbench.evaluate(network, torch.randn(3, 1, *space), methods=["gradient_x_input", "random"],
                                protocols=["road"])  # fmt: skip
    frame = results.frame
    assert len(frame) == 3 * 2 * 2 * 9 * 3
    assert np.isfinite(frame["value"]).all()
