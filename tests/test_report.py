import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

import rapbench
from rapbench.core import paths
from rapbench.report import plots
from rapbench.report.about import About, Paper
from rapbench.report.canvas import figure_files
from rapbench.report.distance import distance_table, distance_terminal
from rapbench.report.paper import beside_paper, markdown_paper
from rapbench.report.table1 import table1
from rapbench.report.table1_text import table1_latex, table1_markdown, table1_terminal
from rapbench.report.verdict import markdown_verdict, no_verdict, verdicts
from rapbench.results.display import NAMES, ordered
from rapbench.results.published import published_table1
from tests.results import write_report

OF_IMAGES = {"curves.png", "curves.pdf", "table1.csv", "table1.md", "table1.tex", "intervals.md", "intervals.tex",
             "tests.csv", "verdict.csv", "paper.csv", "report.html"}  # fmt: skip
OF_DISTANCES = {"distance.csv", "distance.png", "distance.pdf", "report.html"}
ABOUT = About(caption=("For print.",), paper=Paper(True))
HEADER = ["A_model at 95% of 3 images.", "Seed 0."]


def results(method="rap", sign="positive", perturbation="removal", k="250", correct=(True, True, False), logits=None):
    logits = logits or [12.5, 10.0, 3.0]
    rows = [
        {
            "image": f"{i}.JPEG",
            "label": i,
            "selected": 250,
            "predicted": i if hit else -1,
            "correct": hit,
            "logit": logit,
        }
        for i, (hit, logit) in enumerate(zip(correct, logits, strict=True))
    ]
    return pd.DataFrame(rows).assign(method=method, sign=sign, perturbation=perturbation, k=k)


def both(**options):
    shuffled = results(perturbation="shuffling", correct=(True, False, False), logits=[9.0, 6.0, -3.0], **options)
    return pd.concat([results(**options), shuffled])


def distances(values, method="rap", sign="positive", k="100"):
    images = [f"{i}.JPEG" for i in range(len(values))]
    frame = pd.DataFrame({"image": images, "label": 0, "selected": 100, "distance": values})
    return frame.assign(method=method, sign=sign, k=k)


def rows(text):
    """Each line of a text as the list of its cells, be they apart by | (Markdown) or by two blanks (terminal)."""
    return [re.split(r"\s*\|\s*|\s\s+", line.strip("|").strip()) for line in text.splitlines()]


def test_published_numbers_are_whole():
    table = published_table1()
    assert list(table) == ["sign", "method", "metric", "perturbation", "k", "value", "note"]
    assert len(table) == 8 * 7 * 2 * 2 + 3 * 7 * 2 * 2
    assert not table.duplicated(["sign", "method", "metric", "perturbation", "k"]).any()
    assert set(table["k"]) == {"0", "250", "500", "1000", "2000", "4000", "6000", "8000", "10000", "all"}
    assert set(table[table["k"] == "0"]["value"]) == {100.0, 19.02}


def test_published_misprints_are_noted_and_nothing_else_is():
    table = published_table1()
    wrong = table[table["note"] != ""]
    assert wrong[["sign", "method", "metric", "perturbation", "k", "value"]].values.tolist() == [
        ["positive", "pattern_attribution", "accuracy", "shuffling", "all", 5.23],
        ["positive", "pattern_attribution", "score", "removal", "all", 0.0],
    ]
    assert wrong["note"].str.startswith("misprint: ").all()
    right = table[(table["metric"] == "accuracy") & (table["note"] == "")]["value"] * 5  # 500 images: multiples of 0.2
    assert (right - right.round()).abs().max() < 1e-9


def test_resource_prefers_the_package_and_names_both_places(tmp_path, monkeypatch):
    package = tmp_path / "rapbench"
    package.mkdir()
    monkeypatch.setattr(paths, "FOLDER", package)
    with pytest.raises(FileNotFoundError) as error:
        paths.resource("baselines", "a.csv")
    inside, beside = package / "baselines" / "a.csv", tmp_path / "baselines" / "a.csv"
    assert str(inside) in str(error.value)
    assert str(beside) in str(error.value)
    for file in beside, inside:
        file.parent.mkdir()
        file.touch()
        assert paths.resource("baselines", "a.csv") == file


def test_table1_by_hand():
    table = table1(both())
    assert list(table) == ["sign", "method", "metric", "perturbation", "k", "value", "n", "low", "high"]
    assert table.drop(columns=["value", "low", "high"]).values.tolist() == [
        ["positive", "rap", "accuracy", "removal", "250", 3],
        ["positive", "rap", "accuracy", "shuffling", "250", 3],
        ["positive", "rap", "score", "removal", "250", 3],
        ["positive", "rap", "score", "shuffling", "250", 3],
    ]
    assert table["value"].tolist() == pytest.approx([200 / 3, 100 / 3, 8.5, 4.0], rel=1e-15)
    # Wilson's closed form for 2 and 1 of 3; the bootstrap's ends are means of three of the three logits
    assert table["low"].tolist() == pytest.approx([20.7655, 6.1492, 3.0, -3.0], abs=1e-3)
    assert table["high"].tolist() == pytest.approx([93.8508, 79.2345, 35 / 3, 8.0], abs=1e-3)


def test_table1_does_not_hide_a_logit_that_is_no_number():
    table = table1(results(logits=[1.0, float("nan"), 2.0])).set_index("metric")["value"]
    assert table["accuracy"] == pytest.approx(200 / 3)
    assert pd.isna(table["score"])


def test_table1_ignores_the_order_of_images():
    images = results(correct=[True] * 4, logits=[1e16, 1.0, -1e16, 1.0])
    assert table1(images).equals(table1(images.iloc[::-1]))


def test_table1_is_in_the_papers_order():
    names = ["mine", "random", "rap", "lrp_a1b0", "another", "gradient_x_input", "sensitivity", "integrated_gradients"]
    images = [results(method=name, k=k) for name in names for k in ("all", "1000", "250", "0")]
    images += [results(sign="negative"), results(perturbation="blur"), results(perturbation="shuffling")]
    table = table1(pd.concat(images[::-1]))
    assert list(dict.fromkeys(table["sign"])) == ["positive", "negative"]
    positive = table[table["sign"] == "positive"]
    known = ["sensitivity", "gradient_x_input", "integrated_gradients", "lrp_a1b0", "rap"]
    assert list(dict.fromkeys(positive["method"])) == [*known, "another", "mine", "random"]
    rap = positive[positive["method"] == "rap"]
    assert list(zip(rap["metric"], rap["perturbation"], rap["k"], strict=True)) == [
        (metric, perturbation, k)
        for metric in ("accuracy", "score")
        for perturbation in ("removal", "shuffling", "blur")
        for k in (["0", "250", "1000", "all"] if perturbation == "removal" else ["250"])
    ]


def test_order_of_the_published_table_is_the_same():
    table = published_table1()
    for column in ("sign", "metric", "perturbation"):
        assert ordered(column, reversed(table[column].tolist())) == list(dict.fromkeys(table[column]))
    positive = table[table["sign"] == "positive"]["method"]
    assert ordered("method", reversed(positive.tolist())) == list(dict.fromkeys(positive))


def test_distance_table_by_hand():
    frame = pd.concat([distances([5.0, 1.0, float("nan")]), distances([4.0, 6.0, 8.0], sign="negative", k="all")])
    table = distance_table(frame.iloc[::-1])
    assert list(table) == ["sign", "method", "metric", "k", "mean", "std", "n", "low", "high"]
    assert table[["low", "high"]].values.tolist() == [[1.0, 5.0], [4.0, 8.0]]
    assert table.drop(columns=["low", "high"]).values.tolist() == [
        ["positive", "rap", "distance", "100", 3.0, pytest.approx(8**0.5), 2],
        ["negative", "rap", "distance", "all", 6.0, 2.0, 3],
    ]
    text = distance_terminal(table)
    assert "3.00 ± 2.00" in text
    assert "6.00 ± 1.15" in text
    assert text.index("Positive") < text.index("Negative")


def test_markdown_puts_the_papers_cells_below_ours():
    images = pd.concat([both(k=k) for k in ("0", "250", "300", "all")])
    text = table1_markdown(table1(images), published_table1(), HEADER)
    table = rows(text)
    assert text.startswith("A_model at 95% of 3 images.\n\nSeed 0.\n\n### Positive attributions: accuracy (%)\n")
    ours = table.index(["RAP"] + ["66.7 (33.3)"] * 4)
    assert table[ours - 2] == ["K", "0", "250", "300", "all"]
    assert table[ours + 1] == ["paper (VGG-16)", "100.0 (100.0)", "88.8 (88.0)", "", "6.0 (5.4)"]
    ours = table.index(["RAP"] + ["8.50 (4.00)"] * 4)
    assert table[ours + 1] == ["paper (VGG-16)", "19.02 (19.02)", "17.98 (17.79)", "", "9.31 (10.30)"]
    assert text.count("Cells: removal (shuffling); 3 images.") == 2
    assert "†" not in text


def test_signs_are_not_mixed_up():
    text = table1_terminal(table1(results(sign="negative", k="2000")), published_table1())
    assert "Negative attributions: accuracy (%)" in text
    assert ["paper (VGG-16)", "86.8"] in rows(text)
    assert "Positive" not in text


def test_a_method_the_paper_lacks_has_no_paper_row():
    images = pd.concat([results(method="random"), results(method="lrp_a1b0", sign="negative", k="2000")])
    text = table1_terminal(table1(images), published_table1())
    assert "Random" in text
    assert "LRP-α1β0" in text  # noqa: RUF001
    assert "paper" not in text


def test_misprints_are_shown_as_printed_and_flagged():
    text = table1_markdown(table1(both(method="pattern_attribution", k="all")), published_table1(), [])
    assert ["paper (VGG-16)", "0.0 (5.23†)"] in rows(text)
    assert ["paper (VGG-16)", "0† (7.65)"] in rows(text)
    accuracy, score = text.split("### Positive attributions: mean target logit")
    assert "† as printed; misprint: an accuracy on 500 images is a multiple of 0.2" in accuracy
    assert "† as printed; misprint: its neighbours suggest 5.23" in score
    assert "multiple of 0.2" not in score


@pytest.mark.parametrize(
    ("perturbation", "ours", "paper"), [("removal", "66.7", "88.8"), ("shuffling", "66.7", "88.0")]
)
def test_a_single_perturbation_stands_alone(perturbation, ours, paper):
    text = table1_markdown(table1(results(perturbation=perturbation)), published_table1(), [])
    assert ["RAP", ours] in rows(text)
    assert ["paper (VGG-16)", paper] in rows(text)
    assert f"Perturbation: {perturbation} only; 3 images." in text


def test_missing_cells_and_uneven_counts_are_said():
    images = pd.concat([both(), results(method="lrp_a2b1"), both(k="500").iloc[:-1]])
    text = table1_terminal(table1(images), published_table1())
    assert "2 to 3 images, not the same in each cell" in text
    assert "66.7 (–)" in text  # noqa: RUF001


def test_negative_numbers_and_stars():
    images = results(method="gradient_x_input", logits=[-1.0, -2.0, -3.0]), results(k="500", logits=[-0.001, 0.0, 0.0])
    table = table1(pd.concat(images))
    assert r"Gradient*Input & $-$2.00 &  \\" in table1_latex(table, published_table1(), [], [])
    text = table1_markdown(table, published_table1(), [])
    assert r"Gradient\*Input" in text
    assert ["RAP", "", "0.00"] in rows(text)


def test_latex_is_escaped():
    images = pd.concat([both(method=name, k="all") for name in ("my_method", "lrp_a1b0", "pattern_attribution")])
    text = table1_latex(table1(images), published_table1(), [*HEADER, "To do: make X=1."], HEADER)
    assert text.startswith("% Needs \\usepackage{booktabs}.\n% A_model at 95% of 3 images.\n% Seed 0.\n")
    code = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert r"\caption{A\_model at 95\% of 3 images. Seed 0. Positive attributions: accuracy (\%)." in code
    assert "To do" not in code
    assert r"my\_method & 66.7 (33.3) \\" in code
    assert r"LRP-$\alpha_1\beta_0$ & 66.7 (33.3) \\" in code
    assert r"\quad paper (VGG-16) & 0.0 (5.23$^\dagger$) \\" in code
    assert "_" not in code.replace(r"\_", "").replace(r"\alpha_1\beta_0", "")
    assert "%" not in code.replace(r"\%", "")
    assert code.isascii()
    for name in ("toprule", "midrule", "bottomrule", "begin{tabular}{lr}", "end{table}"):
        assert code.count(f"\\{name}") == 2


def test_report_writes_every_file_and_the_numbers_survive(tmp_path):
    images = pd.concat([both(k=k, sign=sign) for sign in ("positive", "negative") for k in ("0", "250", "all")])
    means = pd.concat([distances([1.0, 2.0], k="10"), distances([1.0, 3.0], k="20")])
    text = write_report(tmp_path / "new" / "folder", images, means, HEADER, about=ABOUT)
    folder = tmp_path / "new" / "folder"
    assert {file.name for file in folder.iterdir()} == OF_IMAGES | OF_DISTANCES
    for name, expected in (("table1.csv", table1(images)), ("distance.csv", distance_table(means))):
        back = pd.read_csv(folder / name, dtype={"k": str})
        pd.testing.assert_frame_equal(back, expected, check_exact=True)
    clean = "At K = 0 (clean images) the network classifies 2 of 3 correctly."
    header, caption = [*HEADER, clean], ["For print.", clean]
    verdict = markdown_verdict(verdicts(images), no_verdict(images))
    paper = markdown_paper(beside_paper(table1(images), published_table1()))
    shown = table1_markdown(table1(images), published_table1(), [*header, verdict, paper])
    assert (folder / "table1.md").read_text("utf-8") == shown
    assert (folder / "table1.tex").read_text("utf-8") == table1_latex(
        table1(images), published_table1(), header, caption
    )
    assert text.startswith(f"{header[0]}\n{header[1]}\n{clean}\n\nPositive attributions: accuracy (%)\n")
    assert "D_K, mean distance" in text
    assert imread(folder / "curves.png").shape == (1260, 1560, 4)  # two signs by two metrics at 150 dpi
    assert imread(folder / "distance.png").shape == (720, 780, 4)
    for name in ("curves.pdf", "distance.pdf"):
        data = (folder / name).read_bytes()
        assert data.startswith(b"%PDF-")
        assert b"CreationDate" not in data


@pytest.mark.parametrize("none", [None, pd.DataFrame()])
def test_report_of_distances_or_of_images_alone(tmp_path, none):
    text = write_report(tmp_path, none, distances([1.0, 2.0]), [])
    assert {file.name for file in tmp_path.iterdir()} == OF_DISTANCES
    assert text.startswith("Positive attributions: D_K, mean distance (pixels)\n")
    write_report(tmp_path / "images", results(), none, [], about=ABOUT)
    assert {file.name for file in (tmp_path / "images").iterdir()} == OF_IMAGES


def test_a_failed_write_leaves_no_rest(tmp_path):
    (tmp_path / "table1.csv").mkdir()  # a folder in the way: the rename must fail
    with pytest.raises(rapbench.RapbenchError, match=r"cannot write .*table1\.csv: Is a directory"):
        write_report(tmp_path, results(), None, [])
    assert [file.name for file in tmp_path.iterdir()] == ["table1.csv"]


def ink(path: Path):
    """The colours that a PNG holds."""
    red, green, blue = (imread(path)[..., :3] * 255).round().astype(int).reshape(-1, 3).T
    return {f"#{colour:06X}" for colour in np.unique(red * 65536 + green * 256 + blue)}


def test_a_methods_style_does_not_depend_on_who_else_is_drawn():
    alone = plots.method_styles(pd.Series(["rap", "random"]))
    among = plots.method_styles(pd.Series(["random", "zebra", "rap", "mine", "sensitivity"]))
    assert {name: among[name] for name in alone} == alone
    looks = {(style["color"], style["marker"]) for style in among.values()}
    assert len(looks) == 5


@pytest.mark.parametrize("others", [["edge"], ["lrp_epsilon", "guided_backprop", "edge", "mine"]])
def test_no_two_methods_share_a_colour_while_there_are_others(others):
    papers = ["rap", "sensitivity", "gradient_x_input", "lrp_a1b0", "random"]
    styles = plots.method_styles(pd.Series([*others, *papers]))
    assert len({style["color"] for style in styles.values()}) == len(styles)
    many = plots.method_styles(pd.Series([f"own{number}" for number in range(25)]))
    assert len(many) == 25


def test_curves_draw_each_method_in_its_own_colour(tmp_path):
    images = [results(method=name, k=k) for name in ("rap", "sensitivity", "random") for k in ("0", "250", "all")]
    for stem, some in (("a", images), ("b", images[:3])):
        figure = plots.curves(table1(pd.concat(some)), "a title")
        (tmp_path / f"{stem}.png").write_bytes(figure_files(figure, stem)[f"{stem}.png"])
    rap, sensitivity = plots.COLOURS[8], plots.COLOURS[0]
    assert {rap, sensitivity} <= ink(tmp_path / "a.png")
    assert rap in ink(tmp_path / "b.png")
    assert sensitivity not in ink(tmp_path / "b.png")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
def test_latex_compiles_and_fits_the_page(tmp_path):
    ks = {"positive": ["0", "250", "500", "1000", "2000", "4000", "all"], "negative": ["0", "2000", "10000", "all"]}
    names = [name for name in NAMES if name not in ("accuracy", "score")]
    images = [both(method=name, sign=sign, k=k) for name in [*names, "my_method"] for sign in ks for k in ks[sign]]
    write_report(tmp_path, pd.concat(images), None, [*HEADER, r"50 % of $x_1$ & {so} on ~ \\ ^ #1."])
    for name in ("table1", "intervals"):
        packages = r"\documentclass{article}\usepackage[margin=2cm]{geometry}\usepackage{booktabs}"
        text = rf"{packages}\begin{{document}}\input{{{name}}}\end{{document}}"
        (tmp_path / "page.tex").write_text(text)
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
        assert done.returncode == 0, done.stdout[-2000:]
        assert "LaTeX Warning: Float too large" not in done.stdout
        wide = [float(size) for size in re.findall(r"Overfull .hbox .(\d+\.\d+)pt", done.stdout)]
        assert not wide
