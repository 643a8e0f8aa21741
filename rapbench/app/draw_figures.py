"""The paper's pictures, drawn from runs that are over, into files beside their results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

from rapbench.app.finished_run import FinishedRun
from rapbench.core.errors import RapbenchError
from rapbench.core.files import write_whole
from rapbench.core.signs import Sign
from rapbench.evaluation.labels import titles
from rapbench.report.canvas import KINDS, figure_files
from rapbench.report.distance import distance_table
from rapbench.report.paper_figures.chosen import choose, removed
from rapbench.report.paper_figures.heatmaps import Block, heatmap_sheets
from rapbench.report.paper_figures.look import Look
from rapbench.report.paper_figures.masks import Example, Mask, fewer_sentence, mask_sheets, selected_pixels
from rapbench.report.paper_figures.sheet import DPI, WIDTH, Sheet
from rapbench.report.paper_figures.slices import Volume, slice_sheets
from rapbench.report.plots import distance_curves
from rapbench.results.display import sized, titled
from rapbench.results.layouts import DISTANCE, PERTURBATION, distance_metric

CURVES = 2.6  # inches, the height of Figure 7b
PRINT: dict[Any, float] = {"font.size": 7, "axes.titlesize": 7, "lines.linewidth": 1, "axes.linewidth": 0.5}


def draw_heatmaps(folders: Sequence[Path], look: Look) -> str:
    """Draw every image of some runs, of as many models, by every method; return where that was written.

    Of one run, into its folder; of several, into one beside theirs, named by all models. Raises RapbenchError where the
    runs are of different images.
    """
    runs = [FinishedRun(folder) for folder in folders]
    first = runs[0]
    shown = {label: title for run in runs for label, title in titles(run.job.methods.values()).items()}
    for run in runs:
        if run.job.subset.identity != first.job.subset.identity:
            raise RapbenchError(f"{run.folder} and {first.folder} are of different images; see subset.require")
    names = [run.job.model.facts.name.replace("/", "_") for run in runs]
    config = first.config
    place = first.folder if len(runs) == 1 else Path(config.results, config.name, "+".join(names))
    with titled(shown):
        return _written(place, "heatmaps", heatmap_sheets([_block(run) for run in runs], look))


def draw_figure7(folder: Path, ks: dict[Sign, str], count: int) -> str:
    """Draw a run's masks of up to `count` images at a K for each sign, and its D_K; return where that was written."""
    run = FinishedRun(folder)
    with titled(titles(run.job.methods.values())), sized(run.run.pixels):
        return _figure7(run, ks, count)


def draw_figure8(folder: Path, look: Look, count: int, planes: int) -> str:
    """Draw central slices of up to `count` of a run's inputs of each class; return where that was written.

    planes: how many of the three dimensions the slices are across. The class of the highest index comes first.
    """
    run = FinishedRun(folder)
    labels = [row.label for row in run.rows]
    places = [at for label in sorted(set(labels), reverse=True)
              for at in [at for at, other in enumerate(labels) if other == label][:count]]  # fmt: skip
    predicted, images, maps = run.predicted(), run.pictures(places, 3), run.heatmaps(places)
    volumes = []
    for number, at in enumerate(places):
        row = run.rows[at]
        seen = run.class_name(predicted[row.file]) if row.file in predicted else None
        mine = {method: values[number] for method, values in maps.items()}
        volumes.append(Volume(row.file, run.class_name(row.label), seen, images[number], mine))
    dataset, model = run.job.dataset, run.job.model.facts
    first = "input" if count == 1 else f"{count} inputs"
    sentence = (
        f"{dataset.name}: central slices of the first {first} of each class, of {dataset.description}, as "
        f"{model.name} sees them, and the relevance there. Colours are relative to each whole volume."
    )
    with titled(titles(run.job.methods.values())):
        return _written(folder, "figure8", slice_sheets(volumes, planes, look, sentence))


def _figure7(run: FinishedRun, ks: dict[Sign, str], count: int) -> str:
    folder = run.folder
    images, distances = run.results(PERTURBATION), run.results(DISTANCE)
    chosen = choose(images, ks["negative"], count)
    files = [row.file for row in run.rows]
    places = [files.index(file) for file in chosen.files]
    maps = run.heatmaps(places)
    masks: list[dict[Sign, dict[str, Mask]]] = [{sign: {} for sign in ks} for _ in places]
    for sign, k in ks.items():
        after = removed(images, sign, k).set_index(["image", "method"])
        for method in after.index.unique("method"):
            pixels = selected_pixels(maps[method], sign, k)
            for number, file in enumerate(chosen.files):
                row = after.loc[(file, method)]
                mask = Mask(pixels[number], run.class_name(int(row["predicted"])), bool(row["correct"]))
                masks[number][sign][method] = mask
    examples = [
        Example(run.rows[at].file, run.class_name(run.rows[at].label), picture, shown)
        for at, picture, shown in zip(places, run.pictures(places), masks, strict=True)
    ]
    sentence = f"{chosen.sentence}{fewer_sentence(masks, ks)}"
    text = _written(folder, "figure7a", mask_sheets(examples, ks, sentence))
    if distances.empty:
        return text
    with matplotlib.rc_context(PRINT):
        figure = distance_curves(distance_table(distances, distance_metric(run.run)), "")
        figure.set_size_inches(WIDTH, CURVES)
        for name, data in figure_files(figure, "figure7b", DPI).items():
            write_whole(folder / name, data)
    return text + f"Written to {folder}/figure7b.png, .pdf\n"


def _block(run: FinishedRun) -> Block:
    places = range(len(run.rows))
    predicted = run.predicted()
    seen = [run.class_name(predicted[row.file]) if row.file in predicted else None for row in run.rows]
    return Block(
        f"{run.job.model.facts.name}: {run.job.model.facts.architecture}",
        [row.file for row in run.rows],
        [run.class_name(row.label) for row in run.rows],
        seen,
        run.pictures(places),
        run.heatmaps(places),
    )


def _written(folder: Path, stem: str, sheets: Sequence[Sheet]) -> str:
    """Write sheets as STEM-NUMBER.png and .pdf, and remove those of an earlier, longer picture."""
    files: dict[str, bytes] = {}
    for number, page in enumerate(sheets, start=1):
        files |= page.files(f"{stem}-{number}")
    for kind in KINDS:
        for old in folder.glob(f"{stem}-*.{kind}"):
            if old.name not in files:
                old.unlink()
    for name, data in files.items():
        write_whole(folder / name, data)
    return f"Written to {folder}/{stem}-*.png, .pdf\n"
