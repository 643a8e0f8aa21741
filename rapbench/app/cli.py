"""The `rapbench` console script. Bad input is one line on standard error, exit code 2."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rapbench.app.parser import Parser
from rapbench.app.registries import GROUPS, plural
from rapbench.core.console import flush_or_discard, flush_output, hang_up, printable, tell
from rapbench.core.errors import RapbenchError
from rapbench.core.extras import check_installed
from rapbench.core.files import system_says
from rapbench.core.limits import ran_out
from rapbench.core.paths import STORE
from rapbench.core.reading import is_text, parse_yaml
from rapbench.core.stop import Terminated, be_done, stoppable


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = Parser(prog="rapbench", description="Benchmark attribution methods as the RAP paper did.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="run an evaluation; takes Hydra overrides", add_help=False)
    what = "train a network on cubes of CT, a fold at a time; takes Hydra overrides"
    commands.add_parser("train", help=what, add_help=False)
    report = commands.add_parser("report", help="write a run's tables, plots and page again from its per-image results")
    what = "a run's folder, such as results/table1/resnet50_keras, or one with several below it"
    report.add_argument("folders", nargs="*", metavar="folder", help=what)
    compare = commands.add_parser("compare", help="compare runs: one table, figure and page, ranks, paired tests")
    what = "runs' folders, or folders with several below them, such as results/run/sweep"
    compare.add_argument("folders", nargs="+", type=Path, metavar="folder", help=what)
    compare.add_argument("--output", type=Path, help="where it is written; default: the folders' common parent")
    listing = commands.add_parser("list", help="show the models, data sets, methods and protocols, or one of them")
    listing.add_argument("kind", nargs="?", choices=[plural(group) for group in GROUPS])
    listing.add_argument("name", nargs="?", help=NAME)
    patterns = commands.add_parser("patterns", help="estimate the patterns of pattern_net and pattern_attribution")
    patterns.add_argument("--model", required=True, help="a zoo model of VGG type, such as vgg16")
    patterns.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", type=_pair,
                          help="an option of the model, such as weights=IMAGENET1K_V1; may be given again")  # fmt: skip
    patterns.add_argument("--images", help="a folder, searched at any depth; default: the few embedded samples")
    patterns.add_argument("--n", type=int, help="how many of the images, drawn with --seed; default: all")
    patterns.add_argument("--seed", type=int, default=0, help="of the draw; default: %(default)s")
    patterns.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1; default: %(default)s")
    patterns.add_argument("--batch", type=int, help="images in one pass; default: 8 on a CPU, else 64")
    patterns.add_argument("--output", help="the file; default: in the user's cache, where the methods look")
    subset = commands.add_parser("subset", help="check the images that a run used")
    verbs = subset.add_subparsers(dest="verb", required=True)
    verify = verbs.add_parser("verify", help="whether files, labels and predictions are still as a manifest says")
    verify.add_argument("manifest", type=Path, help="the manifest.csv that a run wrote")
    verify.add_argument("--root", help="of the data set; default: as in the provenance.json beside the manifest")
    verify.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1; default: %(default)s")
    verify.add_argument("--allow-module", action="append", default=[], metavar="MODULE", help=ALLOW)
    commands.add_parser("figure", help="draw the paper's figures", add_help=False)
    what = "compare a run's results with a frozen baseline; exit code 1 if they differ"
    drift = commands.add_parser("drift", help=what, usage=DRIFT_USAGE, examples=DRIFT_EXAMPLES, description=DRIFT)
    drift.add_argument("results", type=Path, help="a run's folder, such as results/table1/resnet50_keras")
    drift.add_argument("--baseline", type=Path, required=True, help=BASELINE)
    drift.add_argument("--update", action="store_true", help="freeze the run as the baseline, and print what changed")
    drift.add_argument("--perturbed", type=Path, nargs="+", default=[], metavar="RUN",
                       help="with --update: runs from which tolerances for other platforms are derived")  # fmt: skip
    store = commands.add_parser("store", help="maintain the results store")
    verbs = store.add_subparsers(dest="verb", required=True)
    for verb, what in STORE_VERBS.items():
        command = verbs.add_parser(verb, help=what)
        command.add_argument("--results", type=Path, default=Path("results"), help="default: %(default)s")
        if verb == "gc":
            command.add_argument("--stale", action="store_true", help="also what other versions of the code computed")
            command.add_argument("--heatmaps", action="store_true", help="also the kept heatmaps")
            command.add_argument("--dry-run", action="store_true", help="only say what would be removed")

    runs_drift = arguments[:2] in (["drift", "check"], ["drift", "freeze"])

    def action() -> str:
        check_words(arguments)
        if arguments[:1] in (["run"], ["train"]):
            if {"--help", "-h"} & set(arguments):
                from rapbench.app import run_help

                return run_help.train_help() if arguments[0] == "train" else run_help.run_help()
            from rapbench.app.hydra_app import run_hydra

            return run_hydra(arguments[1:], arguments[0])
        if arguments[:1] == ["figure"]:
            from rapbench.app.figure_command import figure

            return figure(arguments[1:])
        if runs_drift:
            from rapbench.app.drift_runs import drift_runs

            return drift_runs(arguments[1:])
        if arguments[:1] in (["-sc"], ["--shell-completion"]):
            from rapbench.app.hydra_app import complete

            complete(arguments, sorted(["run", "train", "figure", *COMMANDS]))
            return ""
        options = vars(parser.parse_args(arguments))
        return COMMANDS[options.pop("command")](**options)

    kept = "epochs" if arguments[:1] == ["train"] else "chunks"
    return ended(action, anew=runs_drift or arguments[:1] == ["patterns"], kept=kept)


@stoppable()
def ended(action: Callable[[], str], *, anew: bool = False, kept: str = "chunks") -> int:
    """Print what an action returns; return the exit code, after one line on standard error where it failed.

    anew: whether an action that was stopped, by Ctrl-C or SIGTERM, begins again from nothing. kept: what of it is, if
    not.
    """
    printable()
    try:
        try:
            return _code(action, anew, kept)
        finally:
            for stream in filter(None, (sys.stdout, sys.stderr)):
                flush_or_discard(stream)
    except BrokenPipeError:  # the reader has gone, and the shell expects what it would of any program
        hang_up()
        return 128 + signal.SIGPIPE


def _code(action: Callable[[], str], anew: bool, kept: str) -> int:
    try:
        try:
            if text := action():
                tell(text)
        except SystemExit:  # after help
            flush_output()
            raise
        flush_output()
    except RapbenchError as error:
        print(f"rapbench: {' '.join(str(error).split())}", file=sys.stderr)
        return error.code
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"rapbench: {ran_out(error) or system_says(error)}", file=sys.stderr)
        return RapbenchError.code
    except Exception as error:
        if not (line := ran_out(error)):
            raise
        print(f"rapbench: {line}", file=sys.stderr)
        return RapbenchError.code
    except KeyboardInterrupt as stop:
        be_done()
        again = f"finished {kept} are kept, the same command goes on from there"
        again = "the same command begins anew" if anew else again
        print(f"rapbench: stopped; {again}", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)
    return 0


def check_words(words: list[str]) -> None:
    """Raise RapbenchError for words that could not be written to a table or a page, and where no folder is current."""
    for word in words:
        if not is_text(word):
            raise RapbenchError(f"{word!r} is not UTF-8; rename the file or folder")
    try:
        os.getcwd()
    except OSError as error:
        raise RapbenchError("the current folder is not there any more; change to another") from error


def report_again(folders: list[str]) -> str:
    """Write what a run's end writes again, from the per-image results in a folder or in those below it."""
    if len(folders) != 1:
        given = " ".join(folders) or "none"
        raise RapbenchError(f"report takes one folder, that of a run or one with several below it; given: {given}")
    check_installed("report", "rapbench report")
    from rapbench.report.rebuild import write_again

    return write_again(Path(folders[0]))


def compare_runs(folders: list[Path], output: Path | None) -> str:
    """Compare the runs in folders, or below them."""
    check_installed("report", "rapbench compare")
    from rapbench.api.compare_folders import common_parent, compare_folders

    return compare_folders(folders, common_parent(folders) if output is None else output)


def list_entries(kind: str | None, name: str | None) -> str:
    """List the entries of all registries or one, those that match a pattern, or describe one entry."""
    from rapbench.app import listing

    if kind is None or name is None:
        return listing.overview(kind)
    return listing.matching(kind, name) if listing.is_pattern(name) else listing.described(kind, name)


def make_patterns(model: str, option: list[tuple[str, Any]], **settings: Any) -> str:
    """Estimate a zoo model's patterns and write them."""
    from rapbench.patterns.make import make

    return make(model, options=dict(option), **settings)


def _pair(text: str) -> tuple[str, Any]:
    """Return the key and the value, a YAML scalar or list, of KEY=VALUE; argparse names the text that is none."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    try:
        return key, parse_yaml(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{key}: not a YAML value ({error})") from error


def verify_manifest(verb: str, manifest: Path, **options: Any) -> str:
    """Check a manifest against its images and models."""
    from rapbench.app.verify import verify

    return verify(manifest, **options)


def check_drift(results: Path, baseline: Path, update: bool, perturbed: list[Path]) -> str:
    """Compare a run with a baseline, or freeze it as one."""
    from rapbench.drift import command
    from rapbench.drift.shipped import baseline_named

    if perturbed and not update:
        raise RapbenchError("--perturbed goes with --update: tolerances are part of the baseline")
    if update:
        return command.freeze_run(results, baseline, perturbed)
    return command.check_run(results, baseline_named(str(baseline)))


def look_after_store(verb: str, results: Path, **options: Any) -> str:
    """List, check or clean a store."""
    from rapbench.store import maintenance

    jobs = {"ls": maintenance.listing, "verify": maintenance.verify, "gc": maintenance.collect}
    return jobs[verb](results / STORE, **options)


NAME = "one, with its options, as rap or timm/resnet18; or a pattern of names, as '*vit*', torchvision's and timm's too"
ALLOW = "a module of your own that the files may name, as in my_methods:blurred; it is imported. May be given again"
DRIFT_USAGE = """rapbench drift RESULTS --baseline FILE [--update [--perturbed RUN ...]]
       rapbench drift check BASELINE [SETTING=VALUE ...]
       rapbench drift freeze FILE [SETTING=VALUE ...]"""
DRIFT = (
    "Compare a finished run with a frozen baseline; check runs what the baseline is of and compares, freeze makes one."
)
DRIFT_EXAMPLES = """\
  rapbench drift results/table1/resnet50_keras --baseline resnet50_keras
  rapbench drift check efficientnet_lite0
  rapbench drift check --help"""
BASELINE = "its CSV file; or, to compare, the name of one that comes with rapbench, such as resnet50_keras"
STORE_VERBS = {
    "ls": "list the finished cells, and those in progress",
    "verify": "check every file's checksum; exit code 1 if one is damaged",
    "gc": "remove files that no run needs",
}
COMMANDS: dict[str, Callable[..., str]] = {
    "list": list_entries,
    "report": report_again,
    "compare": compare_runs,
    "patterns": make_patterns,
    "subset": verify_manifest,
    "drift": check_drift,
    "store": look_after_store,
}

if __name__ == "__main__":
    sys.exit(main())
