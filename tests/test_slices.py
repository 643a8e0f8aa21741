"""Figure 8: which slices of which volumes are drawn, by hand; and real runs drawn twice."""

from pathlib import Path

import numpy as np
import pytest

from rapbench.app.cli import main
from rapbench.report.paper_figures.look import Look
from rapbench.report.paper_figures.sheet import HEIGHT, WIDTH, Sheet
from rapbench.report.paper_figures.slices import PLANES, Volume, slice_sheets
from rapbench.report.pictures import palette
from rapbench.results.display import titled
from rapbench.results.gallery import quantised
from tests.own import Own

VOLUMES = """
import torch
from torch import nn
import rapbench
from rapbench.data import datasets


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d(2), nn.AdaptiveAvgPool3d(2),
                         nn.Flatten(), nn.Linear(32, 2))


@datasets.register("cubes")
def cubes(*, count: int = 6, side: int = 12, dimensions: int = 3):
    inputs = torch.rand(count, 1, *[side] * dimensions, generator=torch.Generator().manual_seed(3))
    return rapbench.Dataset.from_tensors(inputs, name="cubes", class_names=["other", "nodule"])
"""


def volume(space=(4, 5, 6), seed=0) -> Volume:
    draw = np.random.default_rng(seed)
    image = draw.integers(0, 255, (*space, 3), dtype=np.uint8)
    maps = {name: draw.normal(size=space).astype(np.float32) for name in ("rap_normal", "rap_inversion", "rap")}
    return Volume(f"scan/{seed}", "nodule", "other" if seed else None, image, maps)


def pictures(page: Sheet) -> list[np.ndarray]:
    return [np.asarray(axes.images[0].get_array()) for axes in page.figure.axes]


def words(page: Sheet) -> list[str]:
    return [text.get_text() for text in page.figure.texts]


@pytest.mark.parametrize("planes", [1, 2, 3])
def test_the_slices_are_the_central_ones_of_each_volume_and_the_signs_stand_apart(planes):
    volumes = [volume(), volume(seed=1)]
    with titled({"rap_normal": "RAP (normal flow)", "rap_inversion": "RAP (inversion flow)"}):
        (page,) = slice_sheets(volumes, planes, Look(percentile=100), "toys: what this is.")
    found = pictures(page)
    assert len(found) == 2 * planes * 6 + 1  # and the scale
    at = 0
    for each in volumes:
        for axis in range(planes):
            middle = [slice(None)] * 3
            middle[axis] = (4, 5, 6)[axis] // 2
            assert (found[at] == each.image[tuple(middle)]).all()
            maps = [quantised(heatmap[None], 1.0)[0][tuple(middle)] for heatmap in each.maps.values()]
            maps += [np.maximum(maps[2], 0), np.minimum(maps[2], 0)]
            for place, values in enumerate(maps, start=1):
                assert (found[at + place] == palette()[values.astype(int) + 128]).all()
            at += 6
    said = words(page)
    assert said[:6] == ["Image", "RAP (normal flow)", "RAP (inversion flow)", "RAP", "RAP, positive", "RAP, negative"]
    assert [word for word in said if word in PLANES] == list(PLANES[:planes]) * 2
    assert said[-1] == "toys: what this is."
    assert sum("predicted: other" in word for word in said) == 1


def test_many_volumes_take_several_sheets_of_the_pages_size():
    pages = slice_sheets([volume(seed=seed) for seed in range(20)], 3, Look(), "toys")
    assert len(pages) > 1
    assert sum(len(pictures(page)) - 1 for page in pages) == 20 * 3 * 6
    for page in pages:
        assert page.height <= HEIGHT
        assert page.figure.get_size_inches()[0] == WIDTH


@pytest.fixture
def own(tmp_path, monkeypatch):
    made = Own(tmp_path, monkeypatch)
    made.write("own_volumes.py", VOLUMES)
    yield made
    made.forget()


WORDS = ["figure", "figure8", "model=own_volumes:Net", "data=own_volumes:cubes"]
FOLDER = Path("results/figure8/own_volumes:Net")


def test_a_run_is_drawn_and_drawn_again_from_its_folder(own, capsys):
    assert main([*WORDS, "--images", "1", "--planes", "3"]) == 0
    assert f"Written to {FOLDER}/figure8-*.png, .pdf" in capsys.readouterr().out
    first = {path.name: path.read_bytes() for path in sorted(FOLDER.glob("figure8-*"))}
    assert list(first) == ["figure8-1.pdf", "figure8-1.png"]
    for path in FOLDER.glob("figure8-*"):
        path.unlink()
    again = ["figure", "figure8", str(FOLDER), "--images", "1"]
    assert main([*again, "--planes", "3"]) == 0
    assert {path.name: path.read_bytes() for path in sorted(FOLDER.glob("figure8-*"))} == first
    assert main([*again, "--overlay"]) == 0
    assert (FOLDER / "figure8-1.png").read_bytes() != first["figure8-1.png"]


def test_the_caption_says_which_data_these_are(own, monkeypatch):
    said = []
    draw = slice_sheets
    monkeypatch.setattr("rapbench.app.draw_figures.slice_sheets", lambda *given: said.append(given[3]) or draw(*given))
    assert main([*WORDS, "--images", "1"]) == 0
    assert said[0].startswith("cubes: central slices of the first input of each class, of 6 inputs in memory (cubes)")


def test_inputs_that_are_no_volumes_are_one_line(own, capsys):
    words = ["figure", "figure8", "model=efficientnet_lite0", "data=samples", "subset.n=1", "method=[random]"]
    assert main(words) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said == "rapbench: this figure is of volumes; the run's inputs have size 224 x 224"
