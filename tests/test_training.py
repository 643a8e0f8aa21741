"""Training on cubes: epochs and augmentations by seed, resuming to the same bytes, figures over folds, the command."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import rapbench
from rapbench.app.cli import main
from rapbench.data.ct.folds import balanced, split
from rapbench.store.claim import Claim
from rapbench.store.contents import digest_of
from rapbench.training import fold as folds_module
from rapbench.training.augmentation import Augmentation
from rapbench.training.epoch import Item, epoch_items, item_seed, training_labels
from rapbench.training.figures import FIGURES, MEAN, POOLED, confusion, figures, intervals, roc, table
from rapbench.training.fold import CHECKPOINT, PREDICTIONS, RECORD, WEIGHTS, CrossValidation, Study, train_fold
from rapbench.training.module import cosine
from rapbench.training.samples import EpochSamples
from rapbench.training.settings import Augment, Labels, Optimizer, Schedule, TrainingSettings
from rapbench.training.summary import fold_folder, summarise
from tests.small_cubes import MARGIN, SIZE, Balls, Net

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
QUICK = {"epochs": 3, "batch": 8, "augmentations": 2, "learning_rate": 0.01}


def study(cubes: Balls | None = None, seed: int = 0, **settings) -> Study:
    torch.manual_seed(0)
    model = rapbench.Model(Net(), size=[SIZE] * 3)
    return Study(cubes or Balls(), model, CrossValidation(folds=4), TrainingSettings(**QUICK | settings), seed, CPU)


# What an epoch is


def items(seed=0, epoch=0, share=0.25, augmentations=3, count=90):
    cubes = Balls(count)
    return cubes, epoch_items(np.arange(count), cubes.label, augmentations, share, seed, epoch)


def test_an_epoch_has_every_nodule_some_times_and_others_to_the_share():
    cubes, found = items()
    nodules = [item for item in found if cubes.label[item.candidate] == 1]
    others = [item.candidate for item in found if cubes.label[item.candidate] == 0]
    assert sorted(nodules) == [Item(int(index), copy) for index in np.flatnonzero(cubes.label) for copy in range(3)]
    assert len(nodules) / len(found) == 0.25
    counts = np.bincount(others, minlength=len(cubes.label))[cubes.label == 0]
    assert len(others) == 270 > 60
    assert set(counts) == {4, 5}  # without replacement, lap by lap


def test_an_epoch_follows_from_seed_and_epoch_alone():
    assert items()[1] == items()[1]
    different = [items(seed, epoch)[1] for seed in range(2) for epoch in range(3)]
    assert len({tuple(found) for found in different}) == 6
    assert len({item_seed(0, epoch, Item(5, copy)) for epoch in range(10) for copy in range(10)}) == 100


def test_a_few_others_are_drawn_without_replacement_and_others_in_each_epoch():
    drawn = [{item.candidate for item in items(0, epoch, 0.9, 1)[1]} for epoch in range(20)]
    others = [found - set(range(0, 90, 3)) for found in drawn]
    assert {len(found) for found in others} == {3}
    assert len(set().union(*others)) > 20


@pytest.mark.parametrize("label", [0, 1])
def test_nothing_to_tell_apart_is_one_line(label):
    with pytest.raises(rapbench.RapbenchError, match=f"there are no {'nodules' if label == 0 else 'other candidates'}"):
        epoch_items(np.arange(5), np.full(5, label, dtype=np.uint8), 1, 0.5, 0, 0)


def test_shuffled_labels_are_a_permutation_within_each_part_and_leave_the_test_alone():
    cubes = Balls(300)
    parts = split(cubes, 0, 4)
    found = training_labels(cubes.label, (parts.train, parts.validation), True, 0)
    for part in (parts.train, parts.validation):
        assert found[part].sum() == cubes.label[part].sum()
        assert (found[part] != cubes.label[part]).mean() > 0.2
    assert (found[parts.test] == cubes.label[parts.test]).all()
    assert training_labels(cubes.label, (parts.train,), False, 0) is cubes.label


# Augmentation


def pieces(cube, size):
    """Every cube of a size in a cube, in every mirror image."""
    reach = range(cube.shape[0] - size + 1)
    for z in reach:
        for y in reach:
            for x in reach:
                part = cube[z : z + size, y : y + size, x : x + size]
                for flips in range(8):
                    yield np.flip(part, [axis for axis in range(3) if flips >> axis & 1])


def test_the_first_copy_is_moved_and_mirrored_and_no_voxel_is_interpolated():
    cubes, settings = Balls(), TrainingSettings(shift=2)
    augment = Augmentation(settings, SIZE, MARGIN)
    cube = cubes.scaled(cubes.cube(0, MARGIN))
    inner = cube[2:-2, 2:-2, 2:-2]  # as far as the centre may move
    known = {piece.tobytes() for piece in pieces(inner, SIZE)}
    made = {augment(cube, seed, turned=False).numpy()[0].tobytes() for seed in range(300)}
    assert made <= known
    assert len(made) > 200  # of 1,000 possible ones


def test_a_turned_copy_keeps_the_nodule_and_follows_from_its_seed():
    cubes = Balls()
    augment = Augmentation(TrainingSettings(), SIZE, MARGIN)
    cube = cubes.scaled(cubes.cube(0, MARGIN))
    one, again, other = (augment(cube, seed, turned=True) for seed in (1, 1, 2))
    assert one.shape == (1, SIZE, SIZE, SIZE)
    assert one.dtype == torch.float32
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert type(one) is torch.Tensor
    volume = float((cube > 0.4).sum())
    for seed in range(20):
        turned = float((augment(cube, seed, turned=True) > 0.4).sum())
        assert 0.6 * volume < turned < 1.5 * volume  # moved, turned, scaled by 10 %: not cut off, not lost


def test_nothing_is_augmented_where_everything_is_off():
    settings = TrainingSettings(shift=0, flips=False, rotation=0.0, shear=0.0, scaling=0.0)
    cubes = Balls()
    cube = cubes.scaled(cubes.cube(0, MARGIN))
    inner = torch.from_numpy(cubes.scaled(cubes.cube(0))[None])
    augment = Augmentation(settings, SIZE, MARGIN)
    assert torch.equal(augment(cube, 3, turned=False), inner)
    torch.testing.assert_close(augment(cube, 3, turned=True), inner, rtol=0, atol=1e-5)


def test_more_than_the_margin_is_one_line():
    with pytest.raises(rapbench.RapbenchError, match=r"training\.shift=9 moves a cube out of what is cut: at most 4"):
        Augmentation(TrainingSettings(shift=9), SIZE, MARGIN)


@pytest.mark.parametrize("augment", Augment)
def test_only_nodules_are_augmented_unless_all_are(augment):
    cubes = Balls()
    settings = TrainingSettings(augment=augment)
    changes = {margin: Augmentation(settings, SIZE, margin) for margin in (0, MARGIN)}
    found = [Item(index, 1) for index in range(12)]
    samples = EpochSamples(cubes, found, cubes.label, settings, changes, 0, 0)
    for place in range(12):
        x, label = samples[place]
        assert label == cubes.label[place]
        same = torch.equal(x, torch.from_numpy(cubes.scaled(cubes.cube(place))[None]))
        assert same == (label == 0 and augment is Augment.nodules)


def test_an_input_is_the_same_whichever_process_makes_it_and_in_whatever_order():
    cubes, settings = Balls(), TrainingSettings()
    changes = {margin: Augmentation(settings, SIZE, margin) for margin in (0, MARGIN)}
    plan = epoch_items(np.arange(48), cubes.label, 2, 0.5, 0, 1)
    samples = EpochSamples(cubes, plan, cubes.label, settings, changes, 0, 1)
    forward = [samples[place][0] for place in range(len(plan))]
    backward = [samples[place][0] for place in reversed(range(len(plan)))][::-1]
    assert all(map(torch.equal, forward, backward))
    for workers in (0, 2):
        batches = torch.utils.data.DataLoader(samples, 7, num_workers=workers)
        assert torch.equal(torch.cat([x for x, _ in batches]), torch.stack(forward))


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 1000])
def test_the_learning_rate_rises_once_to_its_highest_and_falls(steps):
    found = [cosine(step, steps) for step in range(steps)]
    top = found.index(max(found))
    assert found[top] == 1
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)
    assert min(found) > 0
    assert top <= max(0, steps / 10)


# A fold


def test_a_fold_learns_and_writes_its_weights_and_predictions(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = study(epochs=6)
    before = torch.random.get_rng_state()
    record = train_fold(made, 1, tmp_path / "fold1")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()
    written = sorted(path.name for path in tmp_path.rglob("*"))
    assert written == ["fold.json", "fold.lock", "fold1", WEIGHTS, PREDICTIONS]
    out = capfd.readouterr()
    assert not out.out
    lines = out.err.replace("\r", "\n").splitlines()
    assert not [line for line in lines if line.strip() and "balls · fold" not in line]
    assert record["epochs"] == 6
    assert record["history"][-1]["loss"] < record["history"][0]["loss"]
    table = pd.read_csv(tmp_path / "fold1" / PREDICTIONS)
    test = split(made.cubes, 1, 4).test
    assert list(table["candidate"]) == [made.cubes.names[index] for index in test]
    assert list(table["label"]) == list(made.cubes.label[test])
    assert set(test[table["balanced"] == 1]) == set(balanced(made.cubes, test, 0.28))
    network = Net().eval()
    network.load_state_dict(load_file(tmp_path / "fold1" / WEIGHTS))
    x = torch.stack([torch.from_numpy(made.cubes.scaled(made.cubes.cube(int(index)))[None]) for index in test])
    wanted = network(x).softmax(1)[:, 1].detach()
    torch.testing.assert_close(torch.tensor(table["probability"]).float(), wanted, rtol=0, atol=1e-5)
    assert figures(table)["f1"] >= 90


def test_the_best_epochs_weights_are_kept(tmp_path):
    settings = {"labels": Labels.shuffled, "schedule": Schedule.constant}
    record = train_fold(study(**settings, epochs=12), 0, tmp_path / "fold0")
    losses = [epoch["val_loss"] for epoch in record["history"]]
    assert record["best_epoch"] == losses.index(min(losses)) + 1
    assert record["best_epoch"] < 12  # what is learnt of shuffled labels is of no use on others
    shorter = study(**settings, epochs=record["best_epoch"])
    train_fold(shorter, 0, tmp_path / "short")
    assert (tmp_path / "fold0" / WEIGHTS).read_bytes() == (tmp_path / "short" / WEIGHTS).read_bytes()


def test_two_trainings_give_the_same_bytes_and_workers_change_none(tmp_path):
    for name, settings in (
        ("one", {}),
        ("two", {}),
        ("workers", {"workers": 2}),
        ("sgd", {"optimizer": Optimizer.sgd}),
    ):
        train_fold(study(**settings), 0, tmp_path / name)
    data = {name: [(tmp_path / name / file).read_bytes() for file in (WEIGHTS, PREDICTIONS)]
            for name in ("one", "two", "workers", "sgd")}  # fmt: skip
    assert data["one"] == data["two"] == data["workers"] != data["sgd"]


SPAWNED = """
import sys
from pathlib import Path
from tests.test_training import study, train_fold

if __name__ == "__main__":
    train_fold(study(devices=2, epochs=6), 0, Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_several_processes_train_one_fold(tmp_path):
    (tmp_path / "spawned.py").write_text(SPAWNED)
    words = [sys.executable, str(tmp_path / "spawned.py"), str(tmp_path / "fold0")]
    done = subprocess.run(words, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert figures(pd.read_csv(tmp_path / "fold0" / PREDICTIONS))["f1"] >= 90


@pytest.mark.slow
@pytest.mark.parametrize("labels", Labels)
def test_the_network_tells_phantoms_and_one_trained_on_shuffled_labels_does_not(labels, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "training.fold=0", f"training.labels={labels.name}", "output=out"]) == 0
    frame = (
        pd.read_csv("out/classification.csv", dtype={"fold": str})
        .query("ratio == 'balanced' and fold == '0'")
        .set_index("figure")
    )
    assert (frame["value"]["f1"] >= 90) == (labels is Labels.given)
    if labels is Labels.shuffled:
        share = frame["nodules"]["f1"] / frame["n"]["f1"]
        assert not frame["value"]["f1"] > 200 * share / (1 + share) + 5  # of calling all nodules
        assert 35 < frame["value"]["auc"] < 65


KILLED = """
import os, signal, sys
from pathlib import Path
from lightning.pytorch.callbacks import Callback
import rapbench.training.callbacks as callbacks
from tests.test_training import study, train_fold

class Killed(callbacks.Progress):
    def on_train_batch_end(self, trainer, *_, **__):
        if trainer.current_epoch == 1 and trainer.global_step % trainer.num_training_batches == 2:
            os.kill(os.getpid(), signal.SIGKILL)

import rapbench.training.lightning as lightning
lightning.Progress = Killed
train_fold(study(), 0, Path(sys.argv[1]))
"""


def test_a_killed_training_goes_on_to_the_same_bytes(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "killed")], env=environment,
                            capture_output=True, text=True)  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [path.name for path in (tmp_path / "killed").iterdir() if path.suffix == ".ckpt"] == [CHECKPOINT]
    seen = torch.load(tmp_path / "killed" / CHECKPOINT, weights_only=True)
    assert len(seen["callbacks"]["BestWeights"]["history"]) == 1
    resumed, whole = (train_fold(study(), 0, tmp_path / name) for name in ("killed", "whole"))
    assert resumed["history"] == whole["history"]
    for file in (WEIGHTS, PREDICTIONS, RECORD):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


def test_a_checkpoint_of_other_settings_or_a_broken_one_is_not_resumed(tmp_path):
    folder = tmp_path / "fold0"
    train_fold(study(), 0, tmp_path / "whole")
    folder.mkdir()
    (folder / CHECKPOINT).write_bytes(b"nothing")
    train_fold(study(), 0, folder)
    assert (folder / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_a_fold_is_trained_again_only_where_something_has_changed(tmp_path, monkeypatch):
    trained = []
    actual = folds_module._trained
    monkeypatch.setattr(folds_module, "_trained", lambda *given: trained.append(given[1]) or actual(*given))
    folder = tmp_path / "fold0"
    monkeypatch.setattr(folds_module, "code_of", lambda *_: CODE)
    train_fold(study(), 0, folder)
    train_fold(study(), 0, folder)
    train_fold(study(workers=1, natural=False), 0, folder)
    assert trained == [0]
    shuffled = {"labels": Labels.shuffled}
    changed = [study(epochs=2), study(seed=1), study(Balls(seed=1)), study(**shuffled)]
    for count, one in enumerate(changed, start=2):
        train_fold(one, 0, folder)
        assert len(trained) == count
    train_fold(study(**shuffled), 0, folder)
    (folder / PREDICTIONS).write_text("other")
    train_fold(study(**shuffled), 0, folder)
    assert len(trained) == 6


class Code:
    sha256, versions = "x", {}


CODE = Code()


def test_code_counts(tmp_path):
    made = study()
    assert made.key()["code"] == study().key()["code"]
    assert {"torch", "lightning", "monai"} <= made.key()["versions"].keys()


def test_early_stopping_ends_a_fold_and_so_it_does_when_it_is_asked_for_again(tmp_path, monkeypatch):
    settings = {"labels": Labels.shuffled, "schedule": Schedule.constant, "epochs": 30, "patience": 2}
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # the checkpoint stays, as if it was killed at the end
    record = train_fold(study(**settings), 0, tmp_path / "fold0")
    assert record["epochs"] == record["best_epoch"] + 2 < 30
    (tmp_path / "fold0" / RECORD).rename(tmp_path / "old.json")
    assert train_fold(study(**settings), 0, tmp_path / "fold0")["history"] == record["history"]
    assert json.loads((tmp_path / "old.json").read_text()) == json.loads((tmp_path / "fold0" / RECORD).read_text())


@pytest.mark.parametrize(("settings", "says"), [
    ({"learning_rate": 1e30, "schedule": Schedule.constant}, "the loss is no number any more; try a smaller"),
    ({"strategy": "nothing"}, "training: .*nothing"),
    ({"shift": 9}, "training.shift=9 moves"),
])  # fmt: skip
def test_what_cannot_be_trained_is_one_line(settings, says, tmp_path):
    with pytest.raises(rapbench.RapbenchError, match=says) as caught:
        train_fold(study(**settings), 0, tmp_path / "fold0")
    assert "\n" not in str(caught.value)


def test_a_network_that_does_not_fit_is_one_line(tmp_path):
    made = study()
    for module, says in ((torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(SIZE**3, 5)), r"makes \(1, 5\)"),
                         (torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3)), "takes no cubes of shape")):  # fmt: skip
        other = Study(made.cubes, rapbench.Model(module), made.cross, made.settings, 0, CPU)
        with pytest.raises(rapbench.RapbenchError, match=says):
            train_fold(other, 0, tmp_path / "fold0")


def test_two_processes_do_not_train_one_fold(tmp_path):
    with (
        Claim.of(tmp_path / "fold0" / "fold.lock"),
        pytest.raises(rapbench.RapbenchError, match="another process trai"),
    ):
        train_fold(study(), 0, tmp_path / "fold0")


# Figures


def predictions(tp, fp, fn, tn, seed=0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    label = [1] * tp + [0] * fp + [1] * fn + [0] * tn
    called = [1] * (tp + fp) + [0] * (fn + tn)
    probability = [0.5 + 0.49 * generator.random() + 0.001 if one else 0.5 * generator.random() for one in called]
    names = [f"c{number}" for number in range(len(label))]
    return pd.DataFrame({"candidate": names, "label": label, "probability": probability, "balanced": 1})


def test_the_papers_figures_by_hand():
    frame = predictions(tp=8, fp=2, fn=1, tn=29)
    found = figures(frame)
    wanted = {"accuracy": 92.5, "precision": 80, "recall": 800 / 9, "specificity": 2900 / 31, "f1": 1600 / 19}
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, abs=1e-4), name
    nodules, others = (frame["probability"][frame["label"] == label].to_numpy() for label in (1, 0))
    assert found["auc"] == pytest.approx(100 * (nodules[:, None] > others).mean(), abs=1e-4)  # of all pairs
    assert confusion(frame).tolist() == [[29, 2], [1, 8]]
    false, true = roc(frame)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert float(np.trapezoid(true, false)) == pytest.approx(found["auc"] / 100, abs=1e-6)


@pytest.mark.parametrize(("counts", "undefined"), [
    ((0, 0, 3, 5), {"precision", "f1"}),
    ((0, 2, 0, 5), {"recall", "f1", "auc"}),
    ((4, 0, 1, 0), {"specificity", "auc"}),
    ((0, 0, 0, 5), {"precision", "recall", "f1", "auc"}),
    ((0, 0, 0, 0), set(FIGURES)),
])  # fmt: skip
def test_an_undefined_figure_is_no_number(counts, undefined):
    frame = predictions(*counts)
    found, ends = figures(frame), intervals(frame)
    assert {name for name, value in found.items() if np.isnan(value)} == undefined
    for name in FIGURES:
        low, high = ends[name]
        assert np.isnan(low) == np.isnan(high) == (name in undefined or name == "auc")
        if not np.isnan(low):
            assert low <= found[name] + 1e-4
            assert found[name] - 1e-4 <= high


def test_the_interval_of_f1_holds_what_it_says():
    """Of many data sets of one network, 95 % of the intervals have its F1 in them."""
    generator = np.random.default_rng(0)
    true = {"tp": 0.25, "fp": 0.04, "fn": 0.03, "tn": 0.68}
    f1 = 200 * 0.25 / (2 * 0.25 + 0.04 + 0.03)
    inside = 0
    for _ in range(300):
        counts = generator.multinomial(200, list(true.values()))
        low, high = intervals(predictions(*map(int, counts)))["f1"]
        inside += low <= f1 <= high
    assert 0.91 <= inside / 300 <= 0.99


def test_a_table_has_folds_mean_and_all_together():
    parts = {0: predictions(8, 2, 1, 29), 2: predictions(7, 0, 3, 30), 5: predictions(9, 1, 2, 28)}
    found = table(parts)
    assert list(dict.fromkeys(found["fold"])) == ["0", "2", "5", MEAN, POOLED]
    assert set(found["ratio"]) == {"balanced"}  # there is nothing more at the natural ratio
    value = found.set_index(["fold", "figure"])["value"]
    assert value[MEAN, "f1"] == pytest.approx(np.mean([value[fold, "f1"] for fold in ("0", "2", "5")]))
    assert value[POOLED, "recall"] == pytest.approx(100 * 24 / 30, abs=1e-4)
    mean = found.set_index(["fold", "figure"]).loc[(MEAN, "recall")]
    recalls = np.array([800 / 9, 70, 900 / 11])
    reach = 4.302653 * recalls.std(ddof=1) / np.sqrt(3)  # Student's t of two degrees of freedom
    assert (mean["low"], mean["high"]) == pytest.approx(
        (recalls.mean() - reach, min(100, recalls.mean() + reach)), abs=1e-3
    )


def test_a_mean_over_folds_of_which_one_lacks_the_figure_is_empty():
    found = table({0: predictions(8, 2, 1, 29), 1: predictions(0, 0, 4, 30)}).set_index(["fold", "figure"])["value"]
    assert np.isnan(found[MEAN, "precision"])
    assert np.isnan(found[MEAN, "f1"])
    assert found[MEAN, "recall"] == pytest.approx(400 / 9, abs=1e-4)


def test_both_ratios_are_told_where_all_was_predicted():
    frame = predictions(8, 2, 1, 29).assign(balanced=[1] * 20 + [0] * 20)
    found = table({0: frame})
    counts = found.drop_duplicates("ratio").set_index("ratio")["n"].to_dict()
    assert counts == {"balanced": 20, "natural": 40}


def test_a_summary_says_what_the_data_are_wherever_a_number_stands(tmp_path):
    made = study(epochs=1)
    for number in (0, 2):
        train_fold(made, number, fold_folder(tmp_path, number))
    train_fold(study(epochs=2), 1, fold_folder(tmp_path, 1))
    text = summarise(tmp_path, digest_of(made.key()))
    assert "balls, not LUNA16; 2 of 4 folds, random, by scan." in text
    assert "Not counted, as settings, data or code were others: fold 1." in text
    for name in ("classification.md", "classification.tex"):
        whole = (tmp_path / name).read_text()
        assert whole.count("balls, not LUNA16") >= 2
        assert "paper (LUNA16)" in whole
        assert "91.74" in whole
        assert "nan" not in whole.lower()
    frame = pd.read_csv(tmp_path / "classification.csv")
    assert set(frame["fold"]) == {"0", "2", MEAN, POOLED}
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert {"roc.png", "roc.pdf", "confusion.png", "confusion.pdf"} <= files.keys()
    summarise(tmp_path, digest_of(made.key()))
    assert files == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


@pytest.mark.parametrize("undefined", [True, False])
def test_an_undefined_figure_is_empty_in_every_table(tmp_path, undefined):
    made = study(epochs=1)
    train_fold(made, 0, fold_folder(tmp_path, 0))
    path = fold_folder(tmp_path, 0) / PREDICTIONS
    frame = pd.read_csv(path)
    frame.assign(probability=0.25 if undefined else frame["label"]).to_csv(path, index=False)
    record = json.loads((path.parent / RECORD).read_text())
    record["files"][PREDICTIONS] = folds_module.file_hash(path)
    (path.parent / RECORD).write_text(json.dumps(record))
    summarise(tmp_path, digest_of(made.key()))
    row = next(
        line for line in (tmp_path / "classification.md").read_text().splitlines() if line.startswith("| fold 0")
    )
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert (cells[2] == "") == undefined
    assert "nan" not in (tmp_path / "classification.csv").read_text()
