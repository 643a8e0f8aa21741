"""Rankings, perturbations, D_K, regions and controls in one, two and three dimensions, against loops written out."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn
from torchvision.transforms import functional as vision

import rapbench
from rapbench.core.random import random_keys, random_uniform, seed_of
from rapbench.heatmaps.summed import heatmaps_of
from rapbench.methods import methods
from rapbench.protocols import protocols
from rapbench.protocols.base.blur import gaussian_blur
from rapbench.protocols.base.perturbation import Perturbation
from rapbench.protocols.base.ranking import rank_pixels
from rapbench.protocols.distance import distance
from rapbench.protocols.regions import ORDERS, regions
from rapbench.protocols.removal import Removal

SPACES = [(7,), (13,), (5, 6), (1, 9), (4, 3, 5), (2, 8, 2)]
CHANNELS = [1, 4]
FILLS = ["image_min", "channel_min", "mean", "zero", "pixel_space_min"]
PERTURBATIONS = [name for name in protocols if issubclass(protocols[name].function, Perturbation)]

pytestmark = pytest.mark.parametrize("space", SPACES, ids=str)


def case(space, channels=3, count=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(math.prod(space))
    images = torch.randn(count, channels, *space, generator=generator, dtype=dtype)
    heatmaps = torch.randn(count, *space, generator=generator, dtype=dtype)
    return images, heatmaps.mul(4).round().div(4)  # with ties and zeros, and sums that are exact


def positions(space):
    """All positions in the order in which a heatmap is flattened."""
    return list(itertools.product(*map(range, space)))


def moments(channels):
    return torch.linspace(0.1, 0.6, channels), torch.linspace(0.2, 0.5, channels)


def ranked(heatmap, sign):
    places = positions(heatmap.shape)
    values = [float(heatmap[place]) * (1 if sign == "positive" else -1) for place in places]
    chosen = [number for number in range(len(places)) if values[number] > 0]
    return [places[number] for number in sorted(chosen, key=lambda number: (-values[number], number))]


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("sign", ["positive", "negative"])
@pytest.mark.parametrize("fill", FILLS)
def test_removal(space, channels, sign, fill):
    images, heatmaps = case(space, channels)
    ranking = rank_pixels(heatmaps, sign)
    counts = torch.tensor([0, 2, 1000]).minimum(ranking.count)
    mean, std = moments(channels)
    got = Removal(fill=fill).perturbed(images, ranking.order, counts, counts, (mean, std))
    assert got.shape == images.shape
    for image, heatmap, count, found in zip(images, heatmaps, counts.tolist(), got, strict=True):
        want = image.clone()
        darkest = min(float(image[c].min()) * float(std[c]) + float(mean[c]) for c in range(channels))
        for place in ranked(heatmap, sign)[:count]:
            for c in range(channels):
                want[(c, *place)] = {
                    "image_min": image.min(),
                    "channel_min": image[c].min(),
                    "mean": image[c].mean(),
                    "zero": 0.0,
                    "pixel_space_min": (darkest - float(mean[c])) / float(std[c]),
                }[fill]
        torch.testing.assert_close(found, want, rtol=0, atol=1e-6 if fill == "pixel_space_min" else 1e-12)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_perturbation_changes_whole_pixels_and_those_selected_alone(space, name):
    images, heatmaps = case(space)
    ranking = rank_pixels(heatmaps, "positive")
    counts = torch.tensor([0, 3, 1000]).minimum(ranking.count)
    seeds = torch.tensor([seed_of(number) for number in range(3)])
    protocol = protocols[name].function()
    got = protocol.perturbed(images, ranking.order, counts, seeds, None)
    flat = protocol.perturbed(images.flatten(2), ranking.order, counts, seeds, None)
    assert torch.equal(got.flatten(2), flat)  # a pixel is a position, wherever it lies
    for image, heatmap, count, found in zip(images, heatmaps, counts.tolist(), got, strict=True):
        chosen = set(ranked(heatmap, "positive")[:count])
        for place in positions(space):
            if place not in chosen:
                assert torch.equal(found[(slice(None), *place)], image[(slice(None), *place)])


@pytest.mark.parametrize("norm", ["euclidean", "squared"])
def test_d_k(space, norm):
    _, heatmaps = case(space)
    ranking = rank_pixels(heatmaps, "positive")
    ks = [0, 1, 3, 10**6]
    counts = torch.stack([ranking.selected(k) for k in ks], 1)
    got = distance(ranking.order, counts, space, norm=norm)
    for heatmap, found in zip(heatmaps, got, strict=True):
        path = ranked(heatmap, "positive")
        for k, value in zip(ks, found.tolist(), strict=True):
            apart = [math.dist(path[0], place) ** (2 if norm == "squared" else 1) for place in path[:k]]
            assert value == pytest.approx(sum(apart) / len(apart) if apart else math.nan, nan_ok=True)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("fill", ["uniform", "blur", "zero"])
def test_regions(space, channels, size, fill):
    images, heatmaps = case(space, channels)
    seeds = torch.tensor([seed_of("image", number) for number in range(3)])
    counts = [length // size for length in space]
    steps = math.prod(counts)
    if steps == 0:
        with pytest.raises(rapbench.RapbenchError, match="more than there are regions"):
            regions(images, heatmaps, seeds, size=size, steps=1, fill="zero")
        return
    mean, std = moments(channels)
    made = regions(images, heatmaps, seeds, size=size, steps=steps, fill=fill, normalisation=(mean, std))
    first = [(length - count * size) // 2 for length, count in zip(space, counts, strict=True)]
    corners = [tuple(f + at * size for f, at in zip(first, place, strict=True)) for place in positions(counts)]
    for row in range(3):
        drawn = random_uniform(seeds[row : row + 1], steps + images[0].numel())[0, steps:].double()
        draws = ((drawn + 1) / 2).view(images[0].shape)
        keys = random_keys(seeds[row : row + 1], steps)[0].tolist()
        inside = [[tuple(c + d for c, d in zip(corner, offset, strict=True))
                   for offset in positions([size] * len(space))] for corner in corners]  # fmt: skip
        sums = [sum(float(heatmaps[row][place]) for place in places) for places in inside]
        by = {"morf": [-value for value in sums], "lerf": sums, "random": keys}
        for order in ORDERS:
            path = sorted(range(steps), key=lambda region, values=by[order]: (values[region], region))
            now = images[row].clone()
            for step, region in enumerate(path, start=1):
                for c, place in itertools.product(range(channels), inside[region]):
                    now[(c, *place)] = (
                        {
                            "zero": 0.0,
                            "uniform": (draws[(c, *place)] - mean[c].double()) / std[c].double(),
                            "blur": float(gaussian_filter(images[row, c].numpy(), 3, mode="mirror", truncate=4)[place]),
                        }[fill]
                        if step < 4 or step == steps
                        else made.fills[row][(c, *place)]
                    )
                got = made.after(order, [row], torch.tensor([step]))[0]
                if step < 4 or step == steps:
                    torch.testing.assert_close(got, now, rtol=0, atol=1e-6)


def test_blur_is_scipys_and_torchvisions(space):
    images, _ = case(space)
    got = gaussian_blur(images, 1.25)  # reaches 5 pixels
    want = [[gaussian_filter(plane, 1.25, mode="mirror", radius=5) for plane in image] for image in images.numpy()]
    np.testing.assert_allclose(got.numpy(), want, atol=1e-12)
    if len(space) == 2 and min(space) > 5:  # torchvision mirrors once only
        torch.testing.assert_close(got, vision.gaussian_blur(images, [11, 11], [1.25, 1.25]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in methods if not methods[name].facts.looks_at_model])
def test_controls(space, name):
    images, _ = case(space, dtype=torch.float32)
    relevance = rapbench.attribute(nn.Linear(1, 1), images, [0, 0, 0], name)
    assert relevance.shape == images.shape
    assert heatmaps_of(relevance).shape == (3, *space)
    assert torch.equal(relevance[:, :1].expand_as(relevance), relevance)
    if name == "random":
        assert torch.equal(relevance.flatten(2), rapbench.attribute(nn.Linear(1, 1), images.flatten(2), [0] * 3, name))
