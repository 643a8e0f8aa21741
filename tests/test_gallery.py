"""The gallery: inputs of one to three dimensions as pictures, each method's heatmap, and whose gallery a page shows."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import rapbench
from rapbench.evaluation.gallery import seen
from rapbench.report.pictures import (
    GAP,
    LINE_SIZE,
    SLICES,
    heatmap_of,
    heatmap_slices_of,
    palette,
    picture_of,
    shown_slices,
    slices_of,
)
from rapbench.results.gallery import FILE, QUANTILE, load_gallery
from tests.browser import USABLE
from tests.test_evaluate import CHANNELS, evaluated, inputs, network

SPACES = [(7,), (60,), (12, 20), (1, 9), (6, 5, 7), (4, 4, 4)]
DISTANCE = (("distance", {"k": {"positive": [1, "all"], "negative": [1, "all"]}}),)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def ramp(model, x, targets):
    """Relevance from -1 to 1, in the order of the pixels."""
    space = x.shape[2:]
    return torch.linspace(-1, 1, space.numel()).view(space).expand_as(x)


def grey(values):
    """One input's channels as a picture has them where no normalisation is known, written out."""
    low, high = float(values.min()), float(values.max())
    return [round(255 * (value - low) / (high - low)) for value in values.flatten().tolist()]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_gallery_holds_the_first_inputs_and_their_heatmaps(space):
    x = inputs(space)
    run = evaluated(methods={"ramp": ramp, "random": "random"}, protocols=DISTANCE, model=network(len(space)), x=x,
                    gallery=2).runs[0]  # fmt: skip
    gallery = run.gallery
    assert gallery.images.shape == (2, *space, 3)
    assert (gallery.files, list(gallery.maps)) == (["0", "1"], ["ramp", "random"])
    for image, values in zip(gallery.images, x, strict=False):
        # The mean of the channels: of a line before it is spread, of a picture after.
        wanted = grey(values.mean(0)) if len(space) == 1 else np.array([grey(values)]).reshape(CHANNELS, -1).mean(0)
        assert (image == image[..., :1]).all()
        assert np.abs(image[..., 0].flatten() - np.array(wanted, float)).max() <= 1
    line = np.linspace(-1, 1, np.prod(space))
    full = np.quantile(np.abs(line), QUANTILE)
    shown = gallery.maps["ramp"][0].flatten()
    assert np.abs(shown - 127 * np.clip(line / full, -1, 1)).max() < 0.6  # kept in half precision
    assert (np.diff(shown.astype(int)) >= 0).all()


def test_a_known_normalisation_is_undone_in_three_dimensions():
    model = rapbench.Model(network(3), mean=(0.25, 0.5), std=(0.5, 0.25))
    x = torch.tensor([0.5, -0.5]).view(1, 2, 1, 1, 1).expand(1, 2, 2, 3, 4)
    found = seen(model, x)
    assert found.shape == (1, 2, 3, 4, 3)
    assert (found == round(255 * (0.5 + 0.375) / 2)).all()


def test_of_three_dimensions_the_central_slices_are_shown():
    volume = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    picture = np.asarray(picture_of(np.repeat(volume[..., None], 3, -1)))
    values = volume.astype(np.int16) - 60
    heatmap = np.asarray(heatmap_of(values.astype(np.int8), np.repeat(volume[..., None], 3, -1)).convert("RGB"))
    assert picture.shape == heatmap.shape == (5, 6 + 6 + 5 + 2 * GAP, 3)
    colours = palette()
    left = 0
    for shape, at in (
        ((5, 6), lambda y, x: (2, y, x)),
        ((4, 6), lambda y, x: (y, 2, x)),
        ((4, 5), lambda y, x: (y, x, 3)),
    ):
        for y in range(shape[0]):
            for x in range(shape[1]):
                assert (picture[y, left + x] == volume[at(y, x)]).all()
                assert (heatmap[y, left + x] == colours[values[at(y, x)] + 128]).all()
        assert (picture[shape[0] :, left : left + shape[1]] == 255).all()
        assert (heatmap[shape[0] :, left : left + shape[1]] == 255).all()
        left += shape[1] + GAP


def test_of_one_dimension_a_line_over_the_heatmaps_colours_is_shown():
    signal = np.repeat(np.array([0, 255, 0, 255], np.uint8)[:, None], 3, 1)
    width, height = LINE_SIZE
    picture = np.asarray(heatmap_of(np.array([127, -127, 0, 64], np.int8), signal))
    assert picture.shape == (height, width, 3)
    for place, value in enumerate((127, -127, 0, 64)):
        column = picture[:, width * place // 4 + width // 8]
        clear = (column == palette()[value + 128]).all(1)
        dark = np.flatnonzero((column < 60).all(1))
        assert clear.mean() > 0.9
        assert dark.size
        assert dark.min() > height * 0.9 if place % 2 == 0 else dark.max() < height * 0.1  # low values lie low
    assert np.asarray(picture_of(signal[:1])).min() < 60  # one value is a line too


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("protocols", [DISTANCE, (("removal", {"k": {"positive": [0, 2], "negative": [0, 2]}}),)])
def test_the_page_shows_it(space, protocols):
    results = evaluated(methods={"ramp": ramp, "random": "random"}, protocols=protocols, model=network(len(space)),
                        x=inputs(space), gallery=3)  # fmt: skip
    results.save("out")
    page = Path("out/report.html").read_text()
    pictures = re.findall(r'<img src="data:image/png;base64,([^"]*)"[^>]*width="(\d+)" height="(\d+)"', page)
    assert len(pictures) == 3 * 3
    for data, width, height in pictures:
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (int(width), int(height))
    script = json.loads(re.search(r'<script[^>]*id="data"[^>]*>(.*?)</script>', page, re.S)[1])
    assert (script["gallery"] is not None) == ("before: class" in page) == (protocols is not DISTANCE)
    loaded = rapbench.load_results("out")
    assert loaded.runs[0].gallery.save() == results.runs[0].gallery.save()
    loaded.save("again")
    assert {path.name: path.read_bytes() for path in Path("again").iterdir()} == {
        path.name: path.read_bytes() for path in Path("out").iterdir()}  # fmt: skip


def test_a_page_shows_the_gallery_of_its_own_results():
    """Not one that another run left in the folder."""
    evaluated(protocols=DISTANCE, gallery=2).save("out")
    without = evaluated(methods=("edge",), protocols=DISTANCE, gallery=0)
    assert without.runs[0].gallery is None
    without.report("out")
    assert '<img src="data' not in Path("out/report.html").read_text()
    without.save("out")
    assert load_gallery(Path("out")) is None
    assert not Path("out", FILE).exists()


@pytest.mark.parametrize("gallery", [-1, 1.5, True, "4", None])
def test_a_gallery_is_a_number_of_inputs(gallery):
    with pytest.raises(rapbench.RapbenchError, match=r"^gallery="):
        evaluated(gallery=gallery)


def test_colours_of_three_channels_stay_colours():
    model = rapbench.Model(nn.Identity(), mean=(0.0,) * 3, std=(1.0,) * 3)
    x = torch.rand(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(seen(model, x), (255 * x).round().byte().permute(0, 2, 3, 4, 1).numpy())


# Scrolling through volumes


@pytest.mark.parametrize(("depth", "wanted"), [(1, [0]), (32, list(range(32))), (64, list(range(64))),
                                               (65, list(range(0, 65, 2))), (200, list(range(0, 200, 4)))])  # fmt: skip
def test_the_slices_of_a_strip_are_those_across_the_first_dimension(depth, wanted):
    draw = np.random.default_rng(depth)
    image = draw.integers(0, 255, (depth, 3, 4, 3), dtype=np.uint8)
    values = draw.integers(-127, 128, (depth, 3, 4)).astype(np.int8)
    assert shown_slices(depth) == wanted
    assert len(wanted) <= SLICES
    strip, coloured = np.asarray(slices_of(image)), np.asarray(heatmap_slices_of(values).convert("RGB"))
    assert strip.shape == coloured.shape == (3 * len(wanted), 4, 3)
    for place, number in enumerate(wanted):
        rows = slice(3 * place, 3 * place + 3)
        assert (strip[rows] == image[number]).all()
        assert (coloured[rows] == palette()[values[number].astype(int) + 128]).all()


@pytest.mark.parametrize("space", [(12, 20), (6, 5, 7)], ids=str)
def test_a_page_has_a_slider_and_strips_for_volumes_alone(space):
    results = evaluated(methods={"ramp": ramp, "random": "random"}, protocols=DISTANCE, model=network(len(space)),
                        x=inputs(space), gallery=2)  # fmt: skip
    results.report("out")
    page = Path("out/report.html").read_text()
    strips = re.findall(r'<figure[^>]* data-slices="data:image/png;base64,([^"]*)">', page)
    sliders = re.findall(r'<label class="slider" data-numbers="([^"]*)" data-shape="([^"]*)" hidden>.*?</label>', page)
    if len(space) == 2:
        assert strips == sliders == []
        return
    assert sliders == [("0 1 2 3 4 5", "7 / 5")] * 2
    assert page.count('<input type="range" min="0" max="5" value="3">') == 2
    assert len(strips) == 2 * 3
    assert all(Image.open(io.BytesIO(base64.b64decode(data))).size == (7, 6 * 5) for data in strips)


@pytest.mark.slow
@pytest.mark.skipif(not USABLE, reason="needs Chromium and its driver")
def test_a_volume_scrolls_in_a_browser(browser):
    space = (6, 5, 7)
    results = evaluated(methods={"ramp": ramp, "random": "random"}, protocols=DISTANCE, model=network(3),
                        x=inputs(space), gallery=2)  # fmt: skip
    results.report("out")
    browser.get(Path("out/report.html").absolute().as_uri())
    run = browser.execute_script
    assert run("return [...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert run("return document.querySelectorAll('.slice').length") == 2 * 3
    assert run("return [...document.querySelectorAll('.slider output')].map(o => o.textContent)") == ["3", "3"]
    # What the window shows of the strip: (top of the window - top of the strip) / height of a slice.
    shown = ("const [pane, strip] = [document.querySelectorAll('.slice')[arguments[0]], null];"
             "const inner = pane.querySelector('img').getBoundingClientRect(), outer = pane.getBoundingClientRect();"
             "return [(outer.top - inner.top) / (inner.height / 6), outer.height / (inner.height / 6)]")  # fmt: skip
    for pane in range(6):
        assert run(shown, pane) == pytest.approx([3, 1], abs=0.15)
    run("const range = document.querySelector('.slider input'); range.value = 5; "
        "range.dispatchEvent(new Event('input', { bubbles: true }))")  # fmt: skip
    assert [round(run(shown, pane)[0]) for pane in range(6)] == [5, 5, 5, 3, 3, 3]
    assert run("return document.querySelector('.slider output').textContent") == "5"
    assert browser.get_log("browser") == []


@pytest.mark.slow
@pytest.mark.skipif(not USABLE, reason="needs Chromium and its driver")
def test_without_scripts_the_central_slices_stand_there_and_no_slider(browser):
    evaluated(methods={"ramp": ramp}, protocols=DISTANCE, model=network(3), x=inputs((6, 5, 7)), gallery=1).report(
        "out"
    )
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(Path("out/report.html").absolute().as_uri())
    from selenium.webdriver.common.by import By

    pictures = browser.find_elements(By.CSS_SELECTOR, "#gallery img")
    assert len(pictures) == 2
    assert all(picture.is_displayed() for picture in pictures)
    assert not browser.find_element(By.CSS_SELECTOR, ".slider").is_displayed()
