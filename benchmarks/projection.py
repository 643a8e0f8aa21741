"""What Table I takes for 500 images, projected from a few, and which method takes it.

Usage: python benchmarks/projection.py [ARCHITECTURE [N [PRECISION [DEVICE]]]], by default vgg16 20 bf16 auto. Weights
are random and labels the network's own predictions, as time does not depend on them. Seconds, of this machine alone.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch
from _measure import table1_methods
from job import silently

from rapbench.data.samples import samples
from rapbench.zoo import models

WHOLE = 500


def main(architecture: str = "vgg16", n: str = "20", precision: str = "bf16", device: str = "auto") -> None:
    """Print the seconds an image of each method with its perturbed passes, and the minutes of all."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "random.pth")
        torch.manual_seed(0)
        torch.save(models[architecture].facts["build"](1000).state_dict(), weights)
        wanted = ["run", "experiment=table1", "model=checkpoint", f"model.architecture={architecture}",
                  f"model.path={weights}", "data=folder", f"data.root={samples().root}", f"subset.n={n}",
                  f"precision={precision}", f"device={device}", f"results={folder}"]  # fmt: skip

        def seconds(*more: str) -> float:
            start = time.perf_counter()
            silently([*wanted, *more])
            return time.perf_counter() - start

        seconds("method=[random]", "protocol=[distance]")  # draws the subset, warms up
        again = seconds("method=[random]", "protocol=[distance]")  # what is no method's: loading, tables
        print(f"{architecture}, {precision}, {n} images, {torch.get_num_threads()} threads; seconds an image")
        total = 0.0
        for method in table1_methods():
            cost = (seconds(f"method=[{method}]") - again) / int(n)
            total += cost
            print(f"  {method:24s} {cost:8.2f}", flush=True)
        print(f"  {'all':24s} {total:8.2f}: {total * WHOLE / 60:.0f} minutes for {WHOLE} images")


if __name__ == "__main__":
    main(*sys.argv[1:])
