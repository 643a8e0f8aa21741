"""Where a multirun's jobs write: a folder each, named by what the sweep varies; shards of one run share theirs.

Names are short. One beyond 100 characters is a number and a hash, one with characters that folders should not have gets
a hash; `index.json` beside the folders tells what each was run with.
"""

import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from tqdm import tqdm

from rapbench.app.check_config import check_config
from rapbench.app.config_source import LABELLED
from rapbench.app.settings import SETTINGS, unknown
from rapbench.core.errors import RapbenchError
from rapbench.core.files import open_regular, write_whole
from rapbench.training.settings import Labels

FOLDER = "sweep"  # below the run's
INDEX = "index.json"
PARTS = ("shard", "training.fold")  # jobs that differ in one alone are parts of one run, or of one training
SWEPT = "RAPBENCH_SWEPT"
LONGEST = 100
HYDRAS = BasicSweeper.split_arguments
OPTION = re.compile(rf"({'|'.join(LABELLED)})\.([^.@]+)\..+")
OTHERS = {*SETTINGS, *SETTINGS[""], "launch", "hydra"} - {*LABELLED}  # what says nothing of methods and protocols
UNFIT = re.compile(r"[^\w.,=+@:{}()\[\]~%^ -]")


def split(overrides: list[Override], config: DictConfig, loader: ConfigLoader) -> list[list[str]]:
    """Return each job's overrides: every combination, those that differ in the shard alone one after another.

    A method's or protocol's option, such as method.rap.residual, is for the jobs that have that method; others are not
    made several times for it.

    Parameters
    ----------
    overrides : list of Override
        As the command line gives them.
    config : DictConfig
        Of the multirun.
    loader : ConfigLoader
        Hydra's, which composes a job's configuration.

    Raises
    ------
    RapbenchError
        For an option of which no job has the method or protocol.
    """
    lines: dict[str, list[str]] = {}
    for override in overrides:
        lines[override.get_key_element()] = _lines(override)
    owners = _owners(overrides)
    labels = _Labels(config, loader)
    jobs: list[dict[str, int]] = []
    shared = {key: range(len(values)) for key, values in lines.items() if key not in owners}
    for numbers in itertools.product(*shared.values()):
        chosen = dict(zip(shared, numbers, strict=True))
        there = labels.of([lines[key][number] for key, number in chosen.items()]) if owners else set()
        own = {key: range(len(lines[key])) for key, owner in owners.items() if owner in there}
        jobs += [chosen | dict(zip(own, more, strict=True)) for more in itertools.product(*own.values())]
    if unused := [key for key in owners if not any(key in job for job in jobs)]:
        raise unknown(unused[0])
    # As Hydra orders them, the last override varies fastest; but the shard faster still.
    order = sorted(lines, key=lambda key: key in PARTS)
    jobs.sort(key=lambda job: [job.get(key, 0) for key in order])
    return [[lines[key][job[key]] for key in lines if key in job] for job in jobs]


def hand_out(jobs: list[list[str]] | None) -> None:
    """Have Hydra's sweeper launch these jobs, so that what is counted and checked is what is launched; None: its own.

    A sweeper of one's own would have to be a package of its own, named hydra_plugins.
    """

    def batches(overrides: list[Override], most: int | None) -> list[list[list[str]]]:
        return list(BasicSweeper.split_overrides_to_chunks(jobs or [], most))

    made = HYDRAS if jobs is None else batches
    # Hydra imports its plugins anew when it first looks for them, so this is not yet the class that is imported above.
    name = f"{BasicSweeper.__module__}.{BasicSweeper.__name__}"
    sweeper: Any = Plugins.instance().class_name_to_class[name]
    sweeper.split_arguments = staticmethod(made)


def for_some(words: list[str]) -> list[str]:
    """Return a multirun's command line with options of methods and protocols that only some jobs have as sweeps of one.

    So Hydra does not look for them in the configuration that is not yet any job's.
    """
    try:
        overrides = OverridesParser.create().parse_overrides(words)
    except HydraException:
        return words  # Hydra says what is wrong
    owners = _owners(overrides)
    return [
        f"{override.get_key_element()}=choice({override.get_value_element_as_str()})"
        if override.get_key_element() in owners and not override.is_sweep_override()
        else word
        for word, override in zip(words, overrides, strict=True)
    ]


def _owners(overrides: list[Override]) -> dict[str, tuple[str, str]]:
    """Return the group and label of those whose options are set, where the sweep varies which there are."""
    owners = {}
    if any(override.is_sweep_override() and _chooses(override.get_key_element()) for override in overrides):
        for override in overrides:
            if found := OPTION.fullmatch(override.get_key_element()):
                owners[override.get_key_element()] = (found[1], found[2])
    return owners


def _chooses(key: str) -> bool:
    """Whether an override may say which methods and protocols there are."""
    first = re.split(r"[.@]", key.lstrip("+~"))[0]
    return not OPTION.fullmatch(key) and first not in OTHERS


class _Labels:
    """Which methods and protocols there are in a job, by what of its overrides says so."""

    def __init__(self, config: DictConfig, loader: ConfigLoader):
        self._config, self._loader = config, loader
        self._known: dict[tuple[str, ...], set[tuple[str, str]]] = {}

    def of(self, words: list[str]) -> set[tuple[str, str]]:
        """Return their groups and labels."""
        telling = tuple(word for word in words if _chooses(_key(word)))
        if telling not in self._known:
            job = self._loader.load_sweep_config(self._config, list(telling))
            self._known[telling] = {(group, label) for group in LABELLED for label in job[group]}
        return self._known[telling]


def _lines(override: Override) -> list[str]:
    """Return an override as each job is given it."""
    return [line for (line,) in HYDRAS([override], None)[0]]


def swept(overrides: list[Override], jobs: list[list[str]]) -> str:
    """Return, as text, what the jobs' folders are named by: what the sweep varies, and how many shards there are.

    Jobs that differ in the shard alone stand one after another: "shards key key ...".
    """
    varied = [override for override in overrides if len(_lines(override)) > 1]
    shards = {line for job in jobs for line in job if _key(line) in PARTS}
    keys = dict.fromkeys(override.get_key_element() for override in varied)
    return " ".join([str(max(1, len(shards))), *(key for key in keys if key not in PARTS)])


def job_folder(number: int, overrides: Sequence[str], varied: str | None, otherwise: str) -> str:
    """Return the name of a job's folder, the same whenever the sweep is run again.

    number: of the job. varied: as `swept` returns it. otherwise: the name where nothing but shards is swept.
    """
    shards, *keys = (varied or "1").split(" ")
    lines = sorted(line for line in overrides if _key(line) in keys)
    name = ",".join(lines) or otherwise
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8]
    if len(name.encode()) > LONGEST:
        return f"{number // int(shards):04d}-{digest}"
    return f"{UNFIT.sub('_', name)}-{digest}" if UNFIT.search(name) and lines else UNFIT.sub("_", name)


def swept_folder(number: int, overrides: Sequence[str], varied: str | None, otherwise: str) -> str:
    """Return `job_folder` among those of sweeps; where nothing but parts is swept, what is there without a sweep."""
    name = job_folder(number, overrides, varied, otherwise)
    return f"{FOLDER}/{name}" if " " in (varied or "") else otherwise


def trained_folder(data: str, labels: Any) -> str:
    """Return the name of a training's folder: the data's, of a control with shuffled labels marked as such."""
    shuffled = Labels.shuffled.name in str(labels)
    return UNFIT.sub("_", data) + (f"-{Labels.shuffled.name}" if shuffled else "")


def check_folders(config: DictConfig, loader: ConfigLoader, jobs: list[list[str]]) -> dict[Path, list[str]]:
    """Return the folder of each job, with what it is run with. Raises RapbenchError where two would write to one.

    config: of the multirun. loader: that of Hydra, which composes each job's.
    """
    taken: dict[str, tuple[int, list[str]]] = {}
    folders: dict[Path, list[str]] = {}
    for number, overrides in enumerate(tqdm(jobs, desc="checking the jobs", unit="job", delay=2, leave=False)):
        composed = loader.load_sweep_config(config, list(overrides))
        check_config(composed)
        place = _output(composed, number)
        others = [line for line in overrides if _key(line) not in PARTS]
        before, same = taken.setdefault(os.path.realpath(place), (number, overrides))
        if before != number and ([line for line in same if _key(line) not in PARTS] != others or same == overrides):
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
OmegaConf.register_new_resolver("swept_folder", swept_folder, replace=True)
OmegaConf.register_new_resolver("trained", trained_folder, replace=True)
