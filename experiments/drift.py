"""Check a frozen baseline, or freeze one: the runs that it takes, and `rapbench drift` over them.

`check baselines/drift/NAME.csv`, `freeze baselines/drift/NAME.csv experiment=drift`; Hydra overrides may follow. From
make, NAME, the experiment and overrides are the Makefile's settings. What
computes is another process each time, as its threads and kernels are chosen before anything is loaded, and its results
folder is emptied first: the store would answer for code that it does not know of.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import _make

from rapbench.app.cli import ended
from rapbench.core.errors import RapbenchError
from rapbench.drift import command
from rapbench.drift.baseline import read_baseline

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


def check(baseline: Path, overrides: list[str]) -> str:
    """Run what a baseline is of and compare; returns the report. Raises RapbenchError as `rapbench drift` does."""
    frozen = read_baseline(baseline)
    given = {override.partition("=")[0] for override in overrides}
    known = [f"{what}={_plain(frozen.identity[what], what, baseline)}" for what in ("experiment", "model")
             if what not in given]  # fmt: skip
    device = ["device=cpu"] if frozen.platform["device"] == "cpu" else []
    threads = frozen.platform.get("threads", THREADS)
    folder = computed(RESULTS / baseline.stem / "check", threads, {}, [*known, *device, *overrides])
    return command.check(folder, baseline)


def _plain(name: object, what: str, baseline: Path) -> str:
    """Return a config's name that a baseline's file tells. Raises RapbenchError for what would be more than a name."""
    if isinstance(name, str) and re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", name):
        return name
    raise RapbenchError(f"{baseline} is of {what} {name!r}, which is not taken from a file; give it yourself, "
                        f"{what}=NAME")  # fmt: skip


def freeze(baseline: Path, overrides: list[str]) -> str:
    """Run a configuration as it is and perturbed, and freeze it; returns what changed."""
    place = RESULTS / baseline.stem
    run = computed(place / "frozen", THREADS, {}, overrides)
    perturbed = [computed(place / name, threads, kernels, [*overrides, *others])
                 for name, (threads, kernels, others) in PERTURBED.items()]  # fmt: skip
    return command.update(run, baseline, perturbed)


def computed(results: Path, threads: int, kernels: dict[str, str], overrides: list[str]) -> Path:
    """Run anew; return the folder that holds the results. Ends the program when the run does not succeed."""
    shutil.rmtree(results, ignore_errors=True)
    run = [sys.executable, "-m", "rapbench.app.cli", "run", *overrides, f"results={results}"]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)} | kernels
    if code := subprocess.run(run, env=environment, stdout=subprocess.DEVNULL).returncode:
        sys.exit(code)
    (found,) = results.glob("*/**/provenance.json")
    return found.parent


def main(words: list[str]) -> int:
    """Do what the words say, or the Makefile's settings; return the exit code."""
    verb, *given = words
    baseline, *overrides = given or _make.drift(verb)
    return ended(lambda: {"check": check, "freeze": freeze}[verb](Path(baseline), overrides), anew=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
