"""AOPC and its curves from per-image scores: by hand, their layout, and the page."""

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from rapbench import RapbenchError, report
from rapbench.report import plots
from rapbench.report.about import About, Paper
from rapbench.report.canvas import figure_files
from rapbench.report.region_curves import region_curves
from rapbench.report.regions import aopc, aopc_blocks, by_cell, drop_curve
from rapbench.report.statistics import bootstrap_means
from rapbench.report.table_text import markdown_blocks, terminal_blocks
from tests.results import write_report
from tests.test_report import both, distances, ink, rows

FILES = ["regions.csv", "aopc.csv", "aopc.md", "regions.png", "regions.pdf", "report.html"]
SCORES = {"a.JPEG": [10.0, 8.0, 3.0], "b.JPEG": [6.0, 7.0, 5.0], "c.JPEG": [4.0, 4.0, 4.0]}


def frame(scores=SCORES, method="rap", order="morf", perturbation="regions", output="logit"):
    found = [{"image": image, "step": step, "score": np.float32(score)}
             for image, values in scores.items() for step, score in enumerate(values)]  # fmt: skip
    names = {"method": method, "order": order, "perturbation": perturbation, "output": output}
    return pd.DataFrame(found).assign(label=0, predicted=0, correct=True, **names)


def steps(slope, images=6, length=12, seed=0, **names):
    draw = np.random.default_rng(seed)
    falls = 20 - slope * np.arange(length + 1) * draw.uniform(0.5, 1.5, (images, 1))
    return frame({f"{i}.JPEG": values for i, values in enumerate(falls)}, **names)


def many():
    methods = {"random": 0.2, "mine<b>": 0.3, "rap": 0.8, "sensitivity": 0.6}
    return pd.concat(
        [steps(slope * share if order != "random" else 0.25, method=method, order=order)
         for method, slope in methods.items() for order, share in (("random", 1), ("lerf", 0.1), ("morf", 1))]
    )  # fmt: skip


def test_aopc_by_hand():
    # drops: a 0, 2, 7; b 0, -1, 1; c 0, 0, 0. Areas: 3, 0, 0.
    (cell,) = by_cell(frame())
    curve, area = drop_curve(cell), aopc(cell)
    assert list(curve) == ["perturbation", "method", "order", "output", "step", "value", "n", "low", "high"]
    assert list(area) == ["perturbation", "method", "order", "output", "L", "value", "n", "low", "high"]
    assert curve["step"].tolist() == [0, 1, 2]
    assert curve["value"].tolist() == pytest.approx([0, 1 / 3, 8 / 3])
    assert area[["L", "value", "n"]].values.tolist() == [[2, 1.0, 3]]
    assert (curve["n"] == 3).all()
    low, high = bootstrap_means(np.array([[0, 2, 7], [0, -1, 1], [0, 0, 0.0]]))
    assert curve["low"].tolist() == low.tolist()
    assert curve["high"].tolist() == high.tolist()
    ends = bootstrap_means(np.array([[3.0], [0], [0]]))
    assert area[["low", "high"]].values.tolist() == [[ends[0][0], ends[1][0]]]


def test_the_order_of_rows_moves_nothing():
    whole = many()
    mixed = whole.sample(frac=1, random_state=3)
    for of in (drop_curve, aopc):
        one, other = (pd.concat(map(of, by_cell(rows)), ignore_index=True) for rows in (whole, mixed))
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_cells_are_in_the_order_of_table_one():
    names = [tuple(cell[["method", "order"]].iloc[0]) for cell in by_cell(many())]
    assert names == [(method, order) for method in ("sensitivity", "rap", "mine<b>", "random")
                     for order in ("morf", "lerf", "random")]  # fmt: skip


def test_an_image_that_is_there_twice_is_refused():
    with pytest.raises(RapbenchError, match=r"the results hold b\.JPEG twice; run again"):
        by_cell(pd.concat([frame(), frame({"b.JPEG": [1.0, 1.0, 1.0]})]))


def test_one_image_has_no_interval_and_a_score_that_is_no_number_shows():
    area = aopc(frame({"a.JPEG": [10.0, 8.0]}))
    assert area[["value", "n"]].values.tolist() == [[1.0, 1]]
    assert area[["low", "high"]].isna().all(axis=None)
    assert rows(terminal_blocks(aopc_blocks(area)))[4] == ["RAP", "1.000"]
    curve = drop_curve(frame(SCORES | {"a.JPEG": [10.0, float("nan"), 3.0]}))
    assert curve["value"].isna().tolist() == [False, True, False]


def test_the_layout_of_aopc():
    parts = [aopc(cell) for cell in by_cell(pd.concat([frame(), frame(order="lerf", method="lrp_a2b1")]))]
    blocks = aopc_blocks(pd.concat(parts))
    text = markdown_blocks(blocks)
    assert text[0] == "### AOPC of the target logit over L = 2 regions"
    assert "3 images." in text[1]
    table = rows(text[2])
    assert table[0] == ["order", "most relevant first", "least relevant first"]
    assert table[2:] == [["LRP-α2β1", "–", "1.000 [0.000, 3.000]"], ["RAP", "1.000 [0.000, 3.000]", "–"]]  # noqa: RUF001
    assert rows(terminal_blocks(blocks))[2] == ["order", "most relevant first", "least relevant first"]
    other = aopc(frame(perturbation="blurred", output="probability"))
    assert [block.title for block in aopc_blocks(pd.concat([*parts, other]))] == [
        "AOPC of the target logit over L = 2 regions",
        "AOPC of the probability of the target over L = 2 regions (blurred)",
    ]


def drawn(table):
    return figure_files(region_curves(table, "a title"), "a")


def test_the_figure_draws_each_method_and_the_random_order_once(tmp_path):
    table = pd.concat([drop_curve(cell) for cell in by_cell(many())], ignore_index=True)
    files = drawn(table)
    (tmp_path / "a.png").write_bytes(files["a.png"])
    assert imread(tmp_path / "a.png").shape == (720, 1560, 4)  # two orders at 150 dpi
    assert {plots.COLOURS[8], plots.COLOURS[0], "#777777", "#000000"} <= ink(tmp_path / "a.png")
    assert files["a.pdf"].startswith(b"%PDF")
    assert drawn(table) == files
    without = table[table["method"] != "rap"]
    (tmp_path / "b.png").write_bytes(drawn(without)["a.png"])
    assert plots.COLOURS[8] not in ink(tmp_path / "b.png")


def test_each_panel_draws_its_own_order_and_the_random_one(tmp_path):
    table = pd.concat([drop_curve(cell) for cell in by_cell(many())], ignore_index=True)
    halves = {}
    for order in ("morf", "lerf"):
        table_of_one = table[(table["method"] != "sensitivity") | (table["order"] == order)]
        (tmp_path / "a.png").write_bytes(drawn(table_of_one)["a.png"])
        picture = np.rint(imread(tmp_path / "a.png")[:600, :, :3] * 255).astype(int)  # above the legend
        inked = (picture == [int(plots.COLOURS[0][at : at + 2], 16) for at in (1, 3, 5)]).all(2)
        halves[order] = inked[:, :780].any(), inked[:, 780:].any()
    assert halves == {"morf": (True, False), "lerf": (False, True)}
    for method in ("sensitivity", "rap"):  # the first method's is drawn, for all
        moved = table.copy()
        moved.loc[(table["order"] == "random") & (table["method"] == method), "value"] += 1
        assert (drawn(moved) == drawn(table)) == (method == "rap")


def test_files_of_an_earlier_report_go_and_nothing_else_does(tmp_path):
    (tmp_path / "notes.csv").write_text("mine")
    images = pd.concat([both(method=method) for method in ("rap", "mine", "random")])
    means, about = distances([1.0, 2.0]), About(paper=Paper(True))
    write_report(tmp_path, images, means, [], many(), about)
    assert {path.name for path in tmp_path.iterdir()} == {"notes.csv", *report.FILES}
    write_report(tmp_path, None, None, [], many())
    assert {path.name for path in tmp_path.iterdir()} == {"notes.csv", *FILES}
    write_report(tmp_path, images, means, [], about=about)
    assert {path.name for path in tmp_path.iterdir()} == {"notes.csv", "report.html", *set(report.FILES) - set(FILES)}


def test_a_report_of_regions_alone_and_the_pages_table(tmp_path):
    text = write_report(tmp_path, None, None, ["a_model: made up.", "6 images."], many())
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)
    assert text.startswith("a_model: made up.\n6 images.\n\nAOPC of the target logit over L = 12 regions\n")
    areas = pd.read_csv(tmp_path / "aopc.csv")
    pd.testing.assert_frame_equal(areas, pd.concat([aopc(cell) for cell in by_cell(many())], ignore_index=True))
    assert (tmp_path / "aopc.md").read_text().startswith("a_model: made up.\n\n6 images.\n\n### AOPC")
    page = (tmp_path / "report.html").read_text("utf-8")
    section = page.partition('<section id="aopc">')[2].partition("</section>")[0]
    assert '<a href="#aopc">AOPC</a>' in page
    assert "mine&lt;b&gt;" in section
    assert "mine<b>" not in section
    shown = [float(value) for value in re.findall(r'data-value="(-?[\d.]+)"', section)]
    assert shown == pytest.approx(areas["value"].tolist(), abs=1e-6)
    assert re.findall("<button.*?>(.*?)</button>", section) == ["Method", "most relevant first",
                                                                "least relevant first", "random order"]  # fmt: skip
