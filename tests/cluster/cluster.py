"""A SLURM cluster of two nodes on this machine's loopback, from Debian's packages, without systemd.

    eval "$(python tests/cluster/cluster.py up DIR)"
    sinfo
    python tests/cluster/cluster.py down DIR

Everything it writes lies in DIR. Each node pretends two CPUs and one GPU. Nothing keeps accounts: sacct has no answer.
"""

import argparse
import getpass
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

NODES = ("n1", "n2")
NEEDED = ("munged", "slurmctld", "slurmd", "sinfo", "sbatch", "srun")
DAEMONS = ("munged", "slurmctld", "slurmscriptd", "slurmd", "slurmstepd")
# In the environment of every process of a job.
JOB = "SLURM_CLUSTER_NAME=loopback"

# A requeued job waits for cred_expire, by default 120 s; it must not be back before its killed self is gone (8 s).
# config_overrides lets nodes claim what the machine lacks.
SLURM_CONF = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmdParameters=config_overrides
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
JobRequeue=1
KillWait=1
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=16000 Gres=gpu:1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=16000 Gres=gpu:1
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class ClusterError(Exception):
    """The cluster does not come up."""


def main() -> int:
    """Run `up DIR` or `down DIR`; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["up", "down"])
    parser.add_argument("folder", metavar="DIR", type=Path)
    options = parser.parse_args()
    folder = options.folder.resolve()
    os.environ["PATH"] += ":/usr/sbin:/sbin"  # users' paths often lack the daemons' folder
    # SLURM expands % in its settings and splits them at blanks and commas; a socket's path has 107 characters at most.
    if not re.fullmatch(r"[\w./+-]{1,80}", str(folder)):
        print(f"cluster: DIR must be at most 80 letters, digits or ./_+-, not {folder}", file=sys.stderr)
        return 2
    if options.command == "down":
        down(folder)
        return 0
    if missing := [name for name in NEEDED if not shutil.which(name)]:
        print(f"cluster: {', '.join(missing)} not found; run: apt-get install slurm-wlm munge", file=sys.stderr)
        return 2
    try:
        up(folder)
    except ClusterError as error:
        print(f"{tails(folder)}\ncluster: {error}; what was started runs until `down`", file=sys.stderr)
        return 1
    print(f"export SLURM_CONF={folder}/slurm.conf")
    return 0


def up(folder: Path, limit: float = 60) -> None:
    """Start the daemons that do not run yet, and wait until both nodes can take jobs."""
    running = [command for _, command in processes(folder)]
    if not running:
        configure(folder)
    commands = {
        # Without --force it refuses a folder below one that only its owner may enter, such as a test's.
        "munged": ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket",
                   *(f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "seed"))],
        "slurmctld": ["slurmctld", "-D", "-c", "-f", f"{folder}/slurm.conf"],
        **{node: ["slurmd", "-D", "-N", node, "-f", f"{folder}/slurm.conf"] for node in NODES},
    }  # fmt: skip
    environment = os.environ | {"SLURM_CONF": f"{folder}/slurm.conf"}
    end = time.monotonic() + limit
    started: dict[str, subprocess.Popen[bytes]] = {}

    def wait(ready: Callable[[], bool]) -> None:
        while not ready():
            if dead := [name for name, daemon in started.items() if daemon.poll() is not None]:
                raise ClusterError(f"{dead[0]} ended; log: {folder}/{dead[0]}.log")
            if time.monotonic() > end:
                raise ClusterError(f"the nodes are not idle after {limit:.0f} seconds; logs: {folder}/*.log")
            time.sleep(0.2)

    def idle() -> bool:
        listing = subprocess.run(["sinfo", "-hN", "-o", "%N %t"], env=environment, capture_output=True, text=True)
        states = dict(line.split() for line in listing.stdout.splitlines())
        # A cluster that was up before may be busy.
        return all(states.get(node) in ("idle", "mix", "alloc", "comp") for node in NODES)

    for name, command in commands.items():
        if command not in running:
            with (folder / f"{name}.log").open("w") as log:
                started[name] = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True,
                                                 stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # fmt: skip
        wait((folder / "munge.socket").exists)
    wait(idle)


def configure(folder: Path) -> None:
    """Write a configuration with free ports, and a key."""
    (folder / "state").mkdir(parents=True, exist_ok=True)
    (folder / "munge.socket").unlink(missing_ok=True)
    with ExitStack() as stack:  # holds each port until all are found
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in sockets]
    host = socket.gethostname().partition(".")[0]
    text = SLURM_CONF.format(folder=folder, host=host, ports=ports, user=getpass.getuser())
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text("Name=gpu File=/dev/zero\n")
    key = folder / "munge.key"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))


def down(folder: Path) -> None:
    """End the daemons and every job's processes; nothing is worth saving, so at once."""
    while found := [pid for pid, _ in processes(folder)]:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.2)


def processes(folder: Path) -> Iterator[tuple[int, list[str]]]:
    """Find the cluster's daemons and its jobs' processes; their environment tells them from another cluster's."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environment = (process / "environ").read_text(errors="replace").split("\0")
            daemon = (process / "comm").read_text().strip() in DAEMONS
            # Not all that name the configuration: the shell that submits jobs does too.
            if f"SLURM_CONF={folder}/slurm.conf" in environment and (daemon or JOB in environment):
                yield int(process.name), (process / "cmdline").read_text(errors="replace").split("\0")[:-1]


def tails(folder: Path) -> str:
    """Return the ends of the daemons' logs."""
    logs = sorted(folder.glob("*.log"))
    return "\n".join(f"{log.name}:\n" + "\n".join(log.read_text().splitlines()[-10:]) for log in logs)


if __name__ == "__main__":
    sys.exit(main())
