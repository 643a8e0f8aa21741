"""`make reproduce-table1` and its settings: each value reaches the run as it was typed, whatever is in it."""

import os
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import rapbench.app.config  # noqa: F401  registers the schema that compose needs
from rapbench.core.paths import resource
from tests.pages import ROOT
from tests.reader import environment

sys.path.insert(0, str(ROOT / "experiments"))
import _make

ODD = [
    "x'; touch f; '", "it's here", 'a "quoted" one', "a=b", "a,b", "{a: b}", "[x]", "$HOME", "$(touch f)", "-x", "$$",
    "$(shell touch f)", "${oc.env:HOME}", "`touch f`", "back\\slash\\", "\\\\'", "a # b", "100 %", "näme 漢字", "null",
    "two  blanks ", "~", "?", "two\nlines", "%s", "true", "1e3", "a;b|c&d>f",
]  # fmt: skip
CHARACTERS = st.sampled_from("\\${}a:\n'\"?=, []()#é\t漢;|&*~`%")


def composed(overrides: list[str], command: str = "run", experiment: str = "table1") -> dict:
    with initialize_config_dir(str(resource("configs")), version_base="1.3"):
        return OmegaConf.to_container(compose(command, [f"experiment={experiment}", *overrides]), resolve=False)


def root_of(override: str) -> str:
    """Return what one override makes of the setting, by the steps that Hydra takes."""
    parsed = OverridesParser.create().parse_override(override)
    config = OmegaConf.create({"data": {"root": None}})
    OmegaConf.update(config, parsed.key_or_group, parsed.value())
    return config.data.root


@pytest.mark.parametrize("value", ODD)
def test_make_hands_a_value_on_as_it_was_typed(value, tmp_path):
    found = environment(["make", "reproduce-table1", f"IMAGENET={value}", f"DEVICE={value}", "N=3"])
    assert _make.made("IMAGENET", found) == _make.made("DEVICE", found) == value
    assert _make.made("N", found) == "3"
    assert _make.made("MODEL", found) == ""
    assert not (ROOT / "f").exists()
    data, root, *_ = _make.overrides(found)
    assert data == "data=imagenet"
    assert root_of(root) == value


@settings(max_examples=60, deadline=None)
@given(
    st.text(alphabet=st.sampled_from("\\${}a:\n'\"?=, []()#é\t漢;|&*~`%"), min_size=1).filter(
        lambda text: text != "???"
    )
)
def test_hydra_and_omegaconf_read_any_value_back(value):
    assert root_of(f"data.root={_make.quoted(value)}") == value


def test_every_setting_reaches_its_place():
    given = {"MODEL": "efficientnet_lite0", "IMAGENET": "/x y", "LABELS": "predicted", "N": "7", "DEVICE": "cuda:1",
             "REQUIRE": "resnet50, vgg16", "METHODS": "rap/normal,random", "PRECISION": "bf16"}  # fmt: skip
    words = ["make", "reproduce-table1", *(f"{name}={value}" for name, value in given.items())]
    config = composed(_make.overrides(environment(words)))
    assert config["model"]["name"] == "efficientnet_lite0"
    assert (config["data"]["name"], config["data"]["root"], config["data"]["labels"]) == (
        "imagenet",
        "/x y",
        "predicted",
    )
    assert (config["subset"]["n"], config["subset"]["require"]) == (7, ["resnet50", "vgg16"])
    assert list(config["method"]) == ["rap_normal", "random"]
    assert (config["device"], config["precision"].name) == ("cuda:1", "bf16")
    assert _make.overrides({}) == []
    assert _make.drift("freeze", environment(["make", "freeze-drift", "EXPERIMENT=aopc", "BASELINE=x y"])) == [
        "baselines/drift/x y.csv", "experiment='aopc'"]  # fmt: skip


def test_the_3d_application_is_three_commands_that_compose():
    for words in ([], ["LUNA16=/x y", "FOLDS=2", "EPOCHS=3", "WIDTH=0.5", "DEVICE=cuda:1"]):
        train, run, figure = _make.luna16(environment(["make", "reproduce-luna16", *words]))
        assert (train[0], run[0], figure[:2]) == ("train", "run", ["figure", "figure8"])
        configs = [composed(train[2:], "train", "luna16"), composed(run[2:], "run", "luna16"),
                   composed(figure[2:], "run", "figure8")]  # fmt: skip
        assert {config["data"]["name"] for config in configs} == {"luna16" if words else "nodule_phantoms"}
        name = configs[0]["data"]["name"]
        assert {config["model"]["path"] for config in configs[1:]} == {
            f"results/luna16/{name}/fold0/model.safetensors"}  # fmt: skip
        if words:
            assert {config["data"]["root"] for config in configs} == {"/x y"}
            assert {config["device"] for config in configs} == {"cuda:1"}
            training = configs[0]["training"]
            assert (training["fold"], training["epochs"], configs[0]["model"]["width"]) == ([0, 1], 3, 0.5)


def test_the_command_itself_names_the_folder_that_was_typed():
    place = "/no/it's here'; touch f; ' $(shell touch f) ${HOME}, {a=b}"
    command = ["make", "-s", "reproduce-table1", "MODEL=efficientnet_lite0", "METHODS=random", f"IMAGENET={place}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    said = [line for line in done.stderr.splitlines() if line.startswith("rapbench: ")]
    assert len(said) == 1
    assert said[0].startswith(f"rapbench: IMAGENET: {place} is not a folder")
    assert "Traceback" not in done.stderr
    assert done.returncode == 2
    assert not (ROOT / "f").exists()
