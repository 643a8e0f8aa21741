"""A multirun's jobs, wherever a launcher runs them: each notes how it ended, and the sweep counts them together."""

import json
import os
import shutil
import sys
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from rapbench.app import job_folders
from rapbench.app.check_config import check_before_jobs, check_config
from rapbench.core.console import say, tell
from rapbench.core.errors import RapbenchError, Refused
from rapbench.core.files import write_whole
from rapbench.core.limits import ran_out
from rapbench.core.paths import STORE
from rapbench.store.claim import Claim
from rapbench.store.sealed import SWEEPS

SWEEP, RESULTS = "RAPBENCH_SWEEP", "RAPBENCH_SWEEP_RESULTS"
SILENT = "ended without a word: killed, out of memory or out of time"
AGAIN = "what is finished is kept, and the same command goes on from there"

_counted: dict[str, Any] = {}


class CountJobs(Callback):
    """Hydra's call before a multirun: how many jobs there are, and where they note how they end."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check what one run's settings say, before a folder is made or a library loaded."""
        with _refusing():
            check_config(config)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Count them as Hydra's own sweeper does; see to it that a lost job is noticed."""
        try:
            self._begin(config)
        except Exception as error:  # which Hydra would take for a callback's own
            raise Refused from error

    def _begin(self, config: DictConfig) -> None:
        loader = GlobalHydra.instance().config_loader()
        words: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)  # ${...} is of each job
        given = OverridesParser.create(loader).parse_overrides(words)
        check_config(config)
        jobs = job_folders.split(given, config, loader)
        check_before_jobs(config)
        told = {
            SWEEP: os.environ[SWEEP],
            RESULTS: config.results,
            job_folders.SWEPT: job_folders.swept(given, jobs),
        }
        with open_dict(config):  # for the jobs, in whatever process they run
            for name, value in told.items():
                config.hydra.overrides.hydra.append(f"++hydra.job.env_set.{name}={_quoted(value)}")
        # Only now, as the folders' names depend on what the jobs are told.
        folders = job_folders.check_folders(config, loader, jobs)
        job_folders.write_indexes(folders)
        job_folders.hand_out(jobs)
        results = Path(config.results)
        together = Path(config.hydra.sweep.dir) / job_folders.FOLDER
        _counted.update(jobs=len(jobs), results=results, folders=list(folders), together=together)
        _counted.update(claim=Claim.of(_folder(results) / "sweep.lock"))
        if config.hydra.launcher._target_.endswith(".SlurmLauncher"):
            from rapbench.app.slurm import prepare

            prepare()


@contextmanager
def _refusing() -> Iterator[None]:
    """Carry what is wrong with a configuration past Hydra."""
    try:
        yield
    except RapbenchError as error:
        raise Refused from error
    except (OmegaConfBaseException, RecursionError) as error:
        why = " ".join(str(error).split())
        raise Refused from RapbenchError(f"configuration: {why}")


def begin() -> None:
    """Forget an earlier sweep of this process, and give the next one a name."""
    end()
    os.environ[SWEEP] = uuid.uuid4().hex


def end() -> None:
    """Forget what this process' sweep is: `store gc` may remove what is left of its notes."""
    if claim := _counted.get("claim"):
        claim.remove()
        claim.__exit__()
        with suppress(OSError):  # there are notes
            claim.path.parent.rmdir()
    _counted.clear()
    job_folders.hand_out(None)


@dataclass
class Note:
    """What a job notes beside how it ends. output: the folder in which its results are, once they are."""

    output: Path | None = None


@contextmanager
def noted(results: Path, number: int, job: str) -> Iterator[Note]:
    """Note how a job ends, for the sweep; an error is shown and goes no further, so that the other jobs run."""
    path = _folder(results) / f"{number:05d}.json"
    write_whole(path, json.dumps([job, SILENT, ""]).encode())
    note, reason = Note(), ""
    try:
        yield note
    except RapbenchError as error:
        reason = " ".join(str(error).split())
        print(f"{job}: {reason}", file=sys.stderr)
    except Exception as error:
        reason = ran_out(error) or f"{type(error).__name__}: {error}"
        if ran_out(error):
            print(f"{job}: {reason}", file=sys.stderr)
        else:
            traceback.print_exc()
    output = "" if note.output is None else os.path.abspath(note.output)
    write_whole(path, json.dumps([job, reason, output]).encode())


def begun() -> bool:
    """Whether a multirun of this process got as far as its jobs."""
    return bool(_counted)


def summary(lost: str = "") -> str:
    """Compare the jobs of this process' sweep that are done, show that, and return that all are.

    lost: what a launcher said of jobs that it lost. Raises RapbenchError that says which failed, and why.
    """
    folder = _folder(_counted["results"])
    notes = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    shutil.rmtree(folder, ignore_errors=True)
    _compare({output for _, _, output in notes if output})
    failed = [f"{job}: {reason}" for job, reason, _ in notes if reason]
    count = len(failed)
    if silent := _counted["jobs"] - len(notes):
        failed.append(f"{silent} never began")
    failed += [f"the launcher: {lost}"] if lost else []
    if failed:
        count += silent
        raise RapbenchError(f"{count} of {_counted['jobs']} jobs failed ({AGAIN}): {' | '.join(failed)}")
    return f"All {len(notes)} jobs are done."


def _compare(outputs: set[str]) -> None:
    """Write the comparison of a sweep's runs whose results are in these folders, and show it; of one there is none."""
    every = [os.path.abspath(folder) for folder in _counted.get("folders", ())]
    done = [folder for folder in every if folder in outputs]
    if len(every) < 2 or len(done) < 2:
        return
    parents = {os.path.dirname(folder) for folder in every}
    place = Path(os.path.relpath(parents.pop())) if len(parents) == 1 else _counted["together"]
    if place == Path():  # nobody asked for files there
        place = _counted["together"]
    from rapbench.api.compare_folders import compare_folders

    try:
        tell(compare_folders(done, place, [os.path.relpath(folder) for folder in every if folder not in outputs]))
    except RapbenchError as error:
        say(f"No comparison of the jobs: {error}")


def _folder(results: Path) -> Path:
    """Return where the jobs of a sweep note how they end: in the sweep's own results, whatever a job's are."""
    return Path(os.environ.get(RESULTS, results)) / STORE / SWEEPS / os.environ[SWEEP]


def _quoted(text: str) -> str:
    """Return a text as Hydra reads it from an override."""
    return "'" + text.replace("'", "\\'") + "'"
