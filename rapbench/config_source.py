"""Configs for the models that another library names, or a user registered: `model=timm/resnet18` needs no file."""

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import OmegaConf

from rapbench.errors import RapbenchError
from rapbench.registry import Entry


class ZooSource(ConfigSource):
    """A Hydra config source behind the files: model/<name> is the registry's entry with its options' defaults."""

    @staticmethod
    def scheme() -> str:
        """Return what the search path in configs/run.yaml calls this source."""
        return "zoo"

    def available(self) -> bool:
        """Whether the source can be read: always."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Whether the path is a group: the models are, and none below."""
        return config_path.rstrip("/") == "model"

    def is_config(self, config_path: str) -> bool:
        """Whether the registry knows the model; asked only for what no file names."""
        return _entry(config_path) is not None

    def load_config(self, config_path: str) -> ConfigResult:
        """Return the model's name and its options."""
        entry = _entry(config_path)
        if entry is None:
            raise ConfigLoadError(f"no config {config_path}")
        config = {"name": entry.name} | entry.options
        return ConfigResult(
            provider=self.provider,
            path=f"zoo://{entry.name}",
            config=OmegaConf.create(config),
            header={"package": None},
        )

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return nothing: the names are too many to complete."""
        return []


def _entry(config_path: str) -> Entry | None:
    group, _, name = config_path.removesuffix(".yaml").partition("/")
    if group != "model" or not name:
        return None
    from rapbench.zoo import models

    try:
        return models[name]
    except RapbenchError:
        return None
