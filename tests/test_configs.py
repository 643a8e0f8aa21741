"""The config group's option name = the registry name = the row in the table, with the function's own defaults."""

from pathlib import Path

import pytest
import yaml

from rapbench.app.cli import main
from rapbench.app.registries import REGISTRIES
from rapbench.core.paths import resource
from tests.small import SMALL


@pytest.mark.parametrize("group", REGISTRIES)
def test_every_config_is_registered_and_every_entry_has_a_config(group):
    assert sorted(path.stem for path in resource("configs", group).glob("*.yaml")) == list(REGISTRIES[group])


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group, registry in REGISTRIES.items() for name in registry]
)
def test_a_config_has_its_name_a_summary_and_the_defaults(group, name):
    text = resource("configs", group, f"{name}.yaml").read_text()
    config = yaml.safe_load(text)
    if group in ("method", "protocol"):  # several in one run, each under its own label
        assert text.startswith(f"# @package {group}.{name}\n")
    assert config.pop("name") == name
    assert config.pop("summary")
    if group == "protocol" and "k" in REGISTRIES[group][name].options:
        assert config.pop("k")
    given = {key: value for key, value in config.items() if value is not None}
    options = REGISTRIES[group][name].options
    assert given == {key: value for key, value in options.items() if value is not None and key != "k"}


@pytest.mark.parametrize("name", [path.stem for path in resource("configs", "experiment").glob("*.yaml")])
def test_an_experiment_composes_with_what_a_user_overrides(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    wanted = [f"experiment={name}", f"model={SMALL}", "data=samples", "subset.n=2", "method=[random]",
              "protocol=[distance]"]  # fmt: skip
    assert main(["run", *wanted]) == 0
    assert f"Written to results/{name}/{SMALL}/" in capsys.readouterr().out
    kept = list(Path("results/store/heatmaps").glob("*/*.safetensors"))
    assert len(kept) == (1 if name in ("heatmaps", "figure8") else 0)
