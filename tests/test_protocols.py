"""Rankings, perturbations and D_K against naive references and by hand."""

import math
import re

import numpy as np
import pytest
import torch

import rapbench
from rapbench.core.random import random_keys, random_uniform, seed_of
from rapbench.data.subset.manifest import Row
from rapbench.evaluation.answers import table_of
from rapbench.evaluation.choice import Choice
from rapbench.evaluation.chunk import Chunk
from rapbench.methods import methods
from rapbench.model import Facts, Model
from rapbench.model.preprocessing import Preprocess
from rapbench.protocols import protocols
from rapbench.protocols.base.batch import Batch
from rapbench.protocols.base.ks import check_ks, number_of
from rapbench.protocols.base.perturbation import Perturbation
from rapbench.protocols.base.ranking import rank_pixels
from rapbench.protocols.distance import Distance, distance
from rapbench.protocols.removal import Removal
from rapbench.protocols.shuffling import Shuffling

PERTURBATIONS = [name for name in protocols if issubclass(protocols[name].function, Perturbation)]


def case(count=5, size=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, size, size, generator=generator)
    heatmaps = torch.randn(count, size, size, generator=generator).round(decimals=1)  # with ties and zeros
    return images, heatmaps


def test_splitmix64_is_the_published_sequence():
    # the first three outputs of the reference implementation for seed 1234567
    want = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [key % 2**64 for key in random_keys(torch.tensor([1234567]), 3)[0].tolist()] == want


def test_draws_depend_on_their_seed_alone():
    seeds = torch.tensor([seed_of("a", 1), seed_of("b", 1), seed_of("a", 2)])
    keys = random_keys(seeds, 50)
    assert torch.equal(random_keys(seeds[1:2], 50)[0], keys[1])
    assert torch.equal(random_keys(seeds, 20), keys[:, :20])
    assert len(set(keys.flatten().tolist())) == 150
    assert seed_of("a", "bc") != seed_of("ab", "c")
    assert abs(random_uniform(seeds, 10000).mean()) < 0.02


def test_uniform_draws_never_reach_their_bounds(monkeypatch):
    monkeypatch.setattr(
        "rapbench.core.random.random_keys", lambda seeds, count: torch.tensor([[-1, 0, 2**63 - 1, -(2**63)]])
    )
    drawn = random_uniform(torch.tensor([0]), 4)
    assert drawn.abs().max() < 1
    assert drawn.min() == -drawn.max()
    assert (drawn != 0).all()


@pytest.mark.parametrize("sign", ["positive", "negative"])
def test_the_ranking_is_a_stable_sort_by_relevance(sign):
    _, heatmaps = case()
    ranking = rank_pixels(heatmaps, sign)
    for heat, order, count in zip(heatmaps, ranking.order, ranking.count, strict=True):
        flat = heat.flatten().tolist()
        signed = [(-r if sign == "positive" else r, position) for position, r in enumerate(flat)]
        want = [position for value, position in sorted(signed) if value < 0]
        assert order[:count].tolist() == want
        assert sorted(order.tolist()) == list(range(len(flat)))


def test_k_takes_what_there_is():
    heat = torch.tensor([[[3.0, -1.0], [0.0, 2.0]]])
    ranking = rank_pixels(heat, "positive")
    assert ranking.order[0, :2].tolist() == [0, 3]
    assert [ranking.selected(k).tolist() for k in (0, 1, 5, "all")] == [[0], [1], [2], [2]]


@pytest.mark.parametrize(("ks", "says"), [
    ({"positive": [0, 500, 250]}, "k.positive must ascend"),
    ({"positive": [0, 0]}, "must ascend"),
    ({"positive": ["all", 5]}, "must ascend, with all last"),
    ({"positive": []}, "must ascend"),
    ({"negative": [0, -5]}, "whole numbers"),
    ({"negative": [0, 2.5]}, "whole numbers"),
    ({"both": [0]}, "lists for positive and/or negative"),
    ([0, 250], "lists for positive and/or negative"),
    ({"positive": "all"}, "must be a list"),
    ({"positive": [0, True]}, "whole numbers"),
    ({"positive": ["5%", "1%"]}, "must ascend"),
    ({"positive": ["5%", "5%"]}, "must ascend"),
    ({"positive": [9, "1%", 8]}, "must ascend"),
    ({"positive": ["all", "5%"]}, "must ascend, with all last"),
    *(({"positive": [0, wrong]}, rf"shares of all pixels such as 0\.5% or 20%, or all, got {re.escape(repr(wrong))} in")
      for wrong in ("0%", "0.0%", "101%", "100.1%", "-5%", "5", "5 %", "05%", "5.0%", "5.%", ".5%", "1e1%", "%", "5%%",
                    "0.05", "\u0665%", "nan%", "5%\n", "0.123456789%")),
])  # fmt: skip
def test_k_lists_that_do_not_ascend_are_refused(ks, says):
    with pytest.raises(rapbench.RapbenchError, match=says):
        check_ks(ks)


@pytest.mark.parametrize(("k", "pixels", "number"), [
    ("5%", 32768, 1638), ("5%", 50176, 2509), ("0.1%", 32768, 33), ("100%", 7, 7), ("50%", 7, 4), ("50%", 5, 2),
    ("0.0001%", 10**6, 1), ("33.3%", 1000, 333), ("all", 9, 9), (250, 9, 250), ("250", 9, 250), ("29%", 100, 29),
])  # fmt: skip
def test_a_share_is_of_all_pixels_rounded(k, pixels, number):
    """Half to even, in exact fractions: 29 % of 100 is no 28.999."""
    assert number_of(k, pixels) == number


def test_a_share_selects_what_its_number_does():
    _, heatmaps = case()
    for sign in ("positive", "negative"):
        ranking = rank_pixels(heatmaps, sign)
        for share, number in (("0.7%", 1), ("5%", 7), ("25%", 36), ("90%", 130), ("100%", 144)):
            assert torch.equal(ranking.selected(share), ranking.selected(number))
        assert torch.equal(ranking.selected("100%"), ranking.count)  # at most the sign's


@pytest.mark.parametrize("name", [*PERTURBATIONS, "distance"])
def test_a_protocol_at_a_share_has_the_numbers_of_the_count(name):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(432, 7))
    images, heatmaps = case()
    with torch.no_grad():
        clean = net(images)
    labels = torch.tensor([0, 6, 3, 2, 5])
    found = []
    for ks in (["0.7%", "5%", "90%", "all"], [1, 7, 130, "all"]):
        given = Batch(images, labels, heatmaps, net, lambda: clean, list("abcde"), size=3)
        found.append(table_of(given, protocols[name].function(), {"negative": ks}))
        assert found[-1].pop("k").tolist() == [str(k) for k in ks] * 5
    assert all(np.array_equal(found[0][column], found[1][column], equal_nan=True) for column in found[0] if column
               not in ("variant",))  # fmt: skip


def test_removal_fills_whole_pixels_with_the_images_minimum():
    images, heatmaps = case()
    ranking = rank_pixels(heatmaps, "positive")
    counts = torch.tensor([0, 1, 7, 30, 1000]).minimum(ranking.count)
    got = Removal().perturbed(images, ranking.order, counts, torch.zeros(5, dtype=torch.int64))
    for index in range(5):
        want = images[index].clone().flatten(1)
        for position in ranking.order[index, : counts[index]]:
            for channel in range(3):
                want[channel, position] = images[index].min()
        assert torch.equal(got[index].flatten(1), want)


def test_each_fill_by_hand():
    image = torch.tensor([[[1.0, 5.0]], [[-2.0, 4.0]], [[0.0, 3.0]]])[None]
    mean, std = torch.tensor([10.0, 20.0, 30.0]), torch.tensor([1.0, 2.0, 10.0])
    order, counts = torch.tensor([[1, 0]]), torch.tensor([1])
    want = {
        "image_min": [-2, -2, -2],
        "channel_min": [1, -2, 0],
        "mean": [3, 1, 1.5],
        "zero": [0, 0, 0],
        "pixel_space_min": [1, -4.5, -1.9],  # pixels are 11, 15; 16, 28; 30, 60: the darkest, 11, in each channel
    }
    for fill, values in want.items():
        got = Removal(fill=fill).perturbed(image, order, counts, counts, (mean, std))
        torch.testing.assert_close(got[0, :, 0, 1], torch.tensor(values).float())
        assert torch.equal(got[0, :, 0, 0], image[0, :, 0, 0])
    with pytest.raises(rapbench.RapbenchError, match="pixel_space_min needs"):
        Removal(fill="pixel_space_min").perturbed(image, order, counts, counts)


def test_shuffling_permutes_whole_pixels_among_the_selected_positions():
    images, heatmaps = case(count=4, size=20)
    ranking = rank_pixels(heatmaps, "negative")
    counts = torch.tensor([0, 1, 60, 400]).minimum(ranking.count)
    seeds = torch.tensor([seed_of(i) for i in range(4)])
    got = Shuffling().perturbed(images, ranking.order, counts, seeds).flatten(2)
    flat = images.flatten(2)
    for index in range(4):
        chosen = ranking.order[index, : counts[index]]
        rest = ranking.order[index, counts[index] :]
        assert torch.equal(got[index][:, rest], flat[index][:, rest])
        before, after = (sorted(map(tuple, values[index][:, chosen].T.tolist())) for values in (flat, got))
        assert before == after
        if len(chosen) > 50:
            moved = (got[index][:, chosen] != flat[index][:, chosen]).all(0)
            assert moved.float().mean() > 0.8


def splitmix64(seed: int, index: int) -> int:
    """The published generator's output number `index`, from 1, in Python's integers; signed as int64 is."""
    z = (seed + index * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    z ^= z >> 31
    return z - 2**64 if z >= 2**63 else z


@pytest.mark.parametrize("sign", ["positive", "negative"])
def test_shuffling_is_by_position_as_written_out(sign):
    images, heatmaps = case(count=6, size=9)
    ranking = rank_pixels(heatmaps, sign)
    counts = torch.tensor([0, 1, 2, 17, 30, 81]).minimum(ranking.count)
    seeds = [seed_of("image", index) for index in range(6)]
    got = Shuffling().perturbed(images, ranking.order[:, : counts.max()], counts, torch.tensor(seeds)).flatten(2)
    for index in range(6):
        want = images[index].flatten(1).clone()
        chosen = sorted(ranking.order[index, : counts[index]].tolist())
        by_key = sorted(chosen, key=lambda position: splitmix64(seeds[index], position + 1))
        for to, where in zip(chosen, by_key, strict=True):
            want[:, to] = images[index].flatten(1)[:, where]
        assert torch.equal(got[index], want)


def test_equal_selections_are_shuffled_into_equal_images_whatever_the_ranks():
    images, heatmaps = case(count=3, size=16)
    order = rank_pixels(heatmaps, "positive").order
    counts, seeds = torch.tensor([5, 100, 256]), torch.tensor([seed_of(i) for i in range(3)])
    want = Shuffling().perturbed(images, order, counts, seeds)
    assert not torch.equal(want, images)
    generator = torch.Generator().manual_seed(3)
    for _ in range(5):
        other = order.clone()
        for index, count in enumerate(counts.tolist()):
            other[index, :count] = order[index, torch.randperm(count, generator=generator)]
        assert torch.equal(Shuffling().perturbed(images, other, counts, seeds), want)
    # and whatever K it is that selects them, beside others in the batch or not
    assert torch.equal(Shuffling().perturbed(images[1:2], order[1:2, :100], counts[1:2], seeds[1:2])[0], want[1])
    assert not torch.equal(Shuffling().perturbed(images, order, counts, seeds + 1)[1], want[1])


def test_every_permutation_is_equally_likely():
    order = torch.arange(3).repeat(6000, 1)
    images = torch.arange(3.0).repeat(6000, 1).view(6000, 1, 1, 3)
    seeds = torch.tensor([seed_of("draw", i) for i in range(6000)])
    drawn = Shuffling().perturbed(images, order, torch.full((6000,), 3), seeds).view(6000, 3)
    _, counts = np.unique(drawn.numpy(), axis=0, return_counts=True)
    assert len(counts) == 6
    assert ((counts - 1000) ** 2 / 1000).sum() < 20.5  # chi-square, 5 degrees of freedom, p = 0.001


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_perturbation_does_not_depend_on_the_batch(name):
    images, heatmaps = case()
    ranking = rank_pixels(heatmaps, "positive")
    seeds = torch.tensor([seed_of(i) for i in range(5)])
    counts = torch.tensor([3, 20, 20, 0, 9]).minimum(ranking.count)
    perturbed = protocols[name].function().perturbed
    together = perturbed(images, ranking.order, counts, seeds, None)
    for i in range(5):
        s = slice(i, i + 1)
        assert torch.equal(perturbed(images[s], ranking.order[s], counts[s], seeds[s], None)[0], together[i])


def test_d_k_by_hand():
    # on a map 4 wide: r_1 = (0, 0), then (0, 3), then (4, 0): distances 0, 3, 4
    order = torch.tensor([[0, 3, 16] + [i for i in range(20) if i not in (0, 3, 16)]])
    counts = torch.tensor([[1, 2, 3, 0]])
    got = distance(order, counts, (5, 4))[0].tolist()
    assert got[:3] == pytest.approx([0, 1.5, 7 / 3])
    assert math.isnan(got[3])
    assert distance(order, counts, (5, 4), norm="squared")[0, :3].tolist() == pytest.approx([0, 4.5, 25 / 3])


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_many_pairs_in_one_pass_give_what_one_at_a_time_gives(batch):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(432, 7)).double()
    images, heatmaps = case()
    images = images.double()
    labels = torch.tensor([0, 6, 3, 2, 5])
    ranking, ks = rank_pixels(heatmaps, "positive"), [0, 2, 9, "all"]
    with torch.no_grad():
        clean = net(images)
    given = Batch(images, labels, heatmaps, net, lambda: clean, list("abcde"), size=batch)
    rows = table_of(given, Removal(), {"positive": ks})
    at = 0
    for index in range(5):
        for k in ks:
            count = min(ranking.count[index].item(), k if k != "all" else 10**9)
            image = images[index].clone().flatten(1)
            image[:, ranking.order[index, :count]] = image.min()
            with torch.no_grad():
                logits = net(image.view(1, 3, 12, 12))[0]
            assert rows["row"][at] == index
            assert rows["k"][at] == str(k)
            assert rows["selected"][at] == count
            assert rows["predicted"][at] == logits.argmax()
            assert rows["accuracy"][at] == (logits.argmax() == labels[index])
            assert rows["logit"][at] == pytest.approx(logits[labels[index]].item(), rel=1e-6)
            at += 1
    assert at == len(rows["row"])


def test_the_clean_answer_costs_no_forward_pass():
    images, heatmaps = case()
    passes = []

    def forward(batch):
        passes.append(len(batch))
        return torch.zeros(len(batch), 3)

    labels = torch.zeros(5, dtype=torch.int64)
    given = Batch(images, labels, heatmaps, forward, lambda: torch.zeros(5, 3), list("abcde"))
    table_of(given, Shuffling(), {"positive": [0, 1, 2, "all"]})
    assert passes == [8, 7]


@pytest.mark.parametrize(("zero", "asked"), [("clean", 10), ("asked", 15)])
def test_step_zero_is_the_clean_input_or_asked_like_any_other(zero, asked):
    images, heatmaps = case()
    seen = []

    def forward(batch):
        seen.extend(batch)
        return batch.flatten(1)[:, :3]

    clean = images.flatten(1)[:, :3]
    given = Batch(images, torch.zeros(5, dtype=torch.int64), heatmaps, forward, lambda: clean, list("abcde"), size=4)
    answers = given.ask(lambda rows, columns: -images[rows], [0, 1, 2], zero=zero)
    assert len(seen) == asked
    want = clean if zero == "clean" else -clean
    assert torch.equal(answers.logit[:, 0], want[:, 0])
    assert torch.equal(answers.predicted[:, 0], want.argmax(1))
    torch.testing.assert_close(answers.probability[:, 0], want.softmax(1)[:, 0])
    assert torch.equal(answers.correct, answers.predicted == 0)


def test_methods_that_select_the_same_pixels_are_asked_of_the_same_shuffled_images(monkeypatch):
    """At K = all of an image whose relevance is positive everywhere, and of one that is so and of negative sign."""
    size, signs = 12, ("positive", "negative")
    methods.register("rising", signs=signs, passes=1)(lambda model, inputs, targets: inputs.square() + 1)
    methods.register("falling", signs=signs, passes=1)(lambda model, inputs, targets: 1 / (inputs.square() + 1))
    methods.register("below", signs=signs, passes=1)(lambda model, inputs, targets: -inputs.square() - 1)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * size**2, 7))
    model = Model(network, transform=Preprocess((0.0,) * 3, (1.0,) * 3), facts=Facts("small", "", "", ""))
    images, _ = case(3, size)
    rows = [Row(f"{i}.jpg", i, f"sha of {i}", 0.0, "small", "") for i in range(3)]
    chunk = Chunk(model, model, 0, 0, rows, images, seed=5, batch=4)
    ks = {"positive": [0, 20, "all"], "negative": [0, size**2, "all"]}
    protocol = Choice("shuffling", protocols["shuffling"], {"k": ks})
    found = {}
    for name in ("rising", "falling", "below"):
        ((_, columns),) = chunk.evaluate(Choice(name, methods[name], {}), [protocol], None)
        keys = zip(columns["row"], columns["variant"], columns["k"], columns["selected"], strict=True)
        found[name] = {(*key,): logit for key, logit in zip(keys, columns["logit"], strict=True)}
    for row in range(3):
        every = [found[name][row, sign, "all", size**2] for name, sign in
                 (("rising", "positive"), ("falling", "positive"), ("below", "negative"))]  # fmt: skip
        every.append(found["below"][row, "negative", str(size**2), size**2])
        assert len(set(every)) == 1
        assert every[0] != found["rising"][row, "positive", "0", 0]
        assert found["rising"][row, "positive", "20", 20] != found["falling"][row, "positive", "20", 20]


def test_a_protocol_that_does_not_ask_the_model_costs_no_pass():
    def never(*_):
        raise AssertionError("the model was asked")

    images, heatmaps = case()
    given = Batch(images, torch.zeros(5, dtype=torch.int64), heatmaps, never, never, list("abcde"))
    rows = table_of(given, Distance(), {"positive": [1, "all"]})
    assert len(rows["row"]) == 10
