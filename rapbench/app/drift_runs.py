"""`rapbench drift check` and `freeze`: the runs that a frozen baseline takes, and `rapbench.drift.command` over them.

What computes is another process each time, as its threads and kernels are chosen before anything is loaded. Its results
folder is emptied first: the store would answer for code that its keys do not cover.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from rapbench.app.parser import Parser
from rapbench.core.errors import RapbenchError
from rapbench.core.paths import check_folder
from rapbench.drift.shipped import baseline_named, shipped_baselines

RESULTS = Path("results/drift")
THREADS = 2  # so many has every machine
# Other kernels, threads, chunks and batches: environment, overrides. The last does without fused multiply-add.
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
PLAIN = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
PERTURBED: dict[str, tuple[int, dict[str, str], list[str]]] = {
    "avx2": (1, AVX2, []),
    "chunks": (1, PLAIN, ["chunk=3", "batch=5"]),
    "plain": (THREADS, PLAIN, []),
}


def drift_runs(arguments: list[str]) -> str:
    """Do what the words after `rapbench drift` ask for, beginning with `check` or `freeze`; return what to print.

    Raises RapbenchError; ends the program after help, and where a run does not succeed.
    """
    verb, *words = arguments
    parser = _parsers()[verb]
    options = parser.parse_args(words)
    if verb == "check":
        return check(baseline_named(options.baseline), options.overrides)
    return freeze(Path(options.baseline), options.overrides)


def _parsers() -> dict[str, Parser]:
    check = Parser(
        prog="rapbench drift check",
        description="Run again what a frozen baseline is of, and compare; exit code 1 if results moved. The results "
        f"are computed anew, below {RESULTS}/.",
        examples="  rapbench drift check efficientnet_lite0\n"
                 "  rapbench drift check baselines/mine.csv device=cuda",
    )  # fmt: skip
    own = " or ".join(shipped_baselines())
    check.add_argument("baseline", help=f"one of rapbench's own, {own}; or the CSV file of yours")
    freeze = Parser(
        prog="rapbench drift freeze",
        description="Freeze a configuration: one run as it is, and three perturbed ones, which tell how far results "
        f"may lie apart on another platform. The results are computed anew, below {RESULTS}/.",
        examples="  rapbench drift freeze mine.csv model=efficientnet_lite0 'method=[rap,random]' subset.n=4\n"
                 "  rapbench drift freeze mine.csv experiment=drift",
    )  # fmt: skip
    freeze.add_argument(
        "baseline", metavar="file", help="the baseline's CSV file; the rest is written beside it, as YAML"
    )
    what = "settings of the run, as rapbench run takes them"
    for parser in (check, freeze):
        parser.add_argument("overrides", nargs="*", metavar="SETTING=VALUE", help=what)
    return {"check": check, "freeze": freeze}


def check(baseline: Path, overrides: list[str]) -> str:
    """Run what a baseline is of and compare; returns the report. Raises RapbenchError as `rapbench drift` does."""
    from rapbench.drift import command
    from rapbench.drift.baseline import read_baseline

    frozen = read_baseline(baseline)
    given = {override.partition("=")[0] for override in overrides}
    known = [f"{what}={_plain(frozen.identity[what], what, baseline)}" for what in ("experiment", "model")
             if what not in given]  # fmt: skip
    device = ["device=cpu"] if frozen.platform["device"] == "cpu" else []
    threads = frozen.platform.get("threads", THREADS)
    folder = computed(RESULTS / baseline.stem / "check", threads, {}, [*known, *device, *overrides])
    return command.check_run(folder, baseline)


def _plain(name: object, what: str, baseline: Path) -> str:
    """Return a config's name that a baseline's file tells. Raises RapbenchError for what would be more than a name."""
    if isinstance(name, str) and re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", name):
        return name
    raise RapbenchError(f"{baseline} is of {what} {name!r}, which is not taken from a file; give it yourself, "
                        f"{what}=NAME")  # fmt: skip


def freeze(baseline: Path, overrides: list[str]) -> str:
    """Run a configuration as it is and perturbed, and freeze it; returns what changed. Raises RapbenchError."""
    from rapbench.drift import command
    from rapbench.drift.baseline import beside, read_baseline

    if beside(baseline).exists() and baseline.exists():
        read_baseline(baseline)  # whose refusal would come after all runs
    check_folder(str(baseline.parent), "baseline")
    place = RESULTS / baseline.stem
    run = computed(place / "frozen", THREADS, {}, overrides)
    perturbed = [computed(place / name, threads, kernels, [*overrides, *others])
                 for name, (threads, kernels, others) in PERTURBED.items()]  # fmt: skip
    return command.freeze_run(run, baseline, perturbed)


def computed(results: Path, threads: int, kernels: dict[str, str], overrides: list[str]) -> Path:
    """Run anew; return the folder that holds the results. Ends the program when the run does not succeed."""
    shutil.rmtree(results, ignore_errors=True)
    run = [sys.executable, "-m", "rapbench.app.cli", "run", *overrides, f"results={results}"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)} | kernels
    if code := subprocess.run(run, env=environment, stdout=subprocess.DEVNULL).returncode:
        sys.exit(code)
    (found,) = results.glob("*/**/provenance.json")
    return found.parent
