"""Configs for what has no file: models that another library names (`model=timm/resnet18`), and a user's own entries.

`method=my_methods:sharpened` is the method that the module my_methods registers as sharpened; that is its row's name.
"""

from collections.abc import Iterable
from typing import Any

from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import OmegaConf

from rapbench.app.registries import REGISTRIES
from rapbench.core.errors import RapbenchError
from rapbench.registry import Entry

LABELLED = ("method", "protocol")  # of which a run has several, each under its own label


class RegistrySource(ConfigSource):
    """A Hydra config source behind the files: <group>/<name> is the registry's entry with its options' defaults."""

    @staticmethod
    def scheme() -> str:
        """Return what the search path in configs/run.yaml calls this source."""
        return "registry"

    def available(self) -> bool:
        """Whether the source can be read: always."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Whether the path is a group: those with a registry, and none below."""
        return config_path.rstrip("/") in REGISTRIES

    def is_config(self, config_path: str) -> bool:
        """Whether the registry knows the entry; asked only for what no file names."""
        try:
            return _entry(config_path) is not None
        except RapbenchError:
            return False

    def load_config(self, config_path: str) -> ConfigResult:
        """Return the entry's name and its options; for a protocol the run's K lists too."""
        entry = _entry(config_path)
        if entry is None:
            raise ConfigLoadError(f"no config {config_path}")
        group = config_path.partition("/")[0]
        config: dict[str, Any] = {"name": entry.name} | entry.options
        if group == "protocol" and "k" in entry.options:
            config["k"] = "${k}"
        return ConfigResult(
            provider=self.provider,
            path=f"registry://{group}/{entry.name}",
            config=OmegaConf.create(config),
            header={"package": f"{group}.{entry.label}" if group in LABELLED else None},
        )

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return nothing: the names are too many to complete."""
        return []


def has_no_file(group: str, name: str) -> bool:
    """Whether a registry may know a name that no file in configs/ has."""
    return group == "model" or (group in REGISTRIES and ":" in name)


def check_choices(overrides: Iterable[str]) -> None:
    """Raise RapbenchError for two entries of one label in a list: Hydra would put the second in the first's place."""
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        group, names = override.key_or_group, None if override.is_sweep_override() else override.value()
        if group not in LABELLED or not isinstance(names, list):
            continue
        taken: dict[str, str] = {}
        for name in dict.fromkeys(map(str, names)):
            label = REGISTRIES[group][name].label if has_no_file(group, name) else name
            if label in taken:
                raise RapbenchError(
                    f"{group}s {taken[label]} and {name} would both be called {label!r}; give one a label of its own: "
                    f"'+{group}.my_{label}={{name: \"{name}\"}}'"
                )
            taken[label] = name


def _entry(config_path: str) -> Entry[Any] | None:
    group, _, name = config_path.removesuffix(".yaml").partition("/")
    return REGISTRIES[group][name] if name and has_no_file(group, name) else None
