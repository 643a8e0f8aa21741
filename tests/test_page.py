"""The page of a run: whole in itself, escaped, the same bytes again, and working in a real browser."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rapbench
from rapbench.report.about import About, Paper
from rapbench.report.distance import distance_table
from rapbench.report.pairs import pair_tests
from rapbench.report.table1 import table1
from rapbench.results.gallery import FILE, Gallery, load_gallery, quantised
from tests.browser import USABLE, requests
from tests.results import write_report

EVIL = "</script><script>window.hacked = 1</script><b>'\"&amp;"
HEADER = ["a_model: made up, for the tests.", f"12 images. {EVIL}"]
ABOUT = About(paper=Paper(True))
KS = {"positive": ["0", "250", "4000", "all"], "negative": ["0", "2000", "all"]}
METHODS = ["rap", "lrp_a2b1", "random", "edge", EVIL]
FILES = [f"{i}{EVIL}.JPEG" for i in range(12)]


def results():
    draw = np.random.default_rng(0)
    start = draw.normal(17, 2, 12)
    images, distances = [], []
    for sign, ks in KS.items():
        for step, method in enumerate(METHODS if sign == "positive" else METHODS[:3]):
            for perturbation in ("removal", "shuffling"):
                for place, k in enumerate(ks):
                    logit = start - place * (step + draw.normal(size=12))
                    images.append({"image": FILES, "label": 3, "method": method, "sign": sign,
                                   "perturbation": perturbation, "k": k, "selected": 1,
                                   "predicted": np.where(logit > 14, 3, 5), "correct": logit > 14,
                                   "logit": logit.astype("float32")})  # fmt: skip
            row = {
                "image": FILES,
                "label": 3,
                "method": method,
                "sign": sign,
                "perturbation": "distance",
                "selected": 1,
            }
            distances += [row | {"k": k, "distance": draw.uniform(10, 90, 12)} for k in ("10", "50", "all")]
    return (pd.concat(map(pd.DataFrame, rows), ignore_index=True) for rows in (images, distances))


def gallery():
    draw = np.random.default_rng(1)
    maps = {method: quantised(draw.normal(size=(2, 24, 32)).astype("float32")) for method in METHODS}
    names = [f"class name {i}{EVIL}" for i in range(6)]
    return Gallery("x", FILES[:2], [3, 3], names, draw.integers(0, 255, (2, 24, 32, 3), dtype=np.uint8), maps)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    about = {"header": HEADER, "model": {"name": EVIL, "weights_sha256": "abc"}, "subset": {"n": 12, "sha256": "def"}}
    (place / "provenance.json").write_text(json.dumps(about))
    (place / FILE).write_bytes(gallery().save())
    images, distances = results()
    write_report(place, images, distances, HEADER, about=ABOUT)
    return place


class References(HTMLParser):
    """What a page's elements refer to, and its scripts."""

    def __init__(self):
        super().__init__()
        self.found, self.scripts, self.inside = [], [], False

    def handle_starttag(self, tag, attributes):
        self.found += [(tag, value) for name, value in attributes if name in ("src", "href", "srcset", "action")]
        if tag == "script":
            self.scripts.append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "script"

    def handle_data(self, text):
        if self.inside:
            self.scripts[-1] += text


@pytest.fixture(scope="module")
def parsed(folder):
    parser = References()
    parser.feed((folder / "report.html").read_text("utf-8"))
    return parser


def test_the_page_refers_to_nothing_outside_itself(folder, parsed):
    assert len(parsed.found) > 10
    assert all(value.startswith(("#", "data:image/png;base64,")) for _, value in parsed.found)
    styles = re.findall(r"<style>(.*?)</style>", (folder / "report.html").read_text("utf-8"), re.S)
    assert len(styles) == 1
    assert "url(" not in styles[0]
    assert "@import" not in styles[0]


def test_what_a_user_named_is_text_not_markup(folder, parsed):
    assert len(parsed.scripts) == 3  # data, plotly, the page's own
    data = json.loads(parsed.scripts[0])
    assert {row["at"][4] for row in data["pairs"]} | {row["at"][5] for row in data["pairs"]} == set(METHODS)
    assert "<script>window.hacked" not in (folder / "report.html").read_text("utf-8")


def test_the_same_results_give_the_same_bytes(folder, tmp_path):
    for name in ("provenance.json", FILE):
        shutil.copy(folder / name, tmp_path)
    images, distances = results()
    write_report(tmp_path, images, distances, HEADER, about=ABOUT)
    for path in folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_pages_curves_and_pairs_are_the_tables(parsed):
    data = json.loads(parsed.scripts[0])
    images, distances = results()
    table = table1(images).rename(columns={"method": "label"})
    figures = data["figures"]["table"]
    assert len(figures) == 8
    for key, figure in figures.items():
        sign, metric, perturbation = key.split("|")
        part = table[(table[["sign", "metric", "perturbation"]] == [sign, metric, perturbation]).all(axis=1)]
        drawn = [y for trace in figure["data"] if trace["meta"] == "ours" for y in trace["y"]]
        assert sorted(drawn) == pytest.approx(sorted(part["value"]), abs=1e-6)
        for trace in figure["data"]:
            if trace["meta"] == "ours":
                low, high = trace["error_y"]["arrayminus"], trace["error_y"]["array"]
                for x, y, down, up in zip(trace["x"], trace["y"], low, high, strict=True):
                    row = part[(part["label"] == trace["legendgroup"]) & (part["k"] == x)].iloc[0]
                    assert (y - down, y + up) == pytest.approx((row["low"], row["high"]), abs=1e-5)
    printed = [trace for trace in figures["positive|accuracy|removal"]["data"] if trace["meta"] == "paper"]
    assert {trace["legendgroup"] for trace in printed} == {"rap", "lrp_a2b1"}
    assert printed[0]["y"] == [100.0, 86.8, 34.6]
    means = distance_table(distances)
    drawn = [y for figure in data["figures"]["distance"].values() for trace in figure["data"] for y in trace["y"]]
    assert sorted(drawn) == pytest.approx(sorted(means["mean"]), abs=1e-6)
    assert len(data["pairs"]) == len(pair_tests(images))


def test_a_gallery_survives_its_file_byte_by_byte(tmp_path):
    (tmp_path / FILE).write_bytes(gallery().save())
    back = load_gallery(tmp_path)
    assert back.save() == gallery().save()
    assert (back.files, back.labels, list(back.maps)) == (FILES[:2], [3, 3], METHODS)
    assert all((back.maps[name] == gallery().maps[name]).all() for name in METHODS)
    assert load_gallery(tmp_path / "nowhere") is None


@pytest.mark.parametrize("data", [b"", b"junk", gallery().save()[:3000]])
def test_a_broken_gallery_is_named(tmp_path, data):
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(rapbench.RapbenchError, match=r"gallery\.safetensors is not a gallery that a run wrote"):
        load_gallery(tmp_path)


def test_a_heatmap_is_quantised_around_zero():
    maps = np.zeros((3, 1, 1000), "float32")
    maps[0, 0, :500], maps[0, 0, 500], maps[0, 0, 501] = 1, -0.5, 1e6  # one outlier does not make the rest pale
    maps[1, 0, 7] = -2  # fewer values than the quantile leaves out
    found = quantised(maps)
    assert found[0, 0, [0, 500, 501, 999]].tolist() == [127, -64, 127, 0]
    assert (found[1, 0, 7], np.count_nonzero(found[1])) == (-127, 1)
    assert not found[2].any()


def column(browser, table, place):
    script = (
        "return [...document.querySelector(arguments[0]).tBodies[0].rows].map(r => r.cells[arguments[1]].dataset.value)"
    )
    return [float(value) for value in browser.execute_script(script, table, place)]


@pytest.mark.slow
@pytest.mark.skipif(not USABLE, reason="needs Chromium and its driver")
def test_the_page_works_in_a_browser_without_network(folder, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    page = (folder / "report.html").as_uri()
    browser.get(page)
    run = browser.execute_script
    assert run("return window.hacked") is None
    assert run("return [...document.images].every(i => i.complete && i.naturalWidth === 32)")
    assert run("return document.images.length") == 2 * (1 + len(METHODS))

    # a table sorts, by number, both ways
    heading = '[data-key="positive|accuracy|removal"] table'
    button = browser.find_elements(By.CSS_SELECTOR, f"{heading} thead button")[3]
    before = column(browser, heading, 3)
    assert before != sorted(before)
    button.click()
    assert column(browser, heading, 3) == sorted(before)
    button.click()
    assert column(browser, heading, 3) == sorted(before, reverse=True)
    names = run(f"return [...document.querySelectorAll('{heading} tbody th')].map(h => h.textContent)")
    browser.find_elements(By.CSS_SELECTOR, f"{heading} thead button")[0].click()
    again = run(f"return [...document.querySelectorAll('{heading} tbody th')].map(h => h.textContent)")
    assert again != names
    assert sorted(again) == sorted(names)

    # the curve and its table change together, and say their numbers on hover
    drawn = "return document.getElementById('curve').data.filter(t => t.visible).map(t => t.y).flat()"
    shown = (
        "return [...document.querySelectorAll('[data-view=table]')].filter(v => v.offsetParent).map(v => v.dataset.key)"
    )
    first = run(drawn)
    assert run(shown) == ["positive|accuracy|removal"]
    for name, value in (("sign", "negative"), ("metric", "score"), ("perturbation", "shuffling")):
        run(f"document.querySelector('input[name=\"table-{name}\"][value={value}]').click()")
    assert run(shown) == ["negative|score|shuffling"]
    second = run(drawn)
    assert second != first
    cells = column_values(browser)
    assert sorted(second) == pytest.approx(sorted(cells), abs=1e-5)
    run("Plotly.Fx.hover('curve', [{curveNumber: 0, pointNumber: 1}])")
    label = run("return document.querySelector('#curve .hoverlayer').textContent")
    assert re.search(r"K = 2000: .+\[.+, .+\]12 images", label), label
    run("document.getElementById('show-paper').click()")
    assert len(run(drawn)) > len(second)
    run("document.getElementById('show-intervals').click()")
    assert run("return document.querySelectorAll('#curve .errorbar').length") > 0

    # pairs of methods, and the gallery's captions
    Select(browser.find_element(By.CSS_SELECTOR, '[data-filter] [data-column="0"]')).select_by_value("negative")
    Select(browser.find_element(By.CSS_SELECTOR, '[data-filter] [data-column="3"]')).select_by_value("2000")
    assert run("return document.getElementById('pairs').tBodies[0].rows.length") == 3
    caption = "return document.querySelector('.after[data-method=lrp_a2b1]').textContent"
    at_first = run(caption)
    assert re.match(r"[✓✗] class name [35].*, label's logit", at_first), at_first
    Select(browser.find_element(By.CSS_SELECTOR, "[data-gallery-key=sign]")).select_by_value("negative")
    ks = run("return [...document.querySelector('[data-gallery-key=K]').options].map(o => o.value)")
    assert ks == ["2000", "all"]
    assert run(caption) != at_first
    run("Plotly.Fx.unhover('curve')")

    assert browser.get_log("browser") == []
    asked, failed = requests(browser, page)
    assert page in asked
    assert [url for url in asked if url != page and not url.startswith(("data:", "blob:"))] == []
    assert failed == []
    assert run("return document.documentElement.scrollWidth") <= 1280


def column_values(browser):
    script = ("return [...document.querySelectorAll('[data-key=\"negative|score|shuffling\"] td')]"
              ".map(c => c.dataset.value)")  # fmt: skip
    return [float(value) for value in browser.execute_script(script)]


@pytest.mark.slow
@pytest.mark.skipif(not USABLE, reason="needs Chromium and its driver")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_narrow_screen_in_either_scheme(folder, browser, scheme):
    feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get((folder / "report.html").as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    lightness = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
    assert lightness > 240 if scheme == "light" else lightness < 40
    assert browser.get_log("browser") == []
    assert Path(browser.current_url.removeprefix("file://")).name == "report.html"
