"""What the command line takes before it answers or computes, in CPU time, against `import torch` in the same run.

Usage: python benchmarks/start.py [REPEATS], 3 by default; the least of each is told. The last is a whole run of one
image by the random method on EfficientNet-Lite0: loading, the report and all.
"""

import os
import resource
import subprocess
import sys
import tempfile

COMMANDS = {
    "rapbench --help": ["--help"],
    "rapbench run --help": ["run", "--help"],
    "rapbench list methods": ["list", "methods"],
    "rapbench list methods rap": ["list", "methods", "rap"],
    "rapbench run --cfg job": ["run", "--cfg", "job"],
    "importing what a run computes with": [],
    "a run of one image": ["run", "model=efficientnet_lite0", "method=[random]", "subset.n=1"],
}


def main(repeats: str = "3") -> None:
    """Print a line for each command."""
    torch = least(["-c", "import torch"], int(repeats))
    print(f"CPU time, against `import torch` ({torch:.2f} s)")
    for what, words in COMMANDS.items():
        code = ["-m", "rapbench.app.cli", *words] if words else ["-c", "import rapbench.app.run"]
        seconds = least(code, int(repeats))
        print(f"  {what:36s} {seconds / torch:6.2f}   ({seconds:.2f} s)")


def least(words: list[str], repeats: int) -> float:
    """Return the least CPU seconds, user's and system's, of a Python process that is given some words."""
    found = []
    for _ in range(repeats):
        before = _of_children()
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, *words], cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"},
                           check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        found.append(_of_children() - before)
    return min(found)


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(*sys.argv[1:])
