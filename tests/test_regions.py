"""Region perturbation and AOPC: by hand, against a slow dense reference, and what must not change a number."""

import itertools

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import rapbench
from rapbench.core.random import random_keys, random_uniform, seed_of
from rapbench.evaluation.answers import table_of
from rapbench.protocols.base.batch import Batch
from rapbench.protocols.regions import ORDERS, RegionPerturbation, regions

FILLS = ["uniform", "blur", "mean", "image_min", "channel_min", "pixel_space_min", "zero"]
MOMENTS = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.5])
SEEDS = torch.tensor([seed_of("image", i) for i in range(5)])


def case(count=5, height=29, width=34, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, height, width, generator=generator, dtype=torch.float64)
    return images, torch.randn(count, height, width, generator=generator, dtype=torch.float64)


def linear(height=29, width=34):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * height * width, 7)).double()


def batch_of(net, images, heatmaps, labels, size, names=range(5)):
    ids = [f"image {name}" for name in names]
    return Batch(images, labels, heatmaps, net, lambda: net(images), ids, 0, MOMENTS, size)


def test_four_regions_by_hand():
    """A 4 x 4 image of 2 x 2 regions, whose sums are 10, -3, 0 and 4: no single pixel tells their order."""
    heatmap = torch.tensor([[[5.0, 5, 20, -20], [0, 0, -3, 0], [-9, 9, 1, 1], [3, -3, 1, 1]]])
    image = torch.arange(16.0).view(1, 1, 4, 4) - 1
    made = regions(image, heatmap, SEEDS[:1], size=2, steps=4, fill="zero")
    blank = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]  # the pixels of each region
    for order, first in (("morf", [0, 3, 2, 1]), ("lerf", [1, 2, 3, 0])):
        want = image.clone()
        assert torch.equal(made.after(order, [0], torch.tensor([0])), want)
        for step, region in enumerate(first, start=1):
            want.view(-1)[blank[region]] = 0  # cumulative
            assert torch.equal(made.after(order, [0], torch.tensor([step])), want)
    drawn = [made.after("random", [0], torch.tensor([step])) for step in range(5)]
    emptied = [(drawn[step] != drawn[step + 1]).sum() for step in range(4)]
    assert sorted(emptied) in ([3, 4, 4, 4], [4, 4, 4, 4])  # the pixel of value 0 stays as it is
    assert (drawn[4] == 0).all()


def test_what_is_left_over_at_the_border_is_never_replaced():
    images, heatmaps = case(height=11, width=14)  # 3 x 4 regions of 3 x 3, a border of 1 and 1, of 1 and 1
    made = regions(images, heatmaps, SEEDS, size=3, steps=12, fill="zero")
    last = made.after("morf", list(range(5)), torch.tensor([12] * 5))
    assert (last[:, :, 1:10, 1:13] == 0).all()
    for part in (np.s_[..., :1, :], np.s_[..., 10:, :], np.s_[..., :, :1], np.s_[..., :, 13:]):
        assert torch.equal(last[part], images[part])
    heatmaps[:, 0] = heatmaps[:, 10] = 1e9  # nor does it count
    again = regions(images, heatmaps, SEEDS, size=3, steps=12, fill="zero")
    assert torch.equal(again.turns["morf"], made.turns["morf"])


def replaced_one_by_one(image, heatmap, seed, order, size, steps, fill, moments=MOMENTS):
    """The images after 0 to `steps` steps, (steps + 1, C, H, W): loops over regions, pixels and channels."""
    channels, height, width = image.shape
    down, across = height // size, width // size
    top, left = (height - down * size) // 2, (width - across * size) // 2
    corners = [(top + r * size, left + c * size) for r in range(down) for c in range(across)]
    sums = [sum(float(heatmap[y + i, x + j]) for i in range(size) for j in range(size)) for y, x in corners]
    keys = random_keys(torch.tensor([seed]), len(corners))[0].tolist()
    rank = {"morf": [-s for s in sums], "lerf": sums, "random": keys}[order]
    path = sorted(range(len(corners)), key=lambda region: (rank[region], region))
    mean, std = (values.double() for values in moments)
    draws = random_uniform(torch.tensor([seed]), len(corners) + channels * height * width)[0, len(corners) :].double()
    smooth = np.stack([gaussian_filter(plane, 3, mode="mirror", truncate=4) for plane in image.numpy()])
    darkest = min(float(image[c].min() * std[c] + mean[c]) for c in range(channels))
    states = [image.clone()]
    for region in path[:steps]:
        now = states[-1].clone()
        y, x = corners[region]
        for c, i, j in itertools.product(range(channels), range(y, y + size), range(x, x + size)):
            now[c, i, j] = {
                "uniform": ((draws[(c * height + i) * width + j] + 1) / 2 - mean[c]) / std[c],
                "blur": float(smooth[c, i, j]),
                "mean": image[c].mean(),
                "image_min": image.min(),
                "channel_min": image[c].min(),
                "pixel_space_min": (darkest - mean[c]) / std[c],
                "zero": 0.0,
            }[fill]
        states.append(now)
    return torch.stack(states)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("fill", "size", "steps", "output"), [
    *[(fill, 5, 12, "logit") for fill in FILLS], ("uniform", 1, 40, "probability"), ("blur", 9, 9, "probability"),
])  # fmt: skip
def test_every_option_against_a_loop_over_steps(order, fill, size, steps, output):
    images, heatmaps = case()
    labels, net = torch.tensor([0, 6, 3, 2, 5]), linear()
    with torch.no_grad():
        given = batch_of(net, images, heatmaps, labels, 8)
        protocol = RegionPerturbation(size=size, steps=steps, fill=fill, output=output)
        found = table_of(given, protocol, {order: list(range(steps + 1))})
        made = regions(
            images, heatmaps, given.seeds("regions"), size=size, steps=steps, fill=fill, normalisation=MOMENTS
        )
        for row in range(5):
            states = replaced_one_by_one(
                images[row], heatmaps[row], int(given.seeds("regions")[row]), order, size, steps, fill
            )
            got = made.after(order, [row] * len(states), torch.arange(len(states)))
            torch.testing.assert_close(got, states, rtol=0, atol=1e-6 if fill == "blur" else 1e-12)
            logits = net(states)
            wanted = logits.softmax(1) if output == "probability" else logits
            part = slice(row * (steps + 1), (row + 1) * (steps + 1))
            assert found["k"][part].tolist() == list(map(str, range(steps + 1)))
            assert (found["row"][part] == row).all()
            assert found[output][part] == pytest.approx(wanted[:, labels[row]].numpy(), rel=1e-5, abs=1e-6)
            assert (found["predicted"][part] == logits.argmax(1).numpy()).all()
            assert (found["accuracy"][part] == (logits.argmax(1) == labels[row]).numpy()).all()


def test_uniform_values_span_the_range_of_pixels():
    images, heatmaps = case(count=2, height=90, width=90)
    made = regions(images, heatmaps, SEEDS[:2], fill="uniform", normalisation=MOMENTS)
    mean, std = (values.view(3, 1, 1) for values in MOMENTS)
    pixels = made.fills * std + mean
    assert pixels.min() > 0
    assert pixels.max() < 1
    assert torch.histc(pixels, 10, 0, 1).div(pixels.numel() / 10).sub(1).abs().max() < 0.05
    assert len(pixels.unique()) > 0.99 * pixels.numel()  # each pixel and channel for itself
    with pytest.raises(rapbench.RapbenchError, match="fill=uniform needs the mean and std of the model's channels"):
        regions(images, heatmaps, SEEDS[:2])


def test_a_region_becomes_the_same_in_every_order_at_every_step():
    images, heatmaps = case()
    made = regions(images, heatmaps, SEEDS, size=5, steps=30, normalisation=MOMENTS)
    other = regions(images, -3 * heatmaps.roll(1, 2), SEEDS, size=5, steps=7, normalisation=MOMENTS)
    assert torch.equal(made.fills, other.fills)
    assert torch.equal(made.turns["random"], other.turns["random"])  # whatever the method says
    ends = [made.after(order, [2], torch.tensor([30])) for order in ORDERS]
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])


def test_least_relevant_first_is_most_relevant_first_reversed():
    images, heatmaps = case()
    turns = regions(images, heatmaps, SEEDS, size=4, steps=1, fill="zero").turns
    there = turns["morf"] <= 56  # 7 x 8 regions
    assert torch.equal(turns["lerf"][there], 57 - turns["morf"][there])
    ties = regions(images, torch.zeros_like(heatmaps), SEEDS, size=4, steps=1, fill="zero").turns
    assert torch.equal(ties["lerf"], ties["morf"])  # of equal regions the first comes first, in both
    assert ties["morf"][0, 0, 1, 1::4][:8].tolist() == list(range(1, 9))


def test_random_orders_differ_from_image_to_image_and_are_uniform():
    images, heatmaps = torch.zeros(2000, 1, 2, 2), torch.zeros(2000, 2, 2)
    seeds = torch.tensor([seed_of("draw", i) for i in range(2000)])
    turns = regions(images, heatmaps, seeds, size=1, steps=4, fill="zero").turns["random"].flatten(1)
    _, counts = np.unique(turns.numpy(), axis=0, return_counts=True)
    assert len(counts) == 24
    assert ((counts - 2000 / 24) ** 2 / (2000 / 24)).sum() < 49.7  # chi-square, 23 degrees of freedom, p = 0.001


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("batch", [1, 4, 100])
def test_batches_are_singles_and_a_shorter_run_begins_a_longer_one(fill, batch):
    images, heatmaps = case()
    labels, net = torch.tensor([0, 6, 3, 2, 5]), linear()

    def run(rows, steps, batch):
        with torch.no_grad():
            given = batch_of(net, images[rows], heatmaps[rows], labels[rows], batch, rows)
            protocol = RegionPerturbation(steps=steps, size=5, fill=fill)
            return table_of(given, protocol, {"random": list(range(steps + 1))})["logit"].reshape(-1, steps + 1)

    whole = run([0, 1, 2, 3, 4], 20, batch)
    for row in range(5):
        assert whole[row] == pytest.approx(run([row], 20, 7)[0], abs=1e-6)
    assert whole[:, :8] == pytest.approx(run([0, 1, 2, 3, 4], 7, 3), abs=1e-6)
    assert whole[[3, 1]] == pytest.approx(run([3, 1], 20, 5), abs=1e-6)


def test_passes_are_full_batches_and_nothing_grows_with_the_steps():
    images, heatmaps = case()
    sizes = []

    def forward(batch):
        sizes.append(len(batch))
        return torch.zeros(len(batch), 3)

    labels = torch.zeros(5, dtype=torch.int64)
    given = Batch(images, labels, heatmaps, forward, lambda: torch.zeros(5, 3), list("abcde"))
    table_of(given, RegionPerturbation(size=2, steps=200, fill="zero"), {"morf": list(range(201))})
    assert sizes == [8] * 125
    small, large = (regions(images, heatmaps, SEEDS, size=2, steps=steps, fill="zero") for steps in (1, 200))
    for one, other in zip((small.fills, *small.turns.values()), (large.fills, *large.turns.values()), strict=True):
        assert one.shape == other.shape


@pytest.mark.parametrize(("options", "says"), [
    ({"size": 5, "steps": 31}, r"steps=31 is more than there are regions: 29 x 34 pixels have 30 of 5 x 5; take fewer"),
    ({"size": 35, "steps": 1}, r"29 x 34 pixels have 0 of 35 x 35"),
])  # fmt: skip
def test_more_steps_than_regions_are_refused(options, says):
    images, heatmaps = case()
    with pytest.raises(rapbench.RapbenchError, match=says):
        regions(images, heatmaps, SEEDS, fill="zero", **options)
    regions(images, heatmaps, SEEDS, fill="zero", size=5, steps=30)
