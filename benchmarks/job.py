"""What a whole Table I job costs beside its passes, and how quickly a finished one answers, in one run.

Usage: python benchmarks/job.py [MODEL [N [OVERRIDES]]], by default on eight embedded images. With more, in chunks of
eight: `efficientnet_lite0 64 data=folder data.root=/path data.labels=predicted`. The ratio is of times in one run; the
seconds of the second part come after imports and depend on the disk.
"""

import contextlib
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from _measure import real_batch, table1_methods

from rapbench import attribute
from rapbench.app.cli import main as rapbench
from rapbench.methods import methods

BATCH = 8
POSITIVE, NEGATIVE = 6, 6  # perturbed images of each sign in Table I
# without integrated gradients, whose many passes would hide what the rest costs
TABLE = [method for method in table1_methods() if method != "integrated_gradients"]


def main(n: str = str(BATCH), *overrides: str) -> None:
    """Print both parts."""
    if int(n) % BATCH:
        sys.exit(f"N = {n} is not a multiple of {BATCH}, the images of a chunk")
    model, images, labels = real_batch(BATCH)
    name = model.facts.name

    def seconds(call: Callable[[], object]) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    @torch.inference_mode()
    def forwards(count: int) -> None:
        for _ in range(count):
            model(images)

    def passes() -> float:
        """Return the seconds of all chunks' passes, each taken to last as one's."""
        total = seconds(lambda: forwards(1))
        for method in TABLE:
            total += seconds(lambda method=method: attribute(model, images, labels, method))  # type: ignore[misc]
            signs = methods[method].facts.signs
            count = POSITIVE * ("positive" in signs) + NEGATIVE * ("negative" in signs)
            total += seconds(lambda count=count: forwards(2 * count))  # type: ignore[misc]
        return total * int(n) / BATCH

    with tempfile.TemporaryDirectory() as folder:
        wanted = ["run", f"model={name}", f"subset.n={n}", f"method=[{','.join(TABLE)}]", f"results={folder}"]
        wanted += overrides
        perturbing = "protocol=[removal,shuffling]"
        silently([*wanted, "method=[random]", "protocol=[distance]"])  # draws the subset, warms up
        alone = passes()
        start = time.perf_counter()
        silently([*wanted, perturbing])
        whole = time.perf_counter() - start
        alone = (alone + passes()) / 2
        print(f"{name}, {n} images, Table I with {len(TABLE)} methods; time, against its passes alone")
        print(f"  whole run, tables and plots too  {whole / alone:6.2f}")
        again = seconds(lambda: silently([*wanted, perturbing]))
        print(f"  the same, asked again            {again / alone:6.2f}")

    with tempfile.TemporaryDirectory() as folder:
        many = [f"+protocol.d{k}.name=distance" for k in range(100)]
        many += [f"+protocol.d{k}.k={{positive:[{k + 1}]}}" for k in range(100)]
        wanted = ["run", "model=efficientnet_lite0", "subset.n=20", "method=[random,edge,sensitivity]", "protocol=[]"]
        wanted += [*many, f"results={folder}"]
        silently(wanted)
        print("300 finished cells of 20 images, asked for again")
        print(f"  seconds after imports            {seconds(lambda: silently(wanted)):6.2f}")

    print("peak memory of a run in MB (efficientnet_lite0, removal)")
    for few, ks in ((8, 2), (8, 40), (20, 2)):
        print(f"  {few:3d} images, {ks:3d} K {peak(few, ks):23d}")


def peak(n: int, ks: int) -> int:
    """Return the most memory that a run in a process of its own held, in MB. Needs Linux' /proc."""
    # not getrusage: what that tells of a child begins with its parent's peak
    code = (
        "import re, sys; from pathlib import Path; from rapbench.app.cli import main; assert main(sys.argv[1:]) == 0; "
        "sys.stdout.write(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    with tempfile.TemporaryDirectory() as folder:
        levels = ",".join(str(100 * k) for k in range(1, ks + 1))
        wanted = ["run", "model=efficientnet_lite0", f"subset.n={n}", "method=[random]", "protocol=[removal]",
                  f"k.positive=[{levels}]", "k.negative=[0]", f"results={folder}"]  # fmt: skip
        done = subprocess.run([sys.executable, "-c", code, *wanted], check=True, capture_output=True, text=True)
        return int(done.stdout.splitlines()[-1]) // 1024


def silently(arguments: list[str]) -> None:
    """Run a command without its output."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert rapbench(arguments) == 0


if __name__ == "__main__":
    main(*sys.argv[2:])
