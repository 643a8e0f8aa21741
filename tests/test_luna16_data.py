"""LUNA16 as a data set: every cube equals one cut by hand; what is missing is named; what is broken is one line."""

import itertools
import re
import shutil
import zipfile

import numpy as np
import pytest

from rapbench.core.errors import RapbenchError
from rapbench.data import load_data
from rapbench.data.ct import luna_cubes
from rapbench.data.ct.luna_scans import read
from rapbench.data.ct.outlines import Outlines
from tests.luna import DIAMETER, SCANS, SIDES, WITHOUT_SCAN, by_hand, rows, sitk, write_scan, write_tables, write_tree

LAYOUTS = ("subsets", "loose", "zipped")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RAPBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    return {layout: write_tree(tmp_path_factory.mktemp(layout), layout) for layout in LAYOUTS}


@pytest.fixture
def tree(tmp_path, trees):
    """A tree that a test may break."""
    return shutil.copytree(trees["subsets"], tmp_path / "luna")


def everything(root, **options):
    return load_data("luna16", root=str(root), part="all", **options)


def prepared(root):
    data = everything(root)
    data.cubes.prepare(data.indices)
    return data


def known():
    """(name, scan, world, label) of each candidate whose scan is there, by hand."""
    scans = {scan.uid: scan for scan in SCANS}
    return [(f"{uid}/{number}", scans[uid], world, label)
            for number, (uid, world, label) in enumerate(rows(), start=1) if uid in scans]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_cube_is_one_cut_by_hand(trees, layout, capsys):
    data = everything(trees[layout])
    cubes = data.cubes
    assert f"1 of 5 scans that candidates_V2.csv names are not below {trees[layout]} ({WITHOUT_SCAN})" in (
        capsys.readouterr().err
    )
    assert cubes.scans == tuple(sorted(scan.uid for scan in SCANS))
    assert [(sample.file, sample.label) for sample in data.samples] == [(name, label) for name, _, _, label in known()]
    cubes.prepare(np.arange(len(data.samples)))
    for index, (name, scan, world, label) in enumerate(known()):
        assert cubes.scans[cubes.scan[index]] == scan.uid
        for margin in (0, 8) if label else (0,):
            assert (cubes.cube(index, margin) == by_hand(scan, world, 32 + 2 * margin)).all(), name
        assert (
            data.tensor(name).numpy().tobytes()
            == np.clip((by_hand(scan, world, 32)[None].astype(np.float32) + 1000) / 1400, 0, 1)
            .astype(np.float32)
            .tobytes()
        )
    assert (cubes.subset is None) == (layout == "loose")


def test_cubes_beyond_the_scan_are_counted(trees, capsys):
    data = everything(trees["subsets"])
    data.cubes.prepare(data.indices)
    found = [data.cubes.beyond(index) for index in data.indices]
    for it, (_, scan, world, _) in zip(found, known(), strict=True):
        index = (world - np.array(scan.origin)) * scan.signs / np.array(scan.spacing)
        low = np.floor(index + 0.5) - 16
        sides = np.minimum(low + 32, SIDES) - np.maximum(low, 0)
        assert it == 32**3 - sides.prod()
    assert min(found) == 0 < max(found)
    assert f"LUNA16: {sum(it > 0 for it in found)} of {len(found)} cubes reach beyond their scan" in (
        capsys.readouterr().err
    )


def test_cubes_are_cut_once(trees, monkeypatch):
    first = everything(trees["zipped"])
    first.cubes.prepare(first.indices[:7])
    before = [first.cubes.cube(index).copy() for index in first.indices[:7]]
    seen = []
    monkeypatch.setattr(luna_cubes, "read", lambda scan: seen.append(scan.uid) or read(scan))
    again = everything(trees["zipped"])
    again.cubes.prepare(again.indices[:7])
    assert not seen
    assert all((again.cubes.cube(index) == cube).all() for index, cube in enumerate(before))
    again.cubes.prepare(again.indices)
    assert len(seen) == len(set(seen)) == len(SCANS) - 1  # of one all were cut already
    again.cubes.prepare(again.indices)
    assert len(seen) == len(SCANS) - 1


def test_what_was_cut_of_another_scan_is_not_taken(tree):
    data = everything(tree)
    data.cubes.prepare(data.indices)
    path = tree / "subset0" / f"{SCANS[0].uid}.raw"
    voxels = np.frombuffer(path.read_bytes(), np.int16)
    path.write_bytes((voxels + 1).tobytes())
    index = next(index for index, (_, scan, _, _) in enumerate(known()) if scan is SCANS[0])
    changed = everything(tree).cubes.cube(index)
    inside = data.cubes.cube(index) != -1000
    assert (changed[inside] == data.cubes.cube(index)[inside] + 1).all()


@pytest.mark.parametrize("spacing", [1.0, 0.8])
def test_resampled_cubes_are_interpolated_between_the_voxels_around(trees, spacing):
    data = everything(trees["subsets"], spacing=spacing)
    data.cubes.prepare(data.indices)
    compared = 0
    for index, (name, scan, world, _) in enumerate(known()):
        cube = data.cubes.cube(index)
        from_origin = (world - np.array(scan.origin)) * scan.signs
        middle = np.floor(from_origin / spacing + 0.5)[::-1]
        voxels = scan.voxels().astype(float)
        for place in [(0, 0, 0), (16, 16, 16), (17, 14, 15), (31, 5, 20), (9, 25, 18)]:
            at = (middle - 16 + place) * spacing / np.array(scan.spacing)[::-1]
            low = np.floor(at + 1e-9).astype(int)
            part = at - low
            if (low < 0).any() or (low + 1 >= voxels.shape).any():
                continue
            compared += 1
            value = 0.0
            for corner in np.ndindex(2, 2, 2):
                weight = np.prod([p if c else 1 - p for c, p in zip(corner, part, strict=True)])
                if weight > 0:
                    value += weight * voxels[tuple(low + corner)]
            assert abs(cube[place] - value) <= 0.51, (name, place)
    assert compared > 30


def test_a_mask_is_what_lies_in_the_annotated_sphere(trees):
    data = everything(trees["subsets"])
    for index, (name, scan, world, label) in enumerate(known()):
        for margin in (0, 8) if label else (0,):
            mask = data.cubes.mask(index, margin)
            if not label:
                assert mask is None
                assert data.mask(name) is None
                continue
            side = 32 + 2 * margin
            middle = np.floor((world - np.array(scan.origin)) * scan.signs / np.array(scan.spacing) + 0.5)[::-1]
            reach = [int(DIAMETER / step) for step in scan.spacing[::-1]]
            expected = np.zeros((side,) * 3, dtype=bool)
            for step in itertools.product(*(range(-most, most + 1) for most in reach)):
                away = np.linalg.norm(scan.world(tuple(middle + step)) - world)
                place = tuple(np.array(step) + side // 2)
                if all(0 <= value < side for value in place):
                    expected[place] = away <= DIAMETER / 2
            assert (mask == expected).all()
        if label:
            assert (data.mask(name).numpy() == data.cubes.mask(index)).all()


def test_folds_by_subset(tmp_path):
    root = tmp_path / "luna"
    for subset in range(10):
        scan = SCANS[0].__class__(f"1.3.{subset}", subset)
        write_scan(root / f"subset{subset}", scan)
    lines = [f"1.3.{subset},{','.join(map(str, SCANS[0].world((19, 20, 20))))},{label}"
             for subset in range(10) for label in (0, 1, 0)]  # fmt: skip
    (root / "candidates_V2.csv").write_text("\n".join(["seriesuid,coordX,coordY,coordZ,class", *lines, ""]))
    options = {"root": str(root), "scheme": "official", "masks": "outlines", "share": None}
    for fold in (0, 4, 9):
        parts = {part: load_data("luna16", part=part, fold=fold, **options) for part in ("train", "validation", "test")}
        of = {part: {sample.file.split("/")[0] for sample in data.samples} for part, data in parts.items()}
        assert of["test"] == {f"1.3.{fold}"}
        assert of["validation"] == {f"1.3.{(fold + 1) % 10}"}
        assert of["train"] == {f"1.3.{subset}" for subset in range(10)} - of["test"] - of["validation"]
    with pytest.raises(RapbenchError, match="10 folds, not 5"):
        load_data("luna16", folds=5, **options)


def test_the_older_list_is_taken_when_named(tree, capsys):
    (tree / "candidates_V2.csv").rename(tree / "candidates.csv")
    with pytest.raises(RapbenchError, match=r"has no candidates_V2\.csv; .*candidates\.csv is the older list"):
        everything(tree)
    assert len(everything(tree, candidates="candidates.csv").samples) == len(known())
    assert "older list" in capsys.readouterr().err


def test_outlines_are_those_of_the_scan_of_that_series(tmp_path):
    """A scan of a real series UID, with its slices' places: the mask is the readers' majority, voxel for voxel."""
    outlines = Outlines()
    scan, nodule = next(
        (scan, it) for uid in outlines.uids for scan in [outlines.scan(uid)] for it in outlines.nodules(scan)
        if it.readers == 4 and max(it.inside.shape) < 20 and min(it.inside.shape) > 4 and len(scan.z) < 150
    )  # fmt: skip
    uid = scan.uid
    image = sitk.Image(512, 512, len(scan.z), sitk.sitkInt16)
    image.SetSpacing((scan.spacing[1], scan.spacing[1], scan.spacing[0]))
    image.SetOrigin((170.0, 180.0, float(scan.z[0])))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    folder = tmp_path / "luna"
    folder.mkdir()
    sitk.WriteImage(image, str(folder / f"{uid}.mhd"))
    middle = np.array(nodule.start) + np.array(nodule.inside.shape) // 2
    world = image.TransformIndexToPhysicalPoint([int(v) for v in middle[::-1]])
    (folder / "candidates_V2.csv").write_text(
        f"seriesuid,coordX,coordY,coordZ,class\n{uid},{','.join(map(str, world))},1\n"
    )
    mask = everything(folder, masks="outlines").cubes.mask(0)
    expected = np.zeros((32, 32, 32), dtype=bool)
    start = np.array(nodule.start) - middle + 16
    expected[tuple(slice(first, first + side) for first, side in zip(start, nodule.inside.shape, strict=True))] = (
        nodule.inside
    )
    assert (mask == expected).all()
    iso = everything(folder, masks="outlines", spacing=1.0).cubes.mask(0)
    assert iso.sum() == pytest.approx(nodule.inside.sum() * np.prod(scan.spacing), rel=0.1)


def cut_short(tree):
    path = tree / "subset1" / "1.2.2.raw"
    path.write_bytes(path.read_bytes()[:-10])


def without_raw(tree):
    (tree / "subset1" / "1.2.2.raw").unlink()


def header(old, new):
    def change(tree):
        path = tree / "subset1" / "1.2.2.mhd"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


def table(name, old, new):
    def change(tree):
        path = tree / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def zipped(tree, broken=b"PK no archive"):
    shutil.rmtree(tree / "subset1")
    (tree / "subset1.zip").write_bytes(broken)


def zip_without_raw(tree):
    with zipfile.ZipFile(tree / "subset1.zip", "w") as archive:
        archive.write(tree / "subset1" / "1.2.2.mhd", "subset1/1.2.2.mhd")
    shutil.rmtree(tree / "subset1")


def climbing(tree):
    with zipfile.ZipFile(tree / "subset1.zip", "w") as archive:
        archive.writestr("../../1.2.2.mhd", (tree / "subset1" / "1.2.2.mhd").read_text())
    shutil.rmtree(tree / "subset1")


def nothing(tree):
    for subset in range(5):
        shutil.rmtree(tree / f"subset{subset}")


def elsewhere(tree):
    table("candidates_V2.csv", "1.2.4,-", "1.2.4,-9")(tree)


BROKEN = {
    "cut short": (cut_short, r"1\.2\.2\.mhd: its voxels, 1\.2\.2\.raw, have 133,750 bytes, 133,760 expected"),
    "without .raw": (without_raw, r"1\.2\.2\.mhd: its voxels, 1\.2\.2\.raw, cannot be read \(No such file"),
    "type": (header("MET_SHORT", "MET_FOO"), r"1\.2\.2\.mhd: ElementType 'MET_FOO' is unknown"),
    "climbs": (header("= 1.2.2.raw", "= ../1.2.2.raw"), r"ElementDataFile '\.\./1\.2\.2\.raw' is not the name"),
    "flat": (header("NDims = 3", "NDims = 2"), r"DimSize '40 44 38' is not that of a volume"),
    "no spacing": (header("ElementSpacing = 0.", "ElementSpacing = x0."), r"1\.2\.2\.mhd"),
    "no archive": (zipped, r"subset1\.zip cannot be read as a zip archive"),
    "zip without .raw": (zip_without_raw, r"subset1\.zip: subset1/1\.2\.2\.mhd: its archive lacks .*1\.2\.2\.raw"),
    "zip climbs": (climbing, r"member '\.\./\.\./1\.2\.2\.mhd' has a name that leads out"),
    "twice": (lambda tree: write_scan(tree / "subset7", SCANS[0]), r"the scan 1\.2\.1 is there twice"),
    "no scans": (nothing, r"none of the 5 scans that candidates_V2\.csv names is below"),
    "class": (table("candidates_V2.csv", ",1\n", ",2\n"), r"candidates_V2\.csv, row 1: class '2' must be 0 or 1"),
    "number": (table("candidates_V2.csv", ",0\n", ",0x\n"), r"candidates_V2\.csv, row 2: class '0x' is not a number"),
    "columns": (table("candidates_V2.csv", ",0\n1.2", "\n1.2"), r"candidates_V2\.csv, row 2: 4 columns"),
    "nan": (table("candidates_V2.csv", "1.2.4,", "1.2.4,nan,"), r"row 1: 6 columns"),
    "uid": (table("candidates_V2.csv", "1.2.4,", "../1.2.4,"), r"row 1: seriesuid '\.\./1\.2\.4' is no series UID"),
    "dots": (table("candidates_V2.csv", "1.2.4,", "..,"), r"row 1: seriesuid '\.\.' is no series UID"),
    "header": (table("candidates_V2.csv", "coordY", "y"), r"candidates_V2\.csv has no column coordY"),
    "diameter": (table("annotations.csv", ",8.0", ",-8.0"), r"annotations\.csv, row 1: diameter_mm '-8\.0' must be"),
    "no annotations": (lambda tree: (tree / "annotations.csv").unlink(), r"masks=sphere needs annotations\.csv"),
    "no candidates": (lambda tree: (tree / "candidates_V2.csv").unlink(), r"has no candidates_V2\.csv"),
    "elsewhere": (elsewhere, r"candidates_V2\.csv, row 1: the candidate is not within its scan"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_one_line(tree, name):
    change, expected = BROKEN[name]
    change(tree)
    with pytest.raises(RapbenchError) as error:
        prepared(tree)
    assert re.search(expected, str(error.value)), str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"root": None}, "needs data.root"),
        ({"root": "/nowhere/luna"}, "/nowhere/luna is not a folder"),
        ({"spacing": 0.0}, "data.spacing=0.0 must be 0.2 to 10 mm"),
        ({"window": [1.0, 0.0]}, r"data.window=\[1.0, 0.0\] must be two rising numbers"),
        ({"share": 1.5, "folds": 3, "part": "test"}, "share=1.5 must be above 0 and below 1"),
        ({"fold": 7, "folds": 3, "part": "test"}, "fold=7 is none of the 3 folds"),
        ({"folds": 2, "part": "test"}, "folds=2: at least 3"),
        ({"part": "test"}, "LUNA16 has 4 scans, too few for 10 folds"),
    ],
)
def test_options_out_of_range(trees, options, expected):
    with pytest.raises(RapbenchError, match=expected):
        load_data("luna16", **{"root": str(trees["subsets"]), "part": "all", **options})


def test_many_candidates_are_arrays(tmp_path):
    """As many candidates as LUNA16 has: tables are read in seconds, and no candidate is an object."""
    root = tmp_path / "luna"
    write_scan(root, SCANS[0])
    write_tables(root)
    place = ",".join(map(str, SCANS[0].world((19, 20, 20))))
    (root / "candidates_V2.csv").write_text(
        "seriesuid,coordX,coordY,coordZ,class\n" + f"{SCANS[0].uid},{place},0\n" * 754_975
    )
    data = everything(root)
    assert len(data.samples) == len(data.cubes.names) == 754_975
    assert data.samples[754_974].file == data.cubes.names[-1] == f"{SCANS[0].uid}/754975"
    held = [value for value in vars(data.cubes).values() if isinstance(value, (list, tuple, dict))]
    assert all(len(value) < 10 for value in held)
