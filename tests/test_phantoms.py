"""Nodule phantoms: outlines against hand-worked and slow references, masks, HU, and the same bytes in every order."""

import hashlib
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from rapbench.core.errors import RapbenchError
from rapbench.data import load_data
from rapbench.data.ct import outlines, phantom_cubes, phantoms
from rapbench.data.ct.folds import balanced, split
from rapbench.data.ct.outlines import Outlines, outlines_file, within
from rapbench.data.ct.phantom_cubes import PhantomCubes
from rapbench.data.ct.shapes import Grid, passing, wall

COUNT = 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(folder, monkeypatch):
    monkeypatch.setenv("RAPBENCH_CACHE", str(folder))


@pytest.fixture(scope="module")
def cubes(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAPBENCH_CACHE", str(folder))
        found = PhantomCubes(COUNT)
        found.prepare(np.arange(COUNT))
        yield found


@pytest.fixture(scope="module")
def known():
    return Outlines()


def ring(text):
    return np.array([[int(value) for value in pair.split(",")] for pair in text.split()])


@pytest.mark.parametrize(
    ("outline", "inside"),
    [
        (ring("0,0 0,1 0,2 0,3 1,3 2,3 3,3 3,2 3,1 3,0 2,0 1,0"), {(1, 1), (1, 2), (2, 1), (2, 2)}),  # a square
        (ring("0,2 1,1 2,0 3,1 4,2 3,3 2,4 1,3"), {(1, 2), (2, 1), (2, 2), (2, 3), (3, 2)}),  # a diamond
        (ring("0,0 0,3 3,3 3,0"), {(1, 1), (1, 2), (2, 1), (2, 2)}),  # corners alone
        (ring("5,5 5,6 6,6 6,5"), set()),  # nothing lies within
        (ring("2,7 2,8 2,9"), set()),  # a line
    ],
)
def test_what_lies_within_an_outline_by_hand(outline, inside):
    for order in (outline, outline[::-1], np.roll(outline, 2, axis=0), np.vstack([outline, outline[:1]])):
        start, found = within(order)
        assert {tuple(int(value) for value in np.add(place, start)) for place in np.argwhere(found)} == inside


def test_real_outlines_hold_as_many_pixels_as_pick_says():
    """Of a polygon on a grid with area A and b pixels on it, A - b / 2 + 1 lie strictly within (Pick's theorem)."""
    file = sqlite3.connect(f"{outlines_file().as_uri()}?mode=ro&immutable=1", uri=True)
    found, expected = [], []
    for (text,) in file.execute("select coords from contours where id % 12 = 0 order by id"):
        points = ring(text.replace("\n", " "))
        points = points[:-1] if (points[0] == points[-1]).all() else points
        if len(points) < 3 or len(np.unique(points, axis=0)) < len(points):
            continue
        after = np.roll(points, -1, axis=0)
        area = abs((points[:, 0] * after[:, 1] - points[:, 1] * after[:, 0]).sum()) / 2
        border = np.gcd(*np.abs(after - points).T).sum()
        found.append(within(points)[1].sum())
        expected.append(area - border / 2 + 1)
    found, expected = np.array(found), np.array(expected)
    assert len(found) > 3000
    assert (found == expected).mean() > 0.99  # some pinch a bay off
    assert found.sum() == pytest.approx(expected.sum(), rel=1e-3)


def test_the_scans_and_nodules_are_as_many_as_luna16_has(known):
    """LUNA16 has 1,186 nodules of three or more readers in 601 of its scans; the grouping is not published."""
    every = [(scan.uid, nodule.readers) for scan, nodule in outlines.every_nodule(known)]
    wanted = [uid for uid, readers in every if readers >= 3]
    assert len(set(wanted)) == 601
    assert len(wanted) == pytest.approx(1186, rel=0.01)
    assert max(readers for _, readers in every) == 4


def polygon(outline, shape):
    """Which pixels of an image lie strictly within an outline: crossings of a ray, pixel by pixel, without the line."""
    after = np.roll(outline, -1, axis=0)
    rows, columns = np.indices(shape)
    inside = np.zeros(shape, dtype=bool)
    for (y0, x0), (y1, x1) in zip(outline, after, strict=True):
        if y0 != y1:
            crosses = (np.minimum(y0, y1) <= rows) & (rows < np.maximum(y0, y1))
            inside ^= crosses & (columns < x0 + (rows - y0) * (x1 - x0) / (y1 - y0))
    inside[tuple(outline.T)] = False
    return inside


def test_masks_have_the_volumes_of_the_majority_s_outlines(cubes, known):
    file = sqlite3.connect(f"{outlines_file().as_uri()}?mode=ro&immutable=1", uri=True)
    compared = 0
    for index in np.flatnonzero(cubes.label)[:24]:
        scan = known.scan(cubes.scans[cubes.scan[index]])
        mask = cubes.mask(index)
        assert mask.sum() == cubes.mask(index, 8).sum()  # the cube holds all of it
        votes, readers = {}, []
        nodules = [it for it in known.nodules(scan) if it.inside.sum() == mask.sum() and it.readers >= 3]
        assert nodules
        low, high = np.array(nodules[0].start), np.array(nodules[0].stop)
        contours = file.execute(
            "select annotation_id, inclusion, image_z_position, coords from contours c join annotations a on "
            "a.id = annotation_id join scans s on s.id = scan_id where series_instance_uid = ?", [scan.uid]
        ).fetchall()  # fmt: skip
        for number in {row[0] for row in contours}:
            points = [(int(np.abs(scan.z - z).argmin()), included, ring(text.replace("\n", " "))[:, ::-1])
                      for of, included, z, text in contours if of == number]  # fmt: skip
            middle = np.mean([(k, *xy.mean(0)) for k, _, xy in points], axis=0)
            if (middle < low - 2).any() or (middle > high + 2).any():
                continue
            readers.append(number)
            for k, included, xy in sorted(points, key=lambda it: -it[1]):
                for place in np.argwhere(polygon(xy - low[1:] + 40, high[1:] - low[1:] + 80)):
                    votes.setdefault((k, *place), set()).add(number)
                    if not included:
                        votes[k, *place].discard(number)
        if len(readers) != nodules[0].readers or len(nodules) > 1:
            continue
        expected = sum(2 * len(each) > len(readers) for each in votes.values()) * np.prod(scan.spacing)
        assert mask.sum() * np.prod(scan.spacing) == pytest.approx(expected, rel=0.02)
        compared += 1
    assert compared > 15


def test_hounsfield_units(cubes):
    kinds = np.array([name.split("-")[-1] for name in cubes.names])
    solid, lung, noise = [], [], []
    for index in np.flatnonzero(cubes.label):
        within_ = binary_erosion(cubes.mask(index), iterations=2)
        if within_.sum() > 20 and cubes._outlines[cubes._outline[index]]["texture"] == 5:
            solid.append(cubes.cube(index)[within_].mean())
    for index in np.flatnonzero(kinds == "noise"):
        cube = cubes.cube(index).astype(float)
        lung.append(np.median(cube))
        step = np.diff(cube, axis=2)
        noise.append(np.sqrt((step**2).mean() / 2))
    assert np.mean(solid) == pytest.approx(phantoms.TISSUE, abs=15)
    assert np.mean(lung) == pytest.approx(phantoms.LUNG, abs=15)
    assert 10 < np.median(noise) < 50
    cube = cubes.cube(np.flatnonzero(kinds == "noise")[0]).astype(float)
    assert np.corrcoef(cube[:, :, 1:].ravel(), cube[:, :, :-1].ravel())[0, 1] > 0.3  # not from voxel to voxel anew
    values = np.concatenate([cubes.cube(index).ravel() for index in range(COUNT)])
    assert values.min() >= -1024
    assert values.max() <= 3071


def test_edges_share_voxels(cubes):
    """Voxels at a solid nodule's edge lie between lung and tissue, so that the whole excess is the mask's."""
    excess = []
    for index in np.flatnonzero(cubes.label)[:40]:
        look = phantoms.look_of(0, cubes.scans[cubes.scan[index]])
        sharp = np.where(cubes.mask(index, 8), phantoms.TISSUE, phantoms.LUNG)
        quiet = replace(look, noise=0.0)
        share = (phantoms.scanned(phantoms.generator("test"), quiet, sharp) - phantoms.LUNG) / (
            phantoms.TISSUE - phantoms.LUNG
        )
        excess.append(share.sum() / cubes.mask(index, 8).sum())
        assert ((share > 0.1) & (share < 0.9)).any()
    assert np.array(excess) == pytest.approx(1, rel=0.02)


def test_no_class_shows_in_the_intensities_alone(cubes):
    """The chance that a nodule's cube has more of something than another's; one half says nothing."""
    every = np.stack([cubes.cube(index) for index in range(COUNT)]).astype(float)
    seen = {
        "mean": every.mean((1, 2, 3)),
        "deviation": every.std((1, 2, 3)),
        "highest": every.max((1, 2, 3)),
        "middle": every[:, 12:20, 12:20, 12:20].mean((1, 2, 3)),
    }
    nodule = cubes.label == 1
    for values in seen.values():
        more = (values[nodule][:, None] > values[~nodule]).mean()
        assert 0.3 < more < 0.7


def digest(cubes, index):
    mask = cubes.mask(index)
    return hashlib.sha256(cubes.cube(index).tobytes() + (b"" if mask is None else mask.tobytes())).hexdigest()


def test_the_same_seed_gives_the_same_bytes_in_any_order(cubes, tmp_path, monkeypatch):
    wanted = [0, 3, 101, 250, 299]
    first = [digest(cubes, index) for index in wanted]
    monkeypatch.setenv("RAPBENCH_CACHE", str(tmp_path))  # all anew
    monkeypatch.setattr(phantom_cubes, "_outlined", lambda folder: cubes._outlines)
    again = PhantomCubes(1234)
    assert [digest(again, index) for index in wanted[::-1]] == first[::-1]
    assert again.names[:COUNT] == cubes.names
    assert [again.scans[it] for it in again.scan[:COUNT]] == [cubes.scans[it] for it in cubes.scan]
    other = PhantomCubes(COUNT, seed=1)
    assert digest(other, 0) != first[0]
    assert other.identity != cubes.identity


def test_phantoms_are_what_they_were(cubes):
    """Voxels that change move the frozen baselines: raise phantom_cubes.DRAWN, and freeze anew."""
    assert {name: digest(cubes, cubes.names.index(name))[:16] for name in FROZEN} == FROZEN


FROZEN = {
    "phantom-00000-nodule": "81ce091a543aad8e",
    "phantom-00001-vessel": "fd311f5f29a71e0c",
    "phantom-00007-noise": "c754beca4c1a8263",
    "phantom-00012-pleura": "2e3f80efd3ded036",
    "phantom-00055-nodule": "ef6a42b371ac1d38",
}


@pytest.mark.parametrize("fold", range(10))
def test_no_scan_is_in_two_parts(cubes, fold):
    found = split(cubes, fold, seed=3)
    parts = [found.train, found.validation, found.test]
    assert sorted(np.concatenate(parts)) == list(range(COUNT))
    scans = [set(cubes.scan[part]) for part in parts]
    assert not scans[0] & scans[1]
    assert not scans[0] & scans[2]
    assert not scans[1] & scans[2]
    assert [len(it) / len(cubes.scans) for it in scans] == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    assert all(cubes.label[part].any() for part in parts)
    assert set(found.test) == set(split(cubes, (fold - 1) % 10, seed=3).validation)


def test_folds_partition_the_candidates(cubes):
    tests = [split(cubes, fold).test for fold in range(10)]
    assert sorted(np.concatenate(tests)) == list(range(COUNT))


@pytest.mark.parametrize("share", [0.28, 0.5, 0.9])
def test_a_share_of_nodules(cubes, share):
    part = split(cubes, 0).train
    found = balanced(cubes, part, share, seed=1)
    assert set(found) <= set(part)
    assert (np.diff(found) > 0).all()
    assert cubes.label[found].sum() == cubes.label[part].sum()
    assert cubes.label[found].mean() == pytest.approx(share, abs=0.01)
    assert (found == balanced(cubes, part[::-1], share, seed=1)).all()
    assert (balanced(cubes, part, None) == part).all()


def test_as_a_data_set(cubes):
    data = load_data("nodule_phantoms", count=COUNT, folds=5, fold=1)
    assert data.shape == (1, 32, 32, 32)
    assert data.class_names == ("other", "nodule")
    assert "nodule phantoms" in data.description
    assert len(data.samples) == len(data.indices)
    for sample, index in zip(data.samples, data.indices, strict=True):
        assert sample.file == cubes.names[index]
        assert sample.file.startswith("phantom-")
        found = data.tensor(sample.file)
        assert found.shape == data.shape
        assert 0 <= found.min() < found.max() <= 1
        mask = data.mask(sample.file)
        assert (mask is not None) == (sample.label == 1)
        assert mask is None or (mask.shape == data.shape[1:] and mask.any())
    other = load_data("nodule_phantoms", count=COUNT, folds=5, fold=1, window=[-1000, 200])
    assert other.identity != data.identity
    assert other.sha256(sample.file) != data.sha256(sample.file)
    wide = cubes.cube(0, 8)
    assert (wide[8:-8, 8:-8, 8:-8] == cubes.cube(0)).all()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"count": 0}, "data.count=0 must be 5 to 100,000"),
        ({"count": 8}, "scans, too few for 10 folds"),
        ({"fold": -1}, "fold=-1 is none of the 10 folds"),
        ({"share": 0.0}, "share=0.0 must be above 0 and below 1"),
    ],
)
def test_options_out_of_range(options, expected):
    with pytest.raises(RapbenchError, match=expected):
        load_data("nodule_phantoms", **{"count": COUNT, **options})


def test_a_damaged_file_in_the_cache_is_named(cubes, tmp_path, monkeypatch):
    monkeypatch.setenv("RAPBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(phantom_cubes, "_outlined", lambda folder: cubes._outlines)
    again = PhantomCubes(5)
    path = again._files(0)[0]
    path.parent.mkdir(parents=True)
    for damaged in (b"", b"no array", cubes._files(0)[1].read_bytes()):
        path.write_bytes(damaged)
        again._files(0)[1].write_bytes(b"")
        with pytest.raises(RapbenchError, match=r"0000-nodule\.npy is damaged; remove it"):
            again.cube(0)


def test_a_tube_and_a_wall_cover_their_volumes():
    grid = Grid(40, (1.0, 0.5, 0.5))
    into = np.zeros(grid.shape)
    passing(grid, np.random.default_rng(0), np.zeros(3), 3.0, into, along=np.array([0.0, 0.0, 1.0]), bend=0)
    assert into.sum(2)[:].sum() / 40 * 0.5 == pytest.approx(np.pi * 9, rel=0.02)
    flat = wall(grid, np.random.default_rng(0), np.array([0.0, 1.0, 0.0]), 2.0, 0.0)
    assert flat[20, :, 20].sum() * 0.5 == pytest.approx(10 - 0.25 - 2, abs=0.5)
