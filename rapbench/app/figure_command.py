"""`rapbench figure`: the paper's figures, of finished runs, or of runs that are made for them first."""

import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from rapbench.app.hydra_app import composed, run_hydra
from rapbench.app.parser import Parser
from rapbench.core.console import tell
from rapbench.core.errors import RapbenchError, did_you_mean
from rapbench.core.signs import Sign
from rapbench.report.paper_figures.look import COLOURS, Look

WORDS = "folders of finished runs; or settings of a run to make first, as rapbench run takes them"
K = {"positive": "4000", "negative": "10000"}  # of Figure 7a


def figure(arguments: list[str]) -> str:
    """Draw the figure that the words after `rapbench figure` ask for; return where it was written.

    Raises RapbenchError; ends the program after help.
    """
    parser = Parser(
        prog="rapbench figure", description="Draw the paper's figures.",
        usage="rapbench figure NAME [FOLDER ... | SETTING=VALUE ...] [options]",
        examples="  rapbench figure heatmaps model=efficientnet_lite0 subset.n=4\n"
                 "  rapbench figure figure7 results/figure7/efficientnet_lite0\n"
                 "  rapbench figure heatmaps --help",
    )  # fmt: skip
    known = parser.add_subparsers(metavar="NAME")
    for name, (_, what) in FIGURES.items():
        known.add_parser(name, help=what, add_help=False)
    name, *words = arguments or [""]
    if name in FIGURES:
        return FIGURES[name][0](words)
    if {"-h", "--help"} & set(arguments):
        return parser.format_help()
    if not arguments:
        raise RapbenchError(f"name a figure: {', '.join(FIGURES)}; see rapbench figure --help")
    raise RapbenchError(f"unknown figure {name!r}{did_you_mean(name, FIGURES)}; known: {', '.join(FIGURES)}")


def heatmaps(words: list[str]) -> str:
    """Draw images by methods by models."""
    parser = _parser(
        "heatmaps", "Several models, model=resnet50_keras,efficientnet_lite0, are shown on the same images, one below "
        "the other.",
        "  rapbench figure heatmaps model=efficientnet_lite0 'method=[sensitivity,rap]' subset.n=4\n"
        "  rapbench figure heatmaps results/heatmaps/efficientnet_lite0 --colours PuOr_r --overlay",
    )  # fmt: skip
    _add_look(parser)
    options = parser.parse_intermixed_args(words)
    look = _look(options)
    folders = _runs("heatmaps", options.words, same_images=True)
    from rapbench.app.draw_figures import draw_heatmaps

    return draw_heatmaps(folders, look)


def figure7(words: list[str]) -> str:
    """Draw masks and D_K, of each run."""
    parser = _parser(
        "figure7", "The images are those that only RAP's perturbation leaves correct.",
        "  rapbench figure figure7 model=efficientnet_lite0 --images 2\n"
        "  rapbench figure figure7 results/figure7/efficientnet_lite0 --positive 2000 --negative 6000",
    )  # fmt: skip
    parser.add_argument("--images", type=int, default=3, help="how many, at most; default: %(default)s")
    for sign in get_args(Sign):
        help = f"how many {sign} pixels are masked, one of the run's K; default: %(default)s"
        parser.add_argument(f"--{sign}", default=K[sign], metavar="K", help=help)
    options = parser.parse_intermixed_args(words)
    _check_images(options.images)
    folders = _runs("figure7", options.words)
    from rapbench.app.draw_figures import draw_figure7

    ks: dict[Sign, str] = {"positive": options.positive, "negative": options.negative}
    return "".join(draw_figure7(folder, ks, options.images) for folder in folders)


def figure8(words: list[str]) -> str:
    """Draw central slices of volumes with RAP's flows, of each run."""
    parser = _parser(
        "figure8", "The volumes are the run's first ones of each class; the slices are the central ones.",
        "  rapbench figure figure8 model.path=fold0.safetensors\n"
        "  rapbench figure figure8 results/figure8/vgg16_3d --planes 3 --images 1",
    )  # fmt: skip
    parser.add_argument("--images", type=int, default=2, help="how many of each class, at most; default: %(default)s")
    help = "1: axial slices; 2: coronal ones, too; 3: and sagittal ones; default: %(default)s"
    parser.add_argument("--planes", type=int, choices=(1, 2, 3), default=1, help=help)
    _add_look(parser)
    options = parser.parse_intermixed_args(words)
    _check_images(options.images)
    look = _look(options)
    folders = _runs("figure8", options.words)
    from rapbench.app.draw_figures import draw_figure8

    return "".join(draw_figure8(folder, look, options.images, options.planes) for folder in folders)


def aopc(words: list[str]) -> str:
    """Evaluate Table I's methods by region perturbation, or draw the curves of finished runs again."""
    if {"-h", "--help"} & set(words):
        return _parser(
            "aopc", "The run's report holds aopc.csv, aopc.md and the curves regions.png and .pdf. Flags of rapbench "
            "run, such as -m, are taken too.",
            "  rapbench figure aopc model=efficientnet_lite0 protocol.regions.steps=50\n"
            "  rapbench figure aopc results/aopc/efficientnet_lite0",
        ).format_help()  # fmt: skip
    flags = any(word.startswith("-") for word in words)  # whose values may be folders
    if flags or not (folders := _finished(words)):
        return run_hydra(["experiment=aopc", *words])
    from rapbench.report.rebuild import write_again
    from rapbench.results.folder import load_run
    from rapbench.results.layouts import REGIONS, laid_out

    for folder in folders:
        if laid_out(load_run(folder), REGIONS).empty:
            raise RapbenchError(f"{folder} holds no results of the protocol regions, of which AOPC is made")
    return "\n\n".join(map(write_again, folders))


FIGURES: dict[str, tuple[Callable[[list[str]], str], str]] = {
    "heatmaps": (heatmaps, "Figures 1, 4, 5, 6 and 9: images by methods by models"),
    "figure7": (figure7, "Figure 7: the pixels that are removed, and D_K"),
    "figure8": (figure8, "Figure 8: central slices of volumes, with RAP's two flows and their sum"),
    "aopc": (aopc, "AOPC of Table I's methods, by region perturbation (Samek et al. 2017)"),
}


def _parser(name: str, more: str, examples: str) -> Parser:
    parser = Parser(prog=f"rapbench figure {name}", description=f"{FIGURES[name][1]}. {more}", examples=examples,
                    allow_abbrev=False)  # fmt: skip
    parser.add_argument("words", nargs="*", metavar="FOLDER or SETTING=VALUE", help=WORDS)
    return parser


def _add_look(parser: Parser) -> None:
    parser.add_argument("--colours", default=Look.colours, help=f"{', '.join(COLOURS)}; default: %(default)s")
    parser.add_argument("--percentile", type=float, default=Look.percentile,
                        help="of a map's absolute values: what has the full colour; default: %(default)s")  # fmt: skip
    parser.add_argument("--overlay", action="store_true", help="on the grey picture")


def _look(options: Namespace) -> Look:
    return Look(options.colours, options.percentile, options.overlay)


def _check_images(count: int) -> None:
    if count < 1:
        raise RapbenchError(f"--images must be at least 1, got {count}")


def _runs(experiment: str, words: list[str], *, same_images: bool = False) -> list[Path]:
    """Return the folders of runs: those that are named, or of an experiment that is run for each model of `model=a,b`.

    same_images: on images that all of the models classify correctly. Raises RapbenchError for what cannot be run.
    """
    if folders := _finished(words):
        return folders
    jobs = [[f"experiment={experiment}", *job] for job in each_model(words, same_images)]
    configs = [composed(job) for job in jobs]
    if configs[0].shard:
        raise RapbenchError("figures are of whole runs: finish the shards with rapbench run, then draw without shard=")
    for job in jobs:
        if text := run_hydra(job):
            tell(text)
    return [Path(config.hydra.run.dir) for config in configs]


def _finished(words: list[str]) -> list[Path]:
    """Return the runs in and below the folders that are named; none where all words are settings."""
    folders = [word for word in words if os.path.isdir(word)]
    others = [word for word in words if word not in folders]
    for word in others:
        if "=" not in word and not word.startswith("~"):
            raise RapbenchError(f"{word!r} is neither a folder of a finished run nor a setting such as subset.n=4")
    if folders and others:
        raise RapbenchError(f"{folders[0]} is a folder of finished runs, which take no settings, got {others[0]}; give "
                            "folders or settings")  # fmt: skip
    if not folders:
        return []
    from rapbench.results.folder import run_folders

    return [run for folder in folders for run in run_folders(Path(folder))]


def each_model(overrides: list[str], same_images: bool) -> list[list[str]]:
    """Return the overrides of each run: one for each model of `model=a,b`, as given without."""
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise RapbenchError(f"configuration: {error}") from error
    sweeps = [override.key_or_group == "model" and override.is_sweep_override() for override in parsed]
    if not any(sweeps):
        return [overrides]
    models = [name for override, swept in zip(parsed, sweeps, strict=True) if swept
              for name in override.sweep_string_iterator()]  # fmt: skip
    others = [word for word, swept in zip(overrides, sweeps, strict=True) if not swept]
    if same_images and not any(override.key_or_group == "subset.require" for override in parsed):
        others.append(f"subset.require=[{','.join(models)}]")
    return [[*others, f"model={model}"] for model in models]
