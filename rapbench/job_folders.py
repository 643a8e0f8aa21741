"""Where a multirun's jobs write: a folder each, named by what the sweep varies; shards of one run share theirs.

Names are short. One beyond 100 characters is a number and a hash, one with characters that folders should not have gets
a hash; `index.json` beside the folders tells what each was run with.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from tqdm import tqdm

from rapbench.errors import RapbenchError
from rapbench.files import open_regular, write_whole

FOLDER = "sweep"  # below the run's
INDEX = "index.json"
SHARD = "shard"  # jobs that differ in it alone are parts of one run
SWEPT = "RAPBENCH_SWEPT"
LONGEST = 100
UNFIT = re.compile(r"[^\w.,=+@:{}()\[\]~%^ -]")


def split(overrides: list[Override]) -> list[list[str]]:
    """Return each job's overrides, as Hydra's own sweeper makes them."""
    return BasicSweeper.split_arguments(overrides, None)[0]


def swept(overrides: list[Override], jobs: list[list[str]]) -> str:
    """Return, as text, what the jobs' folders are named by: what the sweep varies, and where among it shards are.

    Jobs that differ in the shard alone are `step` apart, and there are `shards` of them: "shards step key key ...".
    """
    keys = dict.fromkeys(override.get_key_element() for override in overrides if override.is_sweep_override())
    lines = [job[place] for job in jobs[:1] for place in range(len(job))]
    places = {_key(line): place for place, line in enumerate(lines)}
    counts = [len({job[place] for job in jobs}) for place in range(len(lines))]
    shards, step = 1, 1
    if SHARD in places:
        shards = counts[places[SHARD]]
        for count in counts[places[SHARD] + 1 :]:
            step *= count
    return " ".join([str(shards), str(step), *(key for key in keys if key != SHARD)])


def job_folder(number: int, overrides: Sequence[str], varied: str | None, otherwise: str) -> str:
    """Return the name of a job's folder, the same whenever the sweep is run again.

    number: of the job. varied: as `swept` returns it. otherwise: the name where nothing but shards is swept.
    """
    shards, step, *keys = (varied or "1 1").split(" ")
    lines = sorted(line for line in overrides if _key(line) in keys)
    name = ",".join(lines) or otherwise
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8]
    if len(name.encode()) > LONGEST:
        first = number // (int(shards) * int(step)) * int(step) + number % int(step)
        return f"{first:04d}-{digest}"
    return f"{UNFIT.sub('_', name)}-{digest}" if UNFIT.search(name) and lines else UNFIT.sub("_", name)


def check_folders(config: DictConfig, loader: ConfigLoader, jobs: list[list[str]]) -> dict[Path, list[str]]:
    """Return the folder of each job, with what it is run with. Raises RapbenchError where two would write to one.

    config: of the multirun. loader: that of Hydra, which composes each job's.
    """
    taken: dict[str, tuple[int, list[str]]] = {}
    folders: dict[Path, list[str]] = {}
    for number, overrides in enumerate(tqdm(jobs, desc="checking the jobs", unit="job", delay=2, leave=False)):
        composed = loader.load_sweep_config(config, list(overrides))
        place = _output(composed, number)
        others = [line for line in overrides if _key(line) != SHARD]
        before, same = taken.setdefault(os.path.realpath(place), (number, overrides))
        if before != number and ([line for line in same if _key(line) != SHARD] != others or same == overrides):
            raise RapbenchError(_refusal(place, before, number, same, overrides))
        folders[place] = others
    return folders


def write_indexes(folders: dict[Path, list[str]]) -> None:
    """Write what each folder is run with into the indexes beside them, which keep what they say of others."""
    for parent in sorted({folder.parent for folder in folders if folder.parent.name == FOLDER}):
        path = parent / INDEX
        new = {folder.name: words for folder, words in folders.items() if folder.parent == parent}
        text = json.dumps(dict(sorted((_read(path) | new).items())), indent=1, ensure_ascii=False)
        write_whole(path, f"{text}\n".encode())


def _read(path: Path) -> dict[str, list[str]]:
    try:
        with open_regular(path) as file:
            return dict(json.loads(file.read()))
    except (OSError, ValueError, TypeError):  # none yet, or none that is one
        return {}


def _output(composed: DictConfig, number: int) -> Path:
    """Return where a job writes, as Hydra and the configuration say."""
    before = HydraConfig.instance().cfg
    with read_write(composed.hydra.job), open_dict(composed.hydra.job):
        composed.hydra.job.num, composed.hydra.job.id = number, str(number)
    try:
        HydraConfig.instance().set_config(composed)
        folder = os.path.join(str(composed.hydra.sweep.dir), str(composed.hydra.sweep.subdir))
        with read_write(composed.hydra.runtime), open_dict(composed.hydra.runtime):
            composed.hydra.runtime.output_dir = os.path.abspath(folder)
        HydraConfig.instance().set_config(composed)
        return Path(os.path.relpath(composed.output))
    finally:
        HydraConfig.instance().cfg = before


def _refusal(place: Path, first: int, second: int, one: Iterable[str], other: Iterable[str]) -> str:
    apart = [line for line in other if line not in set(one)]
    if not apart:
        return f"jobs {first} and {second} of the sweep are the same ({' '.join(other):.200}); name each value once"
    return (
        f"jobs {first} and {second} of the sweep differ ({' '.join(apart):.200}), but would both write to {place}; "
        "leave output and hydra.sweep.subdir as they are, or let them differ too"
    )


def _key(line: str) -> str:
    return line.partition("=")[0]


OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
