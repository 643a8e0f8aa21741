"""What submitit needs so that a killed SLURM job neither hides the others nor is waited for for ever."""

import shutil
import subprocess
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from submitit.core.utils import UncompletedJobError
from submitit.slurm import slurm

from rapbench.core.console import say

# Not over, though submitit takes every state that it does not know for an end.
ALIVE = {"CONFIGURING", "REQUEUE_FED", "REQUEUE_HOLD", "RESIZING", "RESV_DEL_HOLD", "SIGNALING", "SPECIAL_EXIT",
         "STAGE_OUT", "STOPPED", "SUSPENDED"}  # fmt: skip


class QueueWatcher(slurm.SlurmInfoWatcher):  # type: ignore[misc]  # submitit states no types
    """Asks squeue instead of sacct. A job that the queue has forgotten is over."""

    def _make_command(self) -> list[str] | None:
        open_jobs = self._registered - self._finished
        return ["squeue", "--me", "-h", "-r", "-t", "all", "-o", "%i|%T|%N"] if open_jobs else None

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """Return each job's id, state and nodes from squeue's lines."""
        lines = (string if isinstance(string, str) else string.decode()).splitlines()
        found = {}
        for job, state, nodes in (line.split("|") for line in lines):
            found[job] = {"JobID": job, "State": "RUNNING" if state in ALIVE else state, "NodeList": nodes}
        gone = self._registered - self._finished - found.keys()
        return found | {job: {"JobID": job, "State": "GONE"} for job in gone}


class LostJob(slurm.SlurmJob[Any]):  # type: ignore[misc]
    """A job that, when it is lost, waits for the sweep's summary instead of ending the wait for all others."""

    def results(self) -> list[Any]:
        """Return what the job returned; nothing when it was lost."""
        try:
            found: list[Any] = super().results()
        except UncompletedJobError:
            return [JobReturn(status=JobStatus.COMPLETED)]
        return found


def prepare() -> None:
    """Have submitit use these: its accounting is asked, and where sacct has no answer, the queue."""
    slurm.SlurmJob = slurm.SlurmExecutor.job_class = LostJob
    if shutil.which("squeue") and subprocess.run(["sacct", "-n"], capture_output=True).returncode:
        LostJob.watcher = QueueWatcher(delay_s=10)
        say("This cluster keeps no accounts (sacct has no answer); asking squeue what becomes of the jobs.")
