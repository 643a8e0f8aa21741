"""What is refused before anything is computed, or said: a model and data that do not belong together, K, labels."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import nn

from rapbench.app.choices import choices
from rapbench.app.cli import main
from rapbench.app.config import RunConfig
from rapbench.app.paper_beside import paper_beside
from rapbench.core.errors import RapbenchError
from rapbench.data.labelled.dataset import UNLABELLED, Dataset, Sample
from rapbench.data.subset.manifest import Row, Subset
from rapbench.evaluation.compatible import check_classes, check_subset, logits_of
from rapbench.evaluation.k_limits import ks_of, within
from rapbench.evaluation.labels import check_labels, check_measures, is_control
from rapbench.methods import methods
from rapbench.model import Facts, Model
from rapbench.model.preprocessing import Preprocess
from rapbench.protocols import protocols
from rapbench.report.about import About, Paper
from rapbench.results.published import published_table1
from rapbench.zoo import models
from tests.results import images as of_images

CPU = torch.device("cpu")


def model(classes: int = 10, side: int = 32, network: nn.Module | None = None, seed: int = 0) -> Model:
    torch.manual_seed(seed)
    network = network or nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                                       nn.Linear(16, classes))  # fmt: skip
    transform = Preprocess((120, 120, 120), (60, 60, 60), resize=side, crop=side)
    return Model(network, transform=transform, facts=Facts("tiny", "four filters", "nowhere", "none", classes=classes))


def data(labels, classes=None, name="folder") -> Dataset:
    return Dataset(
        name, Path(), [Sample(f"{i}.png", label) for i, label in enumerate(labels)], "made up", classes=classes
    )


def chosen(registry, **sections) -> list:
    return choices(OmegaConf.create(sections), registry)


class Answers(nn.Module):
    """A network that returns what it is told to."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer(x)


# Logits


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x: x.mean((1, 2, 3))[:, None], "tiny has one logit"),
        (lambda x: x.mean((1, 2, 3)), r"returns a tensor of shape \(1,\) for one image"),
        (lambda x: {"logits": x.mean((2, 3))}, "returns a dict"),
        (lambda x: (x.mean((2, 3)), None), "returns a tuple"),
        (lambda x: x.mean(2), "returns a tensor of shape"),
        (lambda x: x @ torch.zeros(7, 7), "cannot be asked for an image of 3 x 32 x 32"),
    ],
)
def test_a_model_without_a_logit_for_each_class_is_refused(answer, says):
    with pytest.raises(RapbenchError, match=says) as error:
        logits_of(model(network=Answers(answer)), (3, 32, 32), CPU)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("classes", [2, 10])
def test_logits_are_counted_by_asking(classes):
    assert logits_of(model(classes), (3, 32, 32), CPU) == classes


# Labels and classes


@pytest.mark.parametrize(
    ("labels", "classes", "logits", "says"),
    [
        ([0, 1, 9], 10, 1000, "of 10 classes, but m has 1,000; use a network for the classes in data.root"),
        ([0, 0, 0], 1, 10, "of one class, but m has 10"),
        ([0, 1], 10, 2, "of 10 classes, but m has 2"),
        ([0, 12], None, 10, "1.png has label 12, but m has 10 classes, 0 to 9"),
        ([0, -3], None, 10, "1.png has label -3"),
        ([0, UNLABELLED, 1], None, 10, "some images have a label, but not all, such as 1.png"),
    ],
)
def test_labels_of_other_classes_are_refused(labels, classes, logits, says):
    with pytest.raises(RapbenchError, match=says):
        check_classes([("m", logits)], data(labels, classes))


@pytest.mark.parametrize(
    ("labels", "classes", "logits"), [([0, 1, 9], 10, 10), ([3, 7], None, 10), ([243], 1000, 1000), ([-1, -1], None, 5)]
)
def test_labels_of_the_models_classes_are_not(labels, classes, logits):
    check_classes([("m", logits), ("other", logits)], data(labels, classes))


def test_every_required_model_is_checked():
    with pytest.raises(RapbenchError, match="but other has 7"):
        check_classes([("m", 10), ("other", 7)], data([0, 1], 10))
    with pytest.raises(RapbenchError, match="cannot agree on labels, their numbers of classes differ: m 10, other 7"):
        check_classes([("m", 10), ("other", 7)], data([UNLABELLED] * 2))


def subset(*rows: tuple[int, float], image=str) -> Subset:
    weights = model().weights_sha256
    return Subset([Row(f"{i}.png", *row[:1], image(i), *row[1:], "tiny", weights) for i, row in enumerate(rows)])


def test_a_subset_of_labels_beyond_the_classes_is_refused():
    with pytest.raises(RapbenchError, match=r"1\.png has label 5000"):
        check_subset(model(), 10, subset((1, 0.5), (5000, 0.25)))


def test_a_model_with_one_answer_to_all_images_is_refused():
    with pytest.raises(RapbenchError, match="gives all 3 images the same label and logit"):
        check_subset(model(), 10, subset((1, 0.5), (1, 0.5), (1, 0.5)))
    check_subset(model(), 10, subset((1, 0.5), (1, 0.5), (1, 0.5000001)))
    check_subset(model(), 10, subset((1, 0.5), (2, 0.5)))
    check_subset(model(), 10, subset((1, 0.5), (1, 0.5), image=lambda _: "the same image twice"))
    check_subset(model(), 10, subset((1, 0.5)))


def test_the_data_sets_say_how_many_classes_their_labels_are_of(imagenet_root, tmp_path):
    from rapbench.data import load_data

    assert load_data("samples").classes == 1000
    assert load_data("imagenet", root=str(imagenet_root)).classes == 1000  # of 19 folders
    assert load_data("imagenet", root=str(imagenet_root), labels="predicted").classes is None
    for place in ("b/one.png", "a/two.png", "c/three.png"):
        (tmp_path / "own" / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "own" / place)
    assert load_data("folder", root=str(tmp_path / "own"), labels="folders").classes == 3
    assert load_data("folder", root=str(tmp_path / "own")).classes is None


# K


@pytest.mark.parametrize("name", ["removal", "shuffling", "distance"])
@pytest.mark.parametrize("side", [8, 32, 96, 224])
def test_default_ks_beyond_the_image_are_dropped_and_no_others(name, side):
    (before,) = chosen(protocols, **{name: {"name": name}})
    (after,) = within([before], (side, side))
    for sign, ks in ks_of(before).items():
        assert ks_of(after)[sign] == [k for k in ks if k == "all" or k <= side**2]
    if side == 224:
        assert after is before
    assert {sign: list(ks) for sign, ks in after.protocol.k.items()} == ks_of(after)


@pytest.mark.parametrize("name", ["removal", "shuffling", "distance"])
def test_ones_own_k_beyond_the_image_is_refused_and_one_beyond_a_sign_is_not(name):
    (own,) = chosen(protocols, mine={"name": name, "k": {"positive": [10, 1024], "negative": [1, 1025, "all"]}})
    with pytest.raises(RapbenchError, match=r"protocol 'mine': k.negative has 1025, but .* 32 x 32 = 1,024 pixels"):
        within([own], (32, 32))
    assert within([own], (33, 33)) == [own]


@pytest.mark.parametrize("name", ["removal", "shuffling", "distance"])
@pytest.mark.parametrize(("ks", "says"), [
    ([0, 9, "1%", 11, "5%", "all"], None),
    ([0, 51, "5%"], r"has 51 \(51 pixels\) before 5% \(51 pixels\), but must ascend, no number twice; an image has 32"),
    (["5%", 50], r"has 5% \(51 pixels\) before 50 \(50 pixels\)"),
    (["1%", "1.01%"], r"has 1% \(10 pixels\) before 1\.01% \(10 pixels\)"),
    (["0.01%"], r"has 0\.01%, which is no pixel: an image has 32 x 32 = 1,024 pixels"),
])  # fmt: skip
def test_shares_ascend_with_counts_once_the_size_is_known(name, ks, says):
    (own,) = chosen(protocols, mine={"name": name, "k": {"positive": ks}})
    if says is None:
        assert within([own], (32, 32)) == [own]
        return
    with pytest.raises(RapbenchError, match=f"^protocol 'mine': k.positive {says}"):
        within([own], (32, 32))


# Labels in the tables


def test_a_label_that_is_another_entrys_name_is_refused():
    with pytest.raises(RapbenchError, match="method 'random' is set to rap"):
        check_labels(methods, chosen(methods, random={"name": "rap"}))
    with pytest.raises(RapbenchError, match="protocol 'removal' is set to shuffling"):
        check_labels(protocols, chosen(protocols, removal={"name": "shuffling"}))
    with pytest.raises(RapbenchError, match="'rap' and 'RAP' would both be shown as 'RAP'"):
        check_labels(methods, chosen(methods, rap={"name": "rap"}, RAP={"name": "random"}))
    with pytest.raises(RapbenchError, match="would both be shown"):
        check_labels(methods, chosen(methods, **{"paper (VGG-16)": {"name": "rap"}}))
    every = {name: {"name": name} for name in methods} | {"mine": {"name": "rap"}, "rap_normal": {"name": "rap"}}
    check_labels(methods, chosen(methods, **every))


def test_controls_are_those_that_look_at_no_model_whatever_their_label():
    found = chosen(methods, rap={"name": "rap"}, noise={"name": "random"}, edge={"name": "edge"})
    assert [choice.label for choice in found if is_control(choice)] == ["noise", "edge"]


def test_two_tables_of_d_k_are_refused():
    both = chosen(protocols, distance={"name": "distance"}, again={"name": "distance", "norm": "squared"})
    with pytest.raises(RapbenchError, match="distance and again both measure D_K"):
        check_measures(both)
    check_measures([*both[:1], *chosen(protocols, removal={"name": "removal"}, regions={"name": "regions"})])


# The paper's numbers


def beside(setting="auto", classes=1000, side=224, labels=(3,), name="imagenet", removal=None, method="rap") -> Paper:
    config = OmegaConf.merge(OmegaConf.structured(RunConfig), {"paper": setting})
    ran = chosen(methods, **{method: {"name": "rap"}}, mine={"name": "rap"})
    done = chosen(protocols, removal={"name": "removal"} | (removal or {}), shuffling={"name": "shuffling"})
    found = paper_beside(config, model(classes, side), data(labels, 1000, name), ran, done)
    return About.of({"paper": json.loads(json.dumps(found))}).paper


def test_the_paper_is_shown_beside_imagenet_networks_on_imagenet():
    for name in ("imagenet", "samples"):
        paper = beside(name=name)
        assert paper.reason == ""
        shown = paper.of(published_table1())
        assert set(shown["method"]) == {"rap"}
        assert set(shown["perturbation"]) == {"removal", "shuffling"}
        assert len(shown) == (published_table1()["method"] == "rap").sum()


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"classes": 10}, "the network has 10 classes"),
        ({"side": 96}, "these images have 96 x 96"),
        ({"labels": (UNLABELLED,)}, "ImageNet's images with their own labels"),
        ({"name": "folder"}, "ImageNet's images with their own labels"),
        ({"name": "my_data"}, "ImageNet's images with their own labels"),
    ],
)
def test_the_paper_is_not_shown_beside_anything_else_unless_it_is_asked_for(other, says):
    paper = beside(**other)
    assert paper.of(published_table1()).empty
    assert says in paper.reason
    assert len(beside("on", **other).of(published_table1()))
    assert beside("on", **other).reason == ""
    assert beside("off", **other).of(published_table1()).empty


def test_a_perturbation_that_the_paper_did_otherwise_is_not_shown_beside_it():
    paper = beside(removal={"fill": "mean", "k": {"positive": [0, 250]}})
    assert set(paper.of(published_table1())["perturbation"]) == {"shuffling"}
    assert "removal" in paper.reason
    assert set(beside(removal={"k": {"positive": [0, 250]}}).of(published_table1())["perturbation"]) == {
        "removal", "shuffling"}  # fmt: skip
    assert beside("on", removal={"fill": "mean"}).perturbations == ("removal", "shuffling")


def test_off_is_off_and_an_older_run_says_nothing():
    assert beside("off").of(published_table1()).empty
    assert About.of({}).paper.of(published_table1()).empty
    assert About.of({"header": ["a_model: b.", "set X=/path."]}).caption == ("a_model: b.",)


# Whole runs


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of 12 pictures in three classes, and a network of one's own to run on them."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for number in range(12):
        file = tmp_path / "photos" / f"class{number % 3}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        colour = draw.integers(0, 255, (1, 1, 3))
        pixels = np.clip(colour + draw.integers(-60, 60, (32, 32, 3)), 0, 255)
        Image.fromarray(pixels.astype("uint8")).save(file)
    made = {"classes": 3}

    @models.register("own")
    def own() -> Model:
        return model(made["classes"])

    return made


RUN = ["run", "model=tests.test_compatible:own", "method=[sensitivity,random,edge]", "data=folder", "data.root=photos",
       "subset.n=4", "gallery=0"]  # fmt: skip
OUTPUT = Path("results/run/tests.test_compatible:own")


def run(*overrides):
    from rapbench.app.loaded_models import forget

    forget()
    return main([*RUN, *overrides])


def test_a_run_on_ones_own_says_what_it_skipped_and_shows_no_paper(place, capsys):
    assert run("protocol=[removal]") == 0
    text = capsys.readouterr().out
    folder = OUTPUT
    provenance = json.loads((folder / "provenance.json").read_text())
    skipped = "Skipped K of removal: positive 2000, 4000; negative 2000, 4000, 6000, 8000, 10000. An image has 32 x 32"
    assert skipped in text
    assert skipped in (folder / "table1.md").read_text("utf-8")
    assert provenance["controls"] == ["random", "edge"]
    assert provenance["config"]["paper"] == "auto"
    assert provenance["paper"]["shown"] is False
    assert provenance["paper"]["reason"] in text
    assert not (folder / "paper.csv").exists()
    assert "paper (VGG-16)" not in text
    images = of_images(folder)
    assert set(images["k"]) == {"0", "250", "500", "1000", "all"}
    caption = "\n".join(line for line in (folder / "table1.tex").read_text("utf-8").splitlines() if r"\caption" in line)
    for word in ("/path", "make:", "data=", "paper=", "Skipped"):
        assert word not in caption
    assert "n = 4 images of 12 below photos/" in caption

    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert main(["report", str(folder)]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert run("protocol=[removal]", "paper=on") == 0
    assert "paper (VGG-16)" in capsys.readouterr().out
    assert (folder / "paper.csv").exists()
    assert run("protocol=[removal]", "paper=off") == 0
    assert not (folder / "paper.csv").exists()
    assert "are not shown" not in capsys.readouterr().out.split("Against the controls")[1]


@pytest.mark.parametrize(
    ("classes", "overrides", "says"),
    [
        (1, [], "tiny has one logit"),
        (10, ["data.labels=folders"], "of 3 classes, but tiny has 10"),
        (3, ["k.positive=[0,2000]"], "k.positive has 2000, but an image has 32 x 32 = 1,024 pixels"),
        (3, ["+method.rap.name=random"], "method 'rap' is set to random"),
        (3, ["paper=maybe"], "paper"),
    ],
)
def test_a_run_that_makes_no_sense_is_one_line_before_anything_is_computed(place, classes, overrides, says, capsys):
    place["classes"] = classes
    assert run(*overrides) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert says in lines[-1]
    assert not list(Path("results").rglob("*.parquet"))


def test_the_embedded_images_are_named_in_the_caption_without_a_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["run", "model=efficientnet_lite0", "method=[random]", "protocol=[removal]", "subset.n=2", "gallery=0",
               "k.positive=[0,1000]", "k.negative=[0]"]  # fmt: skip
    assert main(command) == 0
    printed = capsys.readouterr().out
    text = Path("results/run/efficientnet_lite0/table1.tex").read_text("utf-8")
    assert "IMAGENET" in printed
    assert "IMAGENET" not in text
    assert "2 of the 20 embedded ImageNet images" in text
