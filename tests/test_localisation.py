"""Localisation by masks, by hand and against loops written out, in one, two and three dimensions; and in whole runs."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import rapbench
from rapbench.evaluation.answers import table_of
from rapbench.protocols import protocols
from rapbench.protocols.base.batch import Batch
from rapbench.protocols.base.localisation import Localisation
from rapbench.protocols.pointing_game import PointingGame
from rapbench.protocols.relevance_mass import RelevanceMass
from rapbench.protocols.relevance_rank import RelevanceRank

SPACES = [(9,), (40,), (5, 6), (1, 9), (16, 33), (4, 3, 5), (2, 8, 2), (16, 17, 18)]
LOCALISING = [name for name in protocols if issubclass(protocols[name].function, Localisation)]


def batch(heatmaps: torch.Tensor, masks: torch.Tensor | None) -> Batch:
    def never(*_):
        raise AssertionError("the model was asked")

    count = len(heatmaps)
    inputs = torch.zeros(count, 1, *heatmaps.shape[1:])
    labels = torch.zeros(count, dtype=torch.int64)
    return Batch(inputs, labels, heatmaps, never, never, [str(i) for i in range(count)], known_masks=masks)


def value(protocol: Localisation, heatmaps: torch.Tensor, masks: torch.Tensor | None) -> np.ndarray:
    table = table_of(batch(heatmaps, masks), protocol, protocol.variants(("positive",)))
    assert table["k"].tolist() == [""] * len(heatmaps)
    return table[protocol.metrics[0].name]


def case(space: tuple[int, ...], count: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(math.prod(space))
    heatmaps = torch.randn(count, *space, generator=generator).mul(3).round().div(4)  # with ties and zeros
    masks = torch.rand(count, *space, generator=generator) < torch.linspace(0, 0.6, count).view(-1, *[1] * len(space))
    return heatmaps, masks


# The referee: each definition as a loop in float64


def slow(name: str, heatmap: np.ndarray, mask: np.ndarray, tolerance: float | None = None) -> float:
    places = list(itertools.product(*map(range, heatmap.shape)))
    inside = [place for place in places if mask[place]]
    relevance = {place: float(heatmap[place]) for place in places}
    positive = [place for place in places if relevance[place] > 0]
    if not inside or not positive:
        return math.nan
    ranked = sorted(positive, key=lambda place: (-relevance[place], places.index(place)))
    if name == "relevance_mass":
        return sum(relevance[place] for place in positive if mask[place]) / sum(relevance[place] for place in positive)
    if name == "relevance_rank":
        return sum(mask[place] for place in ranked[: len(inside)]) / len(inside)
    near = round(15 / 224 * min(heatmap.shape)) if tolerance is None else tolerance
    return float(any(math.dist(ranked[0], place) <= near for place in inside))


@pytest.mark.parametrize("space", SPACES[:-1], ids=str)
@pytest.mark.parametrize(("name", "options"), [
    *((name, {}) for name in LOCALISING), ("pointing_game", {"tolerance": 0.0}), ("pointing_game", {"tolerance": 1.5}),
])  # fmt: skip
def test_each_is_as_written_out(space, name, options):
    heatmaps, masks = case(space)
    heatmaps[3], masks[4] = -heatmaps[3].abs(), False
    found = value(protocols[name].function(**options), heatmaps, masks)
    want = [slow(name, heatmap.double().numpy(), mask.numpy(), **options)
            for heatmap, mask in zip(heatmaps, masks, strict=True)]  # fmt: skip
    np.testing.assert_allclose(found, want, rtol=1e-12)
    assert np.isnan(found[[0, 3, 4]]).all()  # an empty mask, no positive relevance
    assert np.isfinite(found).any()


# By hand


def test_a_box_by_hand():
    """A 4 x 4 map, the box its two middle columns of the upper half."""
    heatmap = torch.tensor([[1.0, 4, 0, -9], [0, 2, 1, 0], [3, 0, 0, 0], [0, 0, 0, 5]])[None]
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, :2, 1:3] = True
    assert value(RelevanceMass(), heatmap, mask).tolist() == [7 / 16]  # 4 + 2 + 1 of 16
    assert value(RelevanceRank(), heatmap, mask).tolist() == [2 / 4]  # 5, 4, 3, 2: two of four inside
    # 5 at (3, 3): from (1, 2) by sqrt(5)
    got = [value(PointingGame(tolerance=near), heatmap, mask)[0] for near in (0.0, 2.0, 2.2, 2.3, 3.0)]
    assert got == [0, 0, 0, 1, 1]
    assert value(PointingGame(), heatmap, mask).tolist() == [0]  # round(15 / 224 * 4) = 0
    heatmap[0, 3, 3] = 0
    assert value(PointingGame(), heatmap, mask).tolist() == [1]


@pytest.mark.parametrize(("side", "near"), [(224, 15), (299, 20), (32, 2), (112, 8), (48, 3)])
@pytest.mark.parametrize("dimensions", [1, 2])
def test_the_tolerance_is_in_proportion_to_the_shorter_side(side, near, dimensions):
    space = [side + 10] * dimensions
    space[0] = side
    mask = torch.zeros(2, *space, dtype=torch.bool)
    heatmaps = torch.zeros(2, *space)
    middle = tuple([side // 2] * (dimensions - 1))
    for row, apart in enumerate((near, near + 1)):
        mask[(row, 3, *middle)] = True
        heatmaps[(row, 3 + apart, *middle)] = 1
    assert value(PointingGame(), heatmaps, mask).tolist() == [1, 0]


def test_sparse_maps_do_not_gain_by_where_zeros_lie():
    """Of three positive pixels two lie inside a mask of eight: 2/8, wherever the mask is."""
    for at in (0, 12):
        heatmap, mask = torch.zeros(1, 20), torch.zeros(1, 20, dtype=torch.bool)
        mask[0, at : at + 8] = True
        heatmap[0, at + 1], heatmap[0, at + 2], heatmap[0, 9] = 1, 1, 2
        assert value(RelevanceRank(), heatmap, mask).tolist() == [0.25]


# Invariants


@pytest.mark.parametrize("name", LOCALISING)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_scale_and_batch_do_not_matter_and_all_is_within_bounds(name, space):
    heatmaps, masks = case(space)
    heatmaps += torch.rand(heatmaps.shape, generator=torch.Generator().manual_seed(0))
    protocol = protocols[name].function()
    found = value(protocol, heatmaps, masks)
    np.testing.assert_array_equal(value(protocol, heatmaps * 2.0**-60, masks), found)
    np.testing.assert_array_equal(value(protocol, heatmaps * 2.0**60, masks), found)
    alone = [value(protocol, heatmaps[i : i + 1], masks[i : i + 1])[0] for i in range(len(heatmaps))]
    np.testing.assert_array_equal(alone, found)
    known = found[np.isfinite(found)]
    assert ((known >= 0) & (known <= 1)).all()
    everywhere = value(protocol, heatmaps, torch.ones_like(masks))
    if name != "relevance_rank":  # of which only positive pixels count
        np.testing.assert_allclose(everywhere[np.isfinite(everywhere)], 1)
    masks[:, ..., 0], masks[:, ..., -1] = True, False
    inside = masks.float() * heatmaps.abs() + masks.float()
    np.testing.assert_allclose(value(protocol, inside, masks), 1)  # all relevance is inside
    outside = value(PointingGame(tolerance=0.0) if name == "pointing_game" else protocol, (~masks).float(), masks)
    assert (outside == 0).all()


@pytest.mark.parametrize("name", LOCALISING)
@pytest.mark.parametrize("heatmap", [torch.zeros(4, 4), -torch.ones(4, 4)])
def test_without_positive_relevance_or_a_mask_there_is_no_value(name, heatmap):
    protocol = protocols[name].function()
    mask = torch.ones(1, 4, 4, dtype=torch.bool)
    assert np.isnan(value(protocol, heatmap[None], mask)).all()
    assert np.isnan(value(protocol, torch.ones(1, 4, 4), ~mask)).all()
    assert np.isnan(value(protocol, torch.ones(1, 4, 4), None)).all()
    constant = value(protocol, torch.ones(1, 4, 4), mask)
    assert constant.tolist() == [1]


# Whole runs


def ramp(model, inputs, targets):
    return inputs * torch.linspace(-0.5, 1, inputs.shape[-1])


def network(dimensions: int) -> nn.Module:
    torch.manual_seed(dimensions)
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1](1, 4, 3, padding=1)
    pool = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[dimensions - 1](2)
    return nn.Sequential(convolution, nn.ReLU(), pool, nn.Flatten(), nn.Linear(4 * 2**dimensions, 3))


def data(space: tuple[int, ...], masks=None, count: int = 6) -> rapbench.Dataset:
    inputs = torch.randn(count, 1, *space, generator=torch.Generator().manual_seed(1))
    return rapbench.Dataset.from_tensors(inputs, [i % 3 for i in range(count)], masks=masks)


def boxes(space: tuple[int, ...], count: int = 6) -> list[torch.Tensor | None]:
    """Boxes of the inputs, but of the second that is not known, and the third has nothing in it."""
    found: list[torch.Tensor | None] = []
    for index in range(count):
        mask = torch.zeros(space, dtype=torch.bool)
        mask[tuple(slice(index % 2, index % 2 + 3) for _ in space)] = index != 2
        found.append(None if index == 1 else mask)
    return found


K = {"k": {"positive": [0, 3], "negative": [0, 3]}}


def evaluated(dataset: rapbench.Dataset, space, **more) -> rapbench.Results:
    settings = {"methods": {"ramp": ramp, "random": "random", "edge": "edge"}, "gallery": 0, "chunk": 4, "batch": 4,
                "protocols": [*LOCALISING, ("removal", K)]} | more  # fmt: skip
    return rapbench.evaluate(network(len(space)), dataset, **settings)


@pytest.mark.parametrize("space", [(12,), (6, 7), (6, 5, 7)], ids=str)
def test_a_run_has_the_numbers_of_its_maps_and_counts_what_has_none(space, tmp_path):
    masks = boxes(space)
    dataset = data(space, masks)
    results = evaluated(dataset, space)
    frame = results.frame
    heatmaps = torch.stack([ramp(None, dataset.tensor(str(i))[None], None)[0, 0] for i in range(6)])
    for name in LOCALISING:
        rows = frame[(frame["protocol"] == name) & (frame["method"] == "ramp")]
        assert rows["input"].tolist() == [str(i) for i in range(6)]
        assert set(rows["k"]) == {""}
        want = [math.nan if mask is None else slow(name, heatmap.numpy(), mask.numpy())
                for heatmap, mask in zip(heatmaps, masks, strict=True)]  # fmt: skip
        np.testing.assert_allclose(rows["value"], want, rtol=1e-6)
        assert rows["value"].isna().tolist() == [False, True, True, False, False, False]
    table = results.table()
    table = table[table["protocol"].isin(LOCALISING)]
    assert set(table["n"]) == {4}
    assert table["value"].notna().all()
    assert set(table["better"]) == {"higher"}
    hits = table[(table["protocol"] == "pointing_game") & (table["method"] == "ramp")].iloc[0]
    rows = frame[(frame["protocol"] == "pointing_game") & (frame["method"] == "ramp")]["value"].dropna()
    assert hits["value"] == 100 * rows.mean()
    verdict, pairs = results.verdict(), results.compare()
    assert set(LOCALISING) <= set(verdict["protocol"])
    assert set(verdict[verdict["protocol"].isin(LOCALISING)]["ks"]) == {""}
    tests = pairs[pairs["metric"] == "pointing_game"]
    assert set(tests["test"]) == {"McNemar"}
    assert set(tests["k"]) == {""}
    assert results.runs[0].about["header"][2] == "What should be found is known of 4 of these images."
    results.save(tmp_path)
    text = "".join(path.read_text() for path in tmp_path.glob("metric-*.md"))
    assert "nan" not in text.lower()
    assert "4 images" in text
    page = (tmp_path / "report.html").read_text()
    assert all(f"<h2>{name}</h2>" in page for name in LOCALISING)
    again = rapbench.load_results(tmp_path)
    pd.testing.assert_frame_equal(again.frame, frame)


def test_other_masks_are_other_results_and_move_no_other_protocols_key(tmp_path):
    space = (6, 7)

    def keys(masks) -> tuple[dict[str, set[str]], pd.DataFrame]:
        store = tmp_path / "store"
        results = evaluated(data(space, masks), space, store=store)
        about = results.runs[0].about
        return {name: about["protocols"][name] for name in about["protocols"]}, results.frame

    def files() -> set[str]:
        return {path.name for path in (tmp_path / "store/cells").rglob("*.parquet")}

    masks = boxes(space)
    first, frame = keys(masks)
    before = files()
    assert keys(masks)[1].equals(frame)
    assert files() == before
    assert keys([None if mask is None else mask.numpy().astype(np.uint8) for mask in masks])[0] == first
    assert keys([*masks[:2], None, *masks[3:]])[0] == first  # nothing in it, or not known
    assert files() == before
    masks[4] = ~masks[4]
    second, _ = keys(masks)
    assert len(files() - before) == 3 * len(LOCALISING)  # methods; not removal's
    assert {name for name in first if first[name] != second[name]} == set(LOCALISING)
    masks[4] = None
    assert keys(masks)[0]["relevance_mass"] not in (first["relevance_mass"], second["relevance_mass"])


@pytest.mark.parametrize("name", LOCALISING)
def test_data_without_masks_is_refused_before_a_model_is_asked(name):
    class Never(nn.Module):
        def forward(self, x):
            raise AssertionError

    inputs = torch.randn(4, 1, 6, 7)
    says = rf"^protocol '{name}': it needs to know where in the inputs is what should be found, and the data set "
    for given in (inputs, TensorDataset(inputs, torch.arange(4) % 3)):
        with pytest.raises(rapbench.RapbenchError, match=says) as error:
            rapbench.evaluate(Never(), given, methods=["random"], protocols=[name])
        assert "\n" not in str(error.value)
    empty = torch.zeros(4, 6, 7)
    dataset = rapbench.Dataset.from_tensors(inputs, [0, 1, 2, 0], masks=empty)
    with pytest.raises(rapbench.RapbenchError, match="none of the 4 inputs of this run has a mask"):
        rapbench.evaluate(network(2), dataset, methods=["random"], protocols=[name])


def test_a_mask_of_another_shape_than_the_inputs_is_refused():
    class Other(rapbench.Dataset):
        pass

    dataset = data((6, 7), boxes((6, 7)))
    dataset.masks["0"] = torch.ones(7, 6, dtype=torch.bool)
    with pytest.raises(rapbench.RapbenchError, match=r"the mask of 0 in the data set tensors must be torch\.bool of"):
        evaluated(dataset, (6, 7))


BAD = {
    "few": (torch.ones(3, 6, 7), r"masks must be 4, one for each input, got torch\.float32 of shape \(3, 6, 7\)"),
    "short list": ([None, torch.ones(6, 7)], "masks must be 4, one for each input, got a list"),
    "shape": (torch.ones(4, 7, 6), r"mask 0 must be of the shape of the inputs, \(6, 7\), got torch\.float32 of"),
    "channels": (torch.ones(4, 1, 6, 7), "mask 0 must be of the shape of the inputs"),
    "one shape": ([None, torch.ones(6, 7), torch.ones(6, 6), None], "mask 2 must be of the shape of the inputs"),
    "grey": (torch.full((4, 6, 7), 0.5), "mask 0 must hold truth values, or 0 and 1"),
    "nan": (torch.full((4, 6, 7), float("nan")), "mask 0 must hold truth values"),
    "text": ("masks", "masks must be 4, one for each input, got 'masks'"),
    "a text in it": ([None, "a", None, None], "mask 1 must be of the shape of the inputs"),
    "number": (1, "masks must be 4, one for each input, got 1"),
    "path": (["a", "b", "c", "d"], "masks must be 4"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_mask_is_one_line(name):
    masks, says = BAD[name]
    with pytest.raises(rapbench.RapbenchError, match=says) as error:
        rapbench.Dataset.from_tensors(torch.randn(4, 1, 6, 7), [0, 1, 2, 0], masks=masks)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["bool", "uint8", "float", "array", "list"])
def test_masks_come_back_as_they_were_given(kind):
    want = torch.rand(4, 6, 7) < 0.3
    make = {"uint8": want.byte, "float": want.float, "array": want.numpy, "list": lambda: list(want)}
    given = make.get(kind, lambda: want)()
    dataset = rapbench.Dataset.from_tensors(torch.randn(4, 1, 6, 7), [0, 1, 2, 0], list("abcd"), masks=given)
    for name, mask in zip("abcd", want, strict=True):
        assert dataset.mask(name).dtype == torch.bool
        assert torch.equal(dataset.mask(name), mask)
    plain = rapbench.Dataset.from_tensors(torch.randn(4, 1, 6, 7))
    assert plain.mask("0") is None
