"""A real sharded sweep through a real SLURM cluster: lost, requeued and resumed, it gives the bytes of one run."""

import getpass
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

CLUSTER = Path(__file__).with_name("cluster.py")
TABLES = ("results.parquet", "table1.csv", "manifest.csv")
COMMON = ["model=efficientnet_lite0", "subset.n=16", "chunk=2", "method=[random,sensitivity,gradient_x_input]",
          "k.positive=[0,250,500,all]", "k.negative=[0,2000]"]  # fmt: skip
SHARDS = ["-m", "launch=slurm", "shard=1/3,2/3,3/3", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2",
          "hydra.launcher.timeout_min=30"]  # fmt: skip
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("slurm")
    up = subprocess.run([sys.executable, CLUSTER, "up", folder], capture_output=True, text=True)
    try:
        if up.returncode == 2:
            pytest.skip(up.stderr.strip())
        assert up.returncode == 0, up.stderr
        ENVIRONMENT["SLURM_CONF"] = re.search("export SLURM_CONF=(.*)", up.stdout)[1]
        yield
    finally:
        subprocess.run([sys.executable, CLUSTER, "down", folder], check=True)


@pytest.fixture
def queue(cluster: None) -> Iterator[None]:
    """Leave no job to the next test: SLURM may run one again whose sweep is over."""
    yield
    subprocess.run(["scancel", f"--user={getpass.getuser()}"], env=ENVIRONMENT, check=True)
    wait_for(lambda: not jobs())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    place = tmp_path_factory.mktemp("whole")
    _, error, code = finished(start(place))
    assert code == 0, error
    return tables(place / "results/run/efficientnet_lite0")


def start(place: Path, *overrides: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "rapbench.app.cli", "run", *COMMON, *overrides]
    return subprocess.Popen(
        command, cwd=place, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finished(process: subprocess.Popen) -> tuple[str, str, int]:
    out, error = process.communicate(timeout=400)
    return out, error, process.returncode


def tables(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in TABLES}


def swept(place: Path) -> dict[str, bytes]:
    (found,) = (place / "results/run/sweep").rglob("table1.csv")
    return tables(found.parent)


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 200
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def under_way(process: subprocess.Popen, place: Path) -> None:
    """Wait for a sweep's first chunk: most of its jobs' work is still to do."""
    wait_for(lambda: chunks(place) or process.poll() is not None)
    assert process.poll() is None


def jobs(*states: str) -> list[str]:
    """Return the jobs of some states, or all that the queue shows."""
    command = ["squeue", "-h", "-r", "-o", "%i %T"]
    lines = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout.split("\n")
    return [line.split()[0] for line in lines if line and (not states or line.split()[1] in states)]


def tasks() -> list[int]:
    """Return the processes in which jobs run, without those that decode for them."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            inside = b"SLURM_CLUSTER_NAME=loopback" in (process / "environ").read_bytes()
            words = (process / "cmdline").read_bytes().split(b"\0")
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if inside and b"submitit.core._submit" in words and words[0].endswith(b"python"):
            found[int(process.name)] = parent
    return [pid for pid, parent in found.items() if parent not in found]


def chunks(place: Path) -> int:
    return len(list((place / "results").rglob("*.parts/*.parquet")))


def test_a_sharded_sweep_that_loses_a_job_says_so_and_does_the_rest_when_asked_again(queue, whole, tmp_path):
    process = start(tmp_path, *SHARDS)
    under_way(process, tmp_path)
    assert tasks()
    os.kill(tasks()[0], signal.SIGKILL)
    _, error, code = finished(process)
    assert code == 2, error
    last = error.rstrip().splitlines()[-1]
    assert re.match(r"rapbench: 1 of 3 jobs failed .*shard=\d/3: ended without a word: killed", last), error
    assert "keeps no accounts (sacct has no answer); asking squeue" in error
    before = chunks(tmp_path)
    assert before
    out, error, code = finished(start(tmp_path, *SHARDS))
    assert code == 0, error
    assert out.endswith("All 3 jobs are done.\n")
    assert swept(tmp_path) == whole


def test_a_job_that_is_put_back_into_the_queue_goes_on(queue, whole, tmp_path):
    process = start(tmp_path, *SHARDS)
    under_way(process, tmp_path)
    victim = jobs("RUNNING")[0]
    subprocess.run(["scontrol", "requeue", victim], env=ENVIRONMENT, check=True)
    out, error, code = finished(process)
    assert code == 0, error
    (log,) = (tmp_path / "results").rglob(f"{victim}_*_log.err")
    assert log.read_text().count("loading libraries") == 2
    assert out.endswith("All 3 jobs are done.\n")
    assert swept(tmp_path) == whole


def test_a_preempted_job_puts_itself_back(queue, whole, tmp_path):
    process = start(tmp_path, *SHARDS)
    under_way(process, tmp_path)
    subprocess.run(["scancel", "--signal=USR2", jobs("RUNNING")[0]], env=ENVIRONMENT, check=True)
    _, error, code = finished(process)
    assert code == 0, error
    assert swept(tmp_path) == whole
    logs = "".join(path.read_text() for path in (tmp_path / "results").rglob("*_log.*"))
    assert "Requeued job" in logs


def test_a_job_that_is_refused_is_named_with_its_reason(queue, tmp_path):
    process = start(tmp_path, *SHARDS[:2], "hydra.launcher.mem_gb=2", "hydra.launcher.cpus_per_task=1",
                    "data=imagenet", "data.root=/nowhere", "seed=0,1")  # fmt: skip
    _, error, code = finished(process)
    assert code == 2
    last = error.rstrip().splitlines()[-1]
    assert last.startswith("rapbench: 2 of 2 jobs failed")
    assert last.count("/nowhere is not a folder or an archive") == 2
