"""The values of a run's settings, checked before torch is imported: a slip is named in a second."""

import os
import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rapbench.app.registries import REGISTRIES
from rapbench.core.errors import RapbenchError
from rapbench.core.paths import STORE, check_folder, check_name
from rapbench.core.reading import CONTROL, is_text
from rapbench.data.subset.manifest import load_manifest
from rapbench.evaluation.run_spec import FEWEST_FOR_PATTERNS, MOST
from rapbench.evaluation.shard import Shard
from rapbench.protocols.base.ks import check_ks
from rapbench.registry.declared import check_declared

ROWS = ("method", "protocol")  # of which a run has several, by label
# The least that makes sense; chunk and batch may be left to the device.
LEAST = {
    "chunk": 1, "batch": 1, "subset.n": 1, "subset.seed": 0, "gallery": 0, "pattern_images": FEWEST_FOR_PATTERNS,
}  # fmt: skip
DEVICE = re.compile(r"[a-z]+(:\d{1,4})?")


def check_values(config: DictConfig) -> None:
    """Raise RapbenchError for a value that no run can have.

    What it takes libraries to know is checked later: names and options of other libraries' models and of a user's
    modules, whether the data and the device are there, the pixels of an image.
    """
    for setting, least in LEAST.items():
        value = OmegaConf.select(config, setting)
        if value is not None and not least <= value <= MOST:
            what = f"at least {least}" if value < least else "a number of 64 bits"
            raise RapbenchError(f"{setting} must be {what}, got {value}")
    check_common(config)
    Shard.called(config.shard)
    for group in REGISTRIES:
        section: Any = OmegaConf.to_container(config[group], resolve=True)
        parts = section if group in ROWS else {"": section}
        for label, settings in parts.items():
            check_part(group, label, settings)
    if not config.method or not config.protocol:
        raise RapbenchError("nothing to run: choose at least one method and one protocol, as in method=[rap]")
    require: Any = OmegaConf.to_container(config.subset.require, resolve=True)
    for entry in require:
        check_part("model", "subset.require", named(entry))
    if config.subset.manifest is not None:
        load_manifest(Path(config.subset.manifest))


def check_common(config: DictConfig) -> None:
    """Raise RapbenchError for what neither a run nor a training can have: seed, device, name and folders."""
    if abs(config.seed) > MOST:
        raise RapbenchError(f"seed must be a number of 64 bits, got {config.seed}")
    if not DEVICE.fullmatch(config.device):
        raise RapbenchError(f"device={config.device!r} is not a device's name, such as auto, cpu, cuda or cuda:1")
    check_name(config.name, "name")
    if config.name == STORE:
        raise RapbenchError(f"name={STORE} is taken: results/{STORE} keeps what is computed; give another name")
    # A store that is there serves what it has, also where it can only be read.
    check_folder(config.results, "results", read=os.path.isdir(os.path.join(config.results, STORE)))
    if not OmegaConf.is_interpolation(config, "output"):
        check_folder(config.output, "output")


def check_part(group: str, label: str, settings: Any) -> None:
    """Raise RapbenchError for a section that names nothing, or has options or K lists that cannot be."""
    kind = REGISTRIES[group].kind
    if not isinstance(settings, dict) or not isinstance(settings.get("name"), str):
        shown = f"{kind} {label!r}" if label else f"the {kind}"
        raise RapbenchError(f"{shown} must be a mapping with a name, got {settings!r:.100}")
    if group == "protocol" and "k" in settings:
        try:
            check_ks(settings["k"])
        except RapbenchError as error:
            raise RapbenchError(f"protocol {label!r}: {error}") from error
    if group == "method":
        _check_title(label, settings.get("title", label))
    check_declared(kind, REGISTRIES[group].package, settings["name"], options_of(settings, group))


def options_of(settings: dict[str, Any], group: str = "") -> dict[str, Any]:
    """Return the options among a config's settings: what is neither its name nor its summary, nor a method's title."""
    others = ("name", "summary", "title") if group == "method" else ("name", "summary")
    return {key: value for key, value in settings.items() if key not in others}


def _check_title(label: str, title: Any) -> None:
    if not isinstance(title, str) or not title.strip() or not is_text(title) or CONTROL.search(title):
        raise RapbenchError(
            f"method {label!r}: title={title!r:.60} must be text on one line, as tables call the method"
        )


def named(entry: Any) -> dict[str, Any]:
    """Return what subset.require names: a model, or a mapping with its name and options."""
    settings = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(settings, dict) or not isinstance(settings.get("name"), str):
        raise RapbenchError(f"subset.require must list models, by name or as mappings with a name, got {entry!r:.100}")
    return settings
