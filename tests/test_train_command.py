"""`rapbench train`: its configuration, its folds, multiruns, and what is wrong in one line."""

import re
import shlex
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from rapbench.app.cli import main
from rapbench.app.config import TrainConfig
from rapbench.app.hydra_app import composed
from rapbench.app.option_help import WIDTH
from rapbench.app.run_help import settings, train_help
from rapbench.app.training_values import BOUNDS
from rapbench.core.paths import resource
from rapbench.training.settings import TrainingSettings
from tests.test_help import said

DATA = "tests.balls:balls"
FOLDER = Path("results/train", DATA)
QUICK = [f"data={DATA}", "model=tests.small_cubes:Net", "model.size=[16,16,16]", "device=cpu",
         "training.epochs=2", "training.batch=8", "training.augmentations=1"]  # fmt: skip


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "tests.balls", raising=False)  # imported anew: every test's end forgets it


def train(*words: str, code: int = 0) -> None:
    assert main(["train", *QUICK, *words]) == code


def test_folds_are_trained_and_summarised_together(capsys):
    train("training.fold=[0,2]")
    out = capsys.readouterr()
    assert "balls, not LUNA16; 2 of 4 folds" in out.out
    assert f"Written to {FOLDER}/" in out.out
    assert sorted(path.name for path in FOLDER.glob("fold*")) == ["fold0", "fold2"]
    train("training.fold=null")
    assert set(pd.read_csv(FOLDER / "classification.csv")["fold"]) == {"0", "1", "2", "3", "mean", "pooled"}
    assert {path.name for path in Path().iterdir()} == {"results"}  # nor logs of anybody's


def test_a_finished_fold_is_not_trained_again(capsys):
    train("training.fold=1")
    weights = FOLDER / "fold1" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    train("training.fold=1")
    assert weights.stat().st_mtime_ns == before
    train("training.fold=1", "seed=1")
    assert weights.stat().st_mtime_ns != before


def test_a_multirun_over_folds_writes_into_one_folder_and_the_last_to_end_summarises(capsys):
    train("-m", "training.fold=0,1,2")
    assert "All 3 jobs are done." in capsys.readouterr().out
    assert set(pd.read_csv(FOLDER / "classification.csv")["fold"]) == {"0", "1", "2", "mean", "pooled"}
    alone = {path.name: (path / "model.safetensors").read_bytes() for path in FOLDER.glob("fold*")}
    train("training.fold=0", "output=single")
    assert Path("single/fold0/model.safetensors").read_bytes() == alone["fold0"]


def test_what_else_a_multirun_varies_has_folders_of_its_own(capsys):
    train("-m", "training.fold=0,1", "training.epochs=1,2")
    for epochs in (1, 2):
        folder = Path(f"results/train/sweep/training.epochs={epochs}")
        assert sorted(path.name for path in folder.glob("fold?")) == ["fold0", "fold1"]


def test_a_control_has_a_folder_of_its_own(capsys):
    train("training.fold=0", "training.labels=shuffled")
    assert "A control, trained on shuffled labels" in capsys.readouterr().out
    assert (FOLDER.with_name(f"{FOLDER.name}-shuffled") / "fold0" / "fold.json").is_file()


WRONG = {
    "training.epochs=0": "training.epochs must be 1 to 100,000, got 0",
    "training.share=1.0": "training.share must be above 0 and below 1",
    "training.learning_rate=0.0": "training.learning_rate must be above 0",
    "training.learning_rate=nan": "training.learning_rate must be 0 to",
    "training.fold=7": "fold=7 is none of the 4 folds|training.fold=7 must be a fold, 0 to 3",
    "training.fold=[1,1]": "must name each fold once",
    "training.fold=one": "training.fold=one must be a fold",
    "training.precision=8": "training.precision='8' must be one of 32-true",
    "training.labels=some": "configuration: .*some",
    "training.epoch=3": "there is no setting 'training.epoch' .did you mean 'training.epochs'|epochs",
    "+training.more=3": "there is no setting 'training.more'",
    "method=[random]": "'method' has no meaning in training",
    "subset.n=3": "'subset' has no meaning in training",
    "data.part=test": "data.part has no meaning in training: training takes all parts of the data",
    "data.fold=1": "data.fold has no meaning in training: training.fold says which folds",
    "data=samples": "data=samples has no folds to train on; choose data=nodule_phantoms",
    "training.shift=7": "training.shift=7 moves a cube out of what is cut: at most 4 voxels",
    "training.strategy=nothing": "training: .*nothing",
    "model=vgg16_3d": "model.size|no setting",
    "device=gpu9": "device='gpu9'|device 'gpu9' cannot be used",
    "data.folds=99": "too few for 99 folds",
    "--nothing": "see rapbench train --help",
}


@pytest.mark.parametrize("word", WRONG)
def test_what_is_wrong_is_one_line(word, capsys):
    words = [one for one in [*QUICK, "training.fold=0"] if one.partition("=")[0] != word.partition("=")[0]]
    assert main(["train", *words, word]) == 2
    out = capsys.readouterr()
    last = out.err.replace("\r", "\n").splitlines()[-1]
    assert last.startswith("rapbench: ")
    assert re.search(WRONG[word], last), last
    assert "Traceback" not in out.err


def test_a_run_has_no_settings_of_training(capsys):
    assert main(["run", "training.epochs=3"]) == 2
    assert "setting 'training.epochs' is one of rapbench train, not of rapbench run" in capsys.readouterr().err


def test_the_configuration_has_the_defaults_of_the_code():
    config = yaml.safe_load(resource("configs", "train.yaml").read_text())
    made = {name: getattr(value, "name", value) for name, value in vars(TrainingSettings()).items()}
    assert config["training"] | {"fold": None} == made
    assert {name: config[name] for name in ("name", "seed", "device", "results")} == {
        name: getattr(TrainConfig(), name) for name in ("name", "seed", "device", "results")
    }


def test_the_help_names_every_setting_with_its_default_and_meaning(capsys):
    text = said(["train", "--help"], capsys)
    assert text == said(["train", "seed=3", "-h"], capsys)
    assert max(map(len, text.splitlines())) <= WIDTH
    shown = {one.name: one for one in settings("train")}
    assert {name.removeprefix("training.") for name in shown if "." in name} == set(
        TrainingSettings.__dataclass_fields__
    )
    assert BOUNDS.keys() <= set(TrainingSettings.__dataclass_fields__)
    flat = " ".join(text.split())
    for name, one in shown.items():
        assert one.meaning, name
        assert one.allowed, name
        assert " ".join(f"{name} = {one.default} {one.allowed} {one.meaning}".split()) in flat


EXAMPLES = [
    line.strip().partition("   ")[0] for line in train_help().splitlines() if line.startswith("  rapbench train")
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_the_help_are_understood(example, capsys):
    words = [word for word in shlex.split(example)[2:] if word != "-m" and not word.startswith("launch=")]
    words = [word.partition(",")[0] for word in words]
    assert yaml.safe_load(said(["train", *words, "--cfg", "job"], capsys))["training"]
    assert len(EXAMPLES) == 3


def test_the_help_takes_less_than_a_second_of_computing():
    before = time.process_time()
    train_help()
    assert time.process_time() - before < 1


def test_the_default_is_the_phantoms():
    config = composed([], "train")
    assert (config.model.name, config.data.name) == ("vgg16_3d", "nodule_phantoms")
