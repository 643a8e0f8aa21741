"""The paper's pictures: hand-worked colours, masks and choices, sheets without overlaps, and real runs drawn twice."""

import itertools
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.textpath import TextPath
from PIL import Image

import rapbench
from rapbench.app import draw_figures
from rapbench.app.cli import main
from rapbench.app.figure_command import FIGURES, each_model
from rapbench.app.finished_run import FinishedRun
from rapbench.app.hydra_app import composed
from rapbench.core.errors import MethodError
from rapbench.core.paths import resource
from rapbench.data.samples import samples
from rapbench.report.paper_figures import sheet
from rapbench.report.paper_figures.chosen import choose
from rapbench.report.paper_figures.columns import Columns
from rapbench.report.paper_figures.heatmaps import SHADE, Block, coloured, heatmap_sheets
from rapbench.report.paper_figures.look import COLOURS, Look
from rapbench.report.paper_figures.masks import (
    MARKS,
    Example,
    Mask,
    fewer_sentence,
    marked,
    mask_sheets,
    selected_pixels,
)
from rapbench.report.pictures import palette
from rapbench.results.display import NAMES
from tests.results import images as of_images

ROOT = Path(__file__).resolve().parents[1]

# Captum's comes last: side by side in twelve columns its heading touches that of Deconvolution, one long word.
METHODS = [
    "deconvolution", "deeplift", "edge", "gradient_x_input", "guided_backprop", "integrated_gradients", "lrp_a1b0",
    "lrp_a2b1", "lrp_alpha_beta", "lrp_epsilon", "lrp_preset_a", "lrp_preset_b", "pattern_attribution", "pattern_net",
    "rap", "rap_aaai", "sensitivity", "smoothgrad", "captum_lrp", "random",
]  # fmt: skip
LONG = ["Staffordshire bullterrier, a dog of many words", "tench", "Chihuahua", "rule"]
FILES = ["val/n01440764/ILSVRC2012_val_00000293.JPEG", "a.png", "imagenet_00_243.jpg", "x" * 60]
WIDE = 9.0  # inches: more dots than any map here has pixels


# What a map looks like


@pytest.mark.parametrize("name", COLOURS)
def test_zero_is_white_and_the_signs_have_the_ends(name):
    blue, white, red = palette(name)[[1, 128, 255]].astype(int)
    assert white.tolist() == [255, 255, 255]
    assert red[0] > red[2]
    assert blue[2] > blue[0]


def test_colours_are_symmetric_around_zero_and_clipped_at_the_percentile():
    heatmap = np.array([[0, 1, -1, 2], [-2, 4, -4, 8]], np.float32)
    image = np.zeros((2, 4, 3), np.uint8)
    found = coloured(heatmap, image, Look(percentile=100), WIDE)
    steps = np.array([[0, 16, -16, 32], [-32, 64, -64, 127]])  # 127 v / 8, to the nearest
    assert (found == palette()[steps + 128]).all()
    clipped = coloured(heatmap, image, Look(percentile=50), WIDE)  # the median of |v| is 2
    assert (clipped == palette()[np.array([[0, 64, -64, 127], [-127, 127, -127, 127]]) + 128]).all()


def test_an_overlay_tints_the_grey_picture_and_leaves_it_where_relevance_is_zero():
    image = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 0]]], np.uint8)
    heatmap = np.array([[0, 0, 1]], np.float32)
    found = coloured(heatmap, image, Look(overlay=True), WIDE)
    light = [1 - SHADE + SHADE * 0.299, 1 - SHADE + SHADE * 0.587, 1 - SHADE]
    red = palette()[255]
    assert found[0, 0].tolist() == [round(255 * light[0])] * 3
    assert found[0, 1].tolist() == [round(255 * light[1])] * 3
    assert found[0, 2].tolist() == np.rint(red * light[2]).tolist()


def test_a_dot_holds_the_mean_of_its_pixels():
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    assert sheet.dots(values, 2 / sheet.DPI).tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert sheet.dots(values, 4 / sheet.DPI).tolist() == values.tolist()
    assert sheet.dots(values, 9 / sheet.DPI).tolist() == values.tolist()
    both = np.tile(np.array([[1, -1], [-1, 1]], np.float32), (2, 2))
    assert (coloured(both, np.zeros((4, 4, 3), np.uint8), Look(), 2 / sheet.DPI) == 255).all()  # not purple


# Words and places


def width_of(text: str, size: float) -> float:
    return TextPath((0, 0), text, size=size).get_extents().width / 72


@pytest.mark.parametrize("name", FILES)
def test_a_file_name_is_shortened_in_its_middle_to_the_width(name):
    found = sheet.shortened(name, 0.7, sheet.SMALL)
    whole = name.rpartition("/")[2]
    assert width_of(found, sheet.SMALL) <= 0.75
    if found != whole:
        start, end = found.split("…")
        assert whole.startswith(start)
        assert whole.endswith(end)
        assert min(len(start), len(end)) >= 2
        assert width_of(whole, sheet.SMALL) > 0.7


@pytest.mark.parametrize("text", [*LONG, *NAMES.values(), ""])
def test_a_text_is_broken_to_the_width(text):
    lines = sheet.fitted(text, 0.8, 2).split("\n")
    assert len(lines) <= 2
    assert all(width_of(line, sheet.SIZE) <= 0.88 for line in lines if line)
    shown = "".join("".join(lines).rstrip("…").split())
    assert "".join(text.split()).startswith(shown)  # a word longer than a line is broken too


@pytest.mark.parametrize("count", range(1, len(METHODS) + 1))
def test_columns_fill_the_width_in_the_tables_order_on_whole_dots(count):
    columns = Columns.of(METHODS[:count][::-1])
    lefts = [sheet.LABELS, *columns.x.values()]
    assert set(columns.x) == set(METHODS[:count])
    assert lefts[-1] + columns.side <= sheet.WIDTH
    assert all(b - a == pytest.approx(columns.side + sheet.GAP) for a, b in itertools.pairwise(lefts))
    assert (columns.side + sheet.GAP) * (count + 1) >= 0.95 * (sheet.WIDTH - sheet.LABELS) or columns.side == 1
    assert columns.side * sheet.DPI == pytest.approx(round(columns.side * sheet.DPI), abs=1e-9)
    assert ["".join(head.split()) for head in columns.heads.values()] == [
        "".join(NAMES[name].split()) for name in columns.x
    ]


def test_method_names_stand_in_the_tables_order():
    assert list(Columns.of(["random", "edge", "rap", "sensitivity"]).x) == ["sensitivity", "rap", "edge", "random"]


def overlaps(figure) -> list:
    """Texts and pictures that cover each other, and what leaves the sheet."""
    FigureCanvasAgg(figure).draw()
    renderer = figure.canvas.get_renderer()
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in figure.texts if text.get_text().strip()]
    boxes += [("picture", axes.get_window_extent(renderer)) for axes in figure.axes]
    whole = figure.bbox
    found = [name for name, box in boxes if box.x0 < whole.x0 - 1 or box.x1 > whole.x1 + 1 or box.y0 < whole.y0 - 1
             or box.y1 > whole.y1 + 1]  # fmt: skip
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        apart = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        if min(apart) > 1:  # dots
            found.append((one, other))
    return found


def block(count: int, methods: list[str], size: int = 8, predicted: str | None = None) -> Block:
    draw = np.random.default_rng(count)
    names, files = ([values[i % 4] for i in range(count)] for values in (LONG, FILES))
    images = draw.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    maps = {name: draw.normal(size=(count, size, size)).astype(np.float32) for name in methods}
    return Block("a_model: some network", files, names, [predicted] * count, images, maps)


@pytest.mark.parametrize("count", [1, 9, 12])
def test_heatmap_sheets_have_everything_once_and_nothing_overlaps(count):
    methods = [*METHODS[: count - 1], "random"]
    blocks = [block(9, methods, predicted="goldfinch, Carduelis carduelis"), block(9, methods, size=11)]
    sheets = heatmap_sheets(blocks, Look())
    assert sum(len(page.figure.axes) - 1 for page in sheets) == 2 * 9 * (1 + count)
    for page in sheets:
        assert page.height <= sheet.HEIGHT
        assert overlaps(page.figure) == []
        texts = [text.get_text() for text in page.figure.texts]
        assert texts.count("a_model: some network") == 2
        assert sum("predicted: goldf" in text for text in texts) * 2 == (len(page.figure.axes) - 1) / (1 + count)


def test_sheets_are_as_few_as_hold_the_images_and_about_as_full():
    sheets = heatmap_sheets([block(16, ["rap"])], Look())  # eight rows of an inch hold on a page
    assert [(len(page.figure.axes) - 1) // 2 for page in sheets] == [8, 8]
    sheets = heatmap_sheets([block(9, ["rap"])], Look())
    assert [(len(page.figure.axes) - 1) // 2 for page in sheets] == [5, 4]
    assert [len(heatmap_sheets([block(n, ["rap"])], Look())) for n in (1, 8, 17)] == [1, 1, 3]


def test_a_picture_stands_in_its_row_and_column_and_a_missing_method_leaves_a_gap():
    blocks = [block(2, ["rap", "random"]), block(2, ["random"])]
    (page,) = heatmap_sheets(blocks, Look(percentile=100))
    columns = Columns.of(["rap", "random"])
    found = {}
    for axes in page.figure.axes[:-1]:
        left, top = axes.get_position().x0 * sheet.WIDTH, (1 - axes.get_position().y1) * page.height
        found[round(left, 3), round(top, 3)] = axes.images[0].get_array()
    assert len(found) == 10
    for number, place in itertools.product(range(2), range(2)):
        one = blocks[number]
        y = columns.top + number * (sheet.LINE * 2 + 2 * (columns.side + sheet.GAP)) + sheet.LINE * 2
        y += place * (columns.side + sheet.GAP)
        assert (found[sheet.LABELS, round(y, 3)] == one.images[place]).all()
        for method in one.maps:
            wanted = coloured(one.maps[method][place], one.images[place], Look(percentile=100), columns.side)
            assert (found[round(columns.x[method], 3), round(y, 3)] == wanted).all()


def test_what_is_predicted_is_said_where_it_is_known():
    for predicted, said in ((None, []), ("tench", ["correctly"]), ("goldfish", ["goldfish"])):
        one = block(1, ["rap"])
        one = Block(one.title, one.files, ["tench"], [predicted], one.images, one.maps)
        texts = [text.get_text() for text in heatmap_sheets([one], Look())[0].figure.texts]
        assert [text.split()[-1] for text in texts if "predicted" in text] == said


# Figure 7


def after(method: str, correct: str, sign: str = "negative", k: str = "10000", perturbation: str = "removal"):
    """Results of images a, b, c ...: + for each that stays correct."""
    rows = {"image": [chr(ord("a") + place) for place in range(len(correct))], "correct": [w == "+" for w in correct]}
    same = {"label": 0, "method": method, "sign": sign, "perturbation": perturbation, "k": k, "logit": 0.0}
    return pd.DataFrame(rows | same | {"selected": 1, "predicted": 0})


def outcomes(**methods: str) -> pd.DataFrame:
    frames = [after(name, correct) for name, correct in methods.items()]
    # What must not be looked at: other K, signs and perturbations.
    frames += [after(name, "-" * 5, k="8000") for name in methods]
    frames += [after("sensitivity", "+" * 5, sign="positive", k="4000")]
    frames += [after(name, "+" * 5 if name != "rap" else "-" * 5, perturbation="shuffling") for name in methods]
    return pd.concat(frames, ignore_index=True)


def test_images_are_those_that_only_rap_leaves_correct_of_all_that_is_shown():
    images = outcomes(random="--+++", rap="++-++", lrp_a2b1="-+---", gradient_x_input="-----")
    chosen = choose(images, "10000", 5)
    assert chosen.files == ["a"]  # b: LRP leaves it correct as well; c: RAP does not; d, e: a random ranking does too
    assert chosen.others == ["gradient_x_input", "lrp_a2b1", "random"]
    assert chosen.sentence == (
        "Without the 10000 most negative pixels, 1 of 5 images stays correct with RAP's ranking and with no other "
        "(Gradient*Input, LRP-α2β1, Random); 1 of these is shown."  # noqa: RUF001
    )
    fewer = choose(outcomes(random="-----", rap="++-++", lrp_a2b1="-+---"), "10000", 2)
    assert fewer.files == ["a", "d"]
    assert "3 of 5 images stay correct" in fewer.sentence
    assert fewer.sentence.endswith("2 of these are shown.")


def test_rap_is_not_alone_where_the_control_beside_it_shows_the_same():
    chosen = choose(outcomes(random="+++++", rap="++-++", lrp_a2b1="-----"), "10000", 5)
    assert "no image of 5 images stays correct with RAP's ranking only" in chosen.sentence
    assert chosen.sentence.endswith("1, 1, 1, 1 of the 2 other methods (LRP-α2β1, Random) fail.")  # noqa: RUF001


def test_an_image_that_a_method_was_not_measured_on_is_not_chosen():
    images = outcomes(rap="+++++", lrp_a2b1="-----")
    images = images[~((images["method"] == "lrp_a2b1") & (images["image"] == "a"))]
    chosen = choose(images, "10000", 5)
    assert chosen.files == ["b", "c", "d", "e"]
    assert "4 of 4 images stay correct" in chosen.sentence


def test_without_such_an_image_those_are_taken_that_most_others_fail_on():
    images = outcomes(rap="++-++", lrp_a2b1="++-+-", gradient_x_input="+-+++", integrated_gradients="++-+-")
    chosen = choose(images, "10000", 3)
    assert chosen.files == ["e", "b", "a"]  # 2, 1, 0 fail, then in the order of the subset
    assert "no image of 5 images stays correct with RAP's ranking only" in chosen.sentence
    assert "2, 1, 0 of the 3 other methods" in chosen.sentence


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (outcomes(rap="-----", lrp_a2b1="+++++"), "no image stays correct without RAP's 10000 most negative"),
        (outcomes(rap="+++++"), "images are chosen by rap and others"),
        (outcomes(lrp_a2b1="+++++", gradient_x_input="-----"), "images are chosen by rap and others"),
        (after("rap", "+", k="8000"), "no removal of 10000 negative pixels; its K: 8000"),
        (after("rap", "+", sign="positive"), "no removal of 10000 negative pixels; its K: none"),
        (pd.DataFrame(), "no perturbation of 10000 negative pixels; its K: none"),
    ],
)
def test_results_that_do_not_tell_are_refused(images, says):
    with pytest.raises(rapbench.RapbenchError, match=says):
        choose(images, "10000", 3)


def test_masks_by_hand():
    maps = np.array([[[3, -1, 0], [5, -2, 3]], [[-1, -1, -1], [-1, -1, 2]]], np.float32)
    two = selected_pixels(maps, "positive", "2").astype(int).tolist()
    assert two == [[[1, 0, 0], [1, 0, 0]], [[0, 0, 0], [0, 0, 1]]]  # of the two 3, the first; the other map has one
    assert selected_pixels(maps, "positive", "all").sum((1, 2)).tolist() == [3, 1]
    two = selected_pixels(maps, "negative", "2").astype(int).tolist()
    assert two == [[[0, 1, 0], [0, 1, 0]], [[1, 1, 0], [0, 0, 0]]]
    assert selected_pixels(maps, "negative", "all").sum((1, 2)).tolist() == [2, 5]


@pytest.mark.parametrize("sign", MARKS)
def test_selected_pixels_are_marked_on_the_pale_greypicture(sign):
    image = np.array([[[0, 0, 0], [255, 255, 255], [10, 20, 30]]], np.uint8)
    found = marked(image, np.array([[False, False, True]]), sign)
    assert found.dtype == np.uint8
    assert found[0].tolist() == [[128, 128, 128], [255, 255, 255], list(MARKS[sign])]


def test_fewer_pixels_than_k_are_said():
    def mask(count):
        return Mask(np.arange(12).reshape(3, 4) < count, "cat", True)

    masks = [{"positive": {"rap": mask(4), "random": mask(4)}, "negative": {"rap": mask(9)}},
             {"positive": {"rap": mask(4), "random": mask(3)}, "negative": {"rap": mask(10)}}]  # fmt: skip
    said = fewer_sentence(masks, {"positive": "4", "negative": "9"})
    assert said == " Some maps have fewer than 4 positive pixels, and all of these are removed: Random."
    assert fewer_sentence(masks, {"positive": "3", "negative": "all"}) == ""


def test_mask_sheets_say_what_is_predicted_and_nothing_overlaps():
    pixels = np.eye(8, dtype=bool)
    image = np.full((8, 8, 3), 200, np.uint8)
    masks = {
        "positive": {name: Mask(pixels, LONG[0], False) for name in METHODS[:10]},
        "negative": {name: Mask(pixels, "tench", True) for name in METHODS[3:6]},
    }
    examples = [Example(name, label, image, masks) for name, label in zip(FILES * 2, LONG * 2, strict=True)]
    sheets = mask_sheets(examples, {"positive": "4000", "negative": "10000"}, "A sentence of many words. " * 12)
    assert [len(page.figure.axes) for page in sheets] == [14 * 5, 14 * 3]
    for page in sheets:
        assert page.height <= sheet.HEIGHT
        assert overlaps(page.figure) == []
        texts = [text.get_text() for text in page.figure.texts]
        shown = len(page.figure.axes) // 14
        assert texts.count("✓\N{NO-BREAK SPACE}tench") == 3 * shown
        assert sum(text.startswith("✗\N{NO-BREAK SPACE}Staf") for text in texts) == 10 * shown
        assert texts.count("no\nnegative\nrelevance") == 7 * shown
        assert texts.count("without the 10000\nmost negative\npixels") == shown
        assert sum(text.startswith("A sentence") for text in texts) == 1


def test_files_have_the_same_bytes_whatever_python_hashes():
    code = """if True:
        import hashlib, numpy as np
        from rapbench.report.paper_figures.heatmaps import Block, heatmap_sheets
        from rapbench.report.paper_figures.look import Look
        maps = {"rap": np.eye(8, dtype="float32")[None], "lrp_a1b0": -np.eye(8, dtype="float32")[None]}
        block = Block("title", ["a.png"], ["tench"], [None], np.zeros((1, 8, 8, 3), "uint8"), maps)
        files = heatmap_sheets([block], Look())[0].files("x")
        print({name: hashlib.sha256(data).hexdigest() for name, data in files.items()})"""
    runs = [subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True,
                           text=True, check=True).stdout for seed in ("1", "2")]  # fmt: skip
    assert runs[0] == runs[1]
    assert "x.png" in runs[0]
    assert "x.pdf" in runs[0]


# Real runs

FEW = ["model=efficientnet_lite0", "subset.n=3", "chunk=2"]


@pytest.fixture
def somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def written(folder: Path, stem: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob(f"{stem}*.p*"))}


def picture(file: str) -> Image.Image:
    return Image.open(samples().root / file)


def test_heatmaps_come_from_the_store_and_are_the_methods_own(somewhere, monkeypatch, lite, capsys):
    wanted = [*FEW, "method=[rap,rap/normal,rap/inversion,random]"]
    folder = Path("results/heatmaps/efficientnet_lite0")
    assert main(["figure", "heatmaps", *wanted]) == 0
    assert capsys.readouterr().out.endswith(f"Written to {folder}/heatmaps-*.png, .pdf\n")
    first = written(folder, "heatmaps")
    assert list(first) == ["heatmaps-1.pdf", "heatmaps-1.png"]
    assert first["heatmaps-1.pdf"].startswith(b"%PDF-")
    assert b"CreationDate" not in first["heatmaps-1.pdf"]

    run = FinishedRun(folder)
    assert run.labels == ["rap", "rap_normal", "rap_inversion", "random"]
    maps = run.heatmaps([2, 0])
    for place, at in enumerate([2, 0]):
        row = run.rows[at]
        for label, flow in (("rap", "both"), ("rap_normal", "normal"), ("rap_inversion", "inversion")):
            x = lite.transform(picture(row.file))[None]
            alone = rapbench.attribute(lite, x, [row.label], "rap", flow=flow)[0].sum(0).numpy()
            assert maps[label][place] == pytest.approx(alone, abs=float(1e-3 * np.abs(alone).max()))
        assert run.predicted()[row.file] == row.label
    both = maps["rap_normal"] + maps["rap_inversion"]
    assert maps["rap"] == pytest.approx(both, abs=float(1e-3 * np.abs(both).max()))

    def never(*_, **__):
        raise AssertionError("computed again")

    monkeypatch.setattr("rapbench.evaluation.chunk.attribute", never)
    (folder / "heatmaps-2.png").write_bytes(b"of an earlier, longer picture")
    assert main(["figure", "heatmaps", *wanted, "--colours", "PuOr_r", "--overlay"]) == 0
    assert written(folder, "heatmaps")["heatmaps-1.png"] != first["heatmaps-1.png"]
    assert main(["figure", "heatmaps", str(folder)]) == 0
    assert written(folder, "heatmaps") == first
    assert main(["figure", "heatmaps", str(folder.parent), "--percentile", "90"]) == 0  # the run below it
    assert written(folder, "heatmaps") != first


def test_what_a_run_did_not_keep_is_computed_in_its_chunk_and_kept(somewhere, monkeypatch):
    assert main(["run", *FEW, "method=[rap,sensitivity]", "protocol=[distance]", "gallery=0"]) == 0
    assert not Path("results/store/heatmaps").exists()
    folder = Path("results/run/efficientnet_lite0")
    found = FinishedRun(folder).heatmaps([2])
    kept = Path("results/store/heatmaps")
    assert [path.name[:5] for path in sorted(kept.glob("*/*"))] == ["00001", "00001"]  # the image's chunk only
    monkeypatch.setattr("rapbench.evaluation.chunk.attribute", None)
    again = FinishedRun(folder).heatmaps([2])
    assert all((again[name] == found[name]).all() for name in ("rap", "sensitivity"))
    with pytest.raises(MethodError, match="not callable"):  # the other chunk is computed
        FinishedRun(folder).heatmaps([2, 1])


def test_figure7s_masks_are_the_pixels_that_the_run_removed(somewhere, monkeypatch, lite, capsys):
    drawn = []

    def spied(examples, ks, sentence):
        drawn.append((examples, sentence))
        return mask_sheets(examples, ks, sentence)

    monkeypatch.setattr(draw_figures, "mask_sheets", spied)
    wanted = [
        *FEW,
        "method=[rap,gradient_x_input,sensitivity,random]",
        "k.positive=[0,4000]",
        "k.negative=[0,500,10000]",
    ]
    folder = Path("results/figure7/efficientnet_lite0")
    assert main(["figure", "figure7", *wanted, "--images", "2"]) == 0
    assert "Written to results/figure7/efficientnet_lite0/figure7b.png, .pdf\n" in capsys.readouterr().out
    first = written(folder, "figure7")
    assert list(first) == ["figure7a-1.pdf", "figure7a-1.png", "figure7b.pdf", "figure7b.png"]
    ((examples, sentence),) = drawn
    assert 1 <= len(examples) <= 2
    assert "Gradient*Input" in sentence

    images = of_images(folder).set_index(["image", "method", "sign", "k"])
    names = FinishedRun(folder)
    for example in examples:
        assert set(example.masks["positive"]) == {"rap", "gradient_x_input", "sensitivity", "random"}
        assert set(example.masks["negative"]) == {"rap", "gradient_x_input", "random"}
        assert example.masks["negative"]["rap"].correct
        x = lite.transform(picture(example.file))
        for sign, k in (("positive", "4000"), ("negative", "10000")):
            for method, mask in example.masks[sign].items():
                row = images.loc[(example.file, method, sign, k)]
                assert mask.selected.sum() == row.selected
                assert mask.correct == row.correct
                without = torch.where(torch.from_numpy(mask.selected), x.min(), x)
                with torch.inference_mode():
                    logits = lite(without[None])[0]
                assert names.class_name(int(logits.argmax())) == mask.predicted
                assert float(logits[row.label]) == pytest.approx(row.logit, abs=1e-3)

    for words in (wanted, [str(folder)]):
        assert main(["figure", "figure7", *words, "--images", "2"]) == 0
        assert written(folder, "figure7") == first
    with pytest.raises(rapbench.RapbenchError, match="no removal of 6000 negative pixels; its K: 0, 500, 10000"):
        draw_figures.draw_figure7(folder, {"positive": "4000", "negative": "6000"}, 2)


def test_several_runs_share_a_picture_if_they_share_their_images(somewhere):
    folders = []
    for name, n in (("one", 2), ("other", 2), ("more", 3)):
        words = ["model=efficientnet_lite0", f"subset.n={n}", "method=[random]", "protocol=[distance]", f"name={name}"]
        assert main(["run", *words]) == 0
        folders.append(Path(f"results/{name}/efficientnet_lite0"))
    assert draw_figures.draw_heatmaps(folders[:2], Look()).startswith(
        "Written to results/one/efficientnet_lite0+efficientnet_lite0/heatmaps-"
    )
    with pytest.raises(rapbench.RapbenchError, match=r"more/efficientnet_lite0 and .* are of different images"):
        draw_figures.draw_heatmaps(folders, Look())


@pytest.mark.parametrize(
    ("given", "jobs"),
    [
        (["subset.n=2"], [["subset.n=2"]]),
        (["model=a"], [["model=a"]]),
        (["model=a,timm/b", "name=x"], [["name=x", "subset.require=[a,timm/b]", "model=a"],
                                        ["name=x", "subset.require=[a,timm/b]", "model=timm/b"]]),
        (["subset.require=[c]", "model=a,b"], [["subset.require=[c]", "model=a"], ["subset.require=[c]", "model=b"]]),
    ],
)  # fmt: skip
def test_a_list_of_models_is_a_run_for_each_on_the_same_images(given, jobs):
    assert each_model(given, same_images=True) == jobs
    assert each_model(["model=a,b"], same_images=False) == [["model=a"], ["model=b"]]


@pytest.mark.parametrize(
    "path", sorted(resource("configs", "method", "rap").glob("*.yaml")), ids=lambda path: path.stem
)
def test_a_variants_config_is_raps_with_its_options(path):
    config = composed(["model=efficientnet_lite0", f"method=[rap,rap/{path.stem}]"]).method
    own = {name: value for name, value in yaml.safe_load(path.read_text()).items() if name != "defaults"}
    assert config[f"rap_{path.stem}"] == dict(config.rap) | own
    assert len(own) >= 2
    assert own["title"].startswith("RAP")


BAD = {
    "heatmaps": [
        (["--colours", "jet"], "unknown colours 'jet'; known: seismic"),
        (["--percentile", "0"], "percentile must be above 0 and at most 100, got 0"),
        (["--percentile=100.5"], "percentile must be above 0 and at most 100, got 100.5"),
        (["--percentile", "most"], "argument --percentile: invalid float value: 'most'"),
        (["--overlays"], "unrecognized arguments: --overlays"),
        (["-m"], "unrecognized arguments: -m"),
        (["model=nope"], "unknown model 'nope'; known: "),
        (["model=efficientnet_lite0,nope"], "unknown model 'nope'; known: "),
        (["subset.n=few"], "configuration: "),
        (["subset n"], "'subset n' is neither a folder of a finished run nor a setting such as subset.n=4"),
        (["nowhere"], "'nowhere' is neither a folder"),
        (["."], ". is a folder of finished runs, which take no settings, got model=efficientnet_lite0"),
        (["shard=1/2"], "figures are of whole runs"),
    ],
    "figure7": [
        (["--images", "0"], "--images must be at least 1, got 0"),
        (["--images", "two"], "argument --images: invalid int value: 'two'"),
        (["--positive"], "argument --positive: expected one argument"),
    ],
    "figure8": [
        (["--images", "0"], "--images must be at least 1, got 0"),
        (["--planes", "4"], "argument --planes: invalid choice: 4"),
        (["--colours", "jet"], "unknown colours 'jet'; known: seismic"),
        (["nowhere"], "'nowhere' is neither a folder"),
        (["shard=1/2"], "figures are of whole runs"),
    ],
    "aopc": [
        (["nowhere"], "'nowhere' is neither a folder"),
        (["."], ". is a folder of finished runs, which take no settings, got model=efficientnet_lite0"),
        (["--overlay"], "unrecognized arguments: --overlay"),
    ],
}


@pytest.mark.parametrize(
    ("experiment", "words", "says"), [(name, *case) for name, cases in BAD.items() for case in cases]
)
def test_bad_words_are_one_line_before_anything_is_run(experiment, words, says, somewhere, capsys):
    assert main(["figure", experiment, "model=efficientnet_lite0", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"rapbench: {says}")
    assert not Path("results").exists()


@pytest.mark.parametrize("name", FIGURES)
def test_a_folder_without_results_is_one_line(name, somewhere, capsys):
    Path("empty").mkdir()
    assert main(["figure", name, "empty"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "rapbench: empty holds no results.parquet; name the folder that a run wrote, or one above it"


def test_a_figure_that_there_is_not_is_one_line(capsys):
    for words, said in {
        (): "name a figure: heatmaps, figure7, figure8, aopc",
        (
            "figure6",
        ): "unknown figure 'figure6' (did you mean 'figure8' or 'figure7'?); known: heatmaps, figure7, figure8",
        ("--colours", "seismic"): "unknown figure '--colours'; known: ",
    }.items():
        assert main(["figure", *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"rapbench: {said}")


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(rapbench.RapbenchError, match=r"holds no provenance\.json; name the folder that a run wrote"):
        FinishedRun(tmp_path)


def test_aopc_is_of_a_run_or_drawn_again_from_its_folder(somewhere, capsys):
    words = [*FEW, "method=[random]", "protocol.regions.steps=3"]
    assert main(["figure", "aopc", *words]) == 0
    folder = Path("results/aopc/efficientnet_lite0")
    first = written(folder, "regions") | {"csv": (folder / "aopc.csv").read_bytes()}
    assert list(first) == ["regions.pdf", "regions.png", "csv"]
    (folder / "regions.png").unlink()
    capsys.readouterr()
    assert main(["figure", "aopc", str(folder)]) == 0
    assert capsys.readouterr().out.endswith(f"Written to {folder}/\n")
    assert written(folder, "regions") | {"csv": (folder / "aopc.csv").read_bytes()} == first
    assert main(["run", *FEW, "method=[random]", "protocol=[distance]"]) == 0
    assert main(["figure", "aopc", "results/run/efficientnet_lite0"]) == 2
    assert "holds no results of the protocol regions" in capsys.readouterr().err


@pytest.mark.parametrize("name", FIGURES)
def test_the_script_of_a_figure_is_its_command(name, monkeypatch):
    """They do the same as they call the same, with the same words."""
    given = []
    monkeypatch.setattr("rapbench.app.cli.main", lambda words: given.append(words) or 3)
    monkeypatch.setattr(sys, "argv", ["anything", "model=efficientnet_lite0", "--overlay", "a b"])
    with pytest.raises(SystemExit, match=r"^3$"):
        runpy.run_path(str(ROOT / f"experiments/{name}.py"), run_name="__main__")
    assert given == [["figure", name, "model=efficientnet_lite0", "--overlay", "a b"]]


@pytest.mark.parametrize("name", FIGURES)
def test_an_experiment_as_a_program_says_what_is_wrong_with_exit_code_2(name, tmp_path):
    command = [sys.executable, str(ROOT / f"experiments/{name}.py"), "method=[none]"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("rapbench: unknown method 'none'")
    assert len(done.stderr.splitlines()) == 1


def test_an_experiment_that_is_stopped_while_it_draws_says_so_in_one_line(tmp_path):
    words = ["model=efficientnet_lite0", "subset.n=1", "method=[random]", "precision=fp32"]
    command = [sys.executable, str(ROOT / "experiments/heatmaps.py"), *words]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as drawing:
        while not (tmp_path / "results/heatmaps/efficientnet_lite0/provenance.json").exists():
            assert drawing.poll() is None, drawing.communicate()
            time.sleep(0.01)
        drawing.send_signal(signal.SIGTERM)
        _, said = drawing.communicate()
    assert drawing.returncode == 128 + signal.SIGTERM
    last = said.splitlines()[-1]
    assert last.endswith("rapbench: stopped; finished chunks are kept, the same command goes on from there")
    assert "Traceback" not in said


@pytest.mark.slow
def test_two_models_in_one_picture_on_the_same_images(somewhere):
    words = ["model=resnet50_keras,efficientnet_lite0", "subset.n=2", "method=[sensitivity,random]"]
    assert main(["figure", "heatmaps", *words]) == 0
    place = Path("results/heatmaps")
    assert list(written(place / "resnet50_keras+efficientnet_lite0", "heatmaps")) == [
        "heatmaps-1.pdf",
        "heatmaps-1.png",
    ]
    one, other = (FinishedRun(place / name) for name in ("resnet50_keras", "efficientnet_lite0"))
    assert [row.file for row in one.rows] == [row.file for row in other.rows]
    assert one.predicted() == other.predicted() == {row.file: row.label for row in one.rows}
