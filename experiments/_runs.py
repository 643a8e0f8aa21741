"""What experiments that draw share: their words, and runs to draw from, one a model."""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from rapbench.app.cli import main
from rapbench.app.hydra_app import composed
from rapbench.core.errors import RapbenchError


class Words(argparse.ArgumentParser):
    """Options for the drawing, and Hydra overrides for the run; what is wrong with them is one line."""

    def __init__(self, description: str | None):
        super().__init__(description=description, allow_abbrev=False)
        self.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="Hydra's, as for rapbench run")

    def error(self, message: str) -> NoReturn:
        """Say it without the usage."""
        raise RapbenchError(message)


def runs(experiment: str, overrides: list[str], *, same_images: bool = False) -> list[Path]:
    """Run an experiment for each of the models in `model=a,b`; return the folders of the results.

    same_images: on images that all of the models classify correctly. Raises RapbenchError for what cannot be run; ends
    the program where a run does not succeed.
    """
    jobs = [[f"experiment={experiment}", *words] for words in _each_model(overrides, same_images)]
    configs = [composed(job) for job in jobs]
    if configs[0].shard:
        raise RapbenchError("figures are of whole runs: finish the shards with rapbench run, then draw without shard=")
    for job in jobs:
        if code := main(["run", *job]):
            sys.exit(code)
    return [Path(config.hydra.run.dir) for config in configs]


def _each_model(overrides: list[str], same_images: bool) -> list[list[str]]:
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise RapbenchError(f"configuration: {error}") from error
    sweeps = [override.key_or_group == "model" and override.is_sweep_override() for override in parsed]
    if not any(sweeps):
        return [overrides]
    models = [name for override, swept in zip(parsed, sweeps, strict=True) if swept
              for name in override.sweep_string_iterator()]  # fmt: skip
    others = [word for word, swept in zip(overrides, sweeps, strict=True) if not swept]
    if same_images and not any(override.key_or_group == "subset.require" for override in parsed):
        others.append(f"subset.require=[{','.join(models)}]")
    return [[*others, f"model={model}"] for model in models]
