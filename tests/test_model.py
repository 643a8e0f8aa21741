"""A Model around any module: what it states, what it keeps apart from the module, and what it refuses in one line."""

import copy
import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import rapbench
from rapbench.app.cli import main
from rapbench.core.memory_format import placed
from rapbench.data.labelled.dataset import Dataset
from rapbench.evaluation.gallery import classes_of, seen
from rapbench.evaluation.identity import model_key
from rapbench.evaluation.input_shape import input_shape, pixels_said
from rapbench.model import hash_weights
from rapbench.registry import allow_modules, names_from
from rapbench.store.contents import digest_of
from tests.own import Own

SPACES = [(20,), (8, 8), (6, 9), (4, 5, 6)]
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOL = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


def network(space=(6, 9), channels=2, classes=3) -> nn.Sequential:
    torch.manual_seed(len(space))
    dims = len(space)
    return nn.Sequential(CONV[dims](channels, 4, 3, padding=1), NORM[dims](4), nn.ReLU(), POOL[dims](1), nn.Flatten(),
                         nn.Dropout(), nn.Linear(4, classes))  # fmt: skip


def moments(channels=2) -> dict:
    return {"mean": [0.4, 0.5, 0.6][:channels], "std": [0.2, 0.25, 0.3][:channels]}


def state(module: nn.Module) -> list:
    return [(name, tensor.clone(), tensor.dtype, tensor.stride()) for name, tensor in module.state_dict().items()]


def same(one: list, other: list) -> bool:
    return len(one) == len(other) and all(
        a[0] == b[0] and torch.equal(a[1], b[1]) and a[2:] == b[2:] for a, b in zip(one, other, strict=True)
    )


# The module and its copy


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_a_module_is_left_as_it_was(space, training):
    module = network(space).train(training)
    module[1].eval()  # one part may be in a mode of its own
    before, modes = state(module), [part.training for part in module.modules()]
    model = placed(rapbench.Model(module, **moments(), size=list(space)), "cpu")
    x = torch.randn(3, 2, *space)
    with torch.no_grad():
        logits = model(x)
        assert torch.allclose(logits, copy.deepcopy(module).eval()(x), atol=1e-6)
    rapbench.attribute(model, x, 1, "sensitivity")
    assert [part.training for part in module.modules()] == modes
    assert same(state(module), before)
    assert not any(part.training for part in model.modules())
    with torch.no_grad():
        module[0].weight.zero_()
        assert torch.equal(model(x), logits)


def test_the_weights_hash_is_of_what_answers_whatever_becomes_of_the_module():
    module = network()
    model = rapbench.Model(module)
    assert model.weights_sha256 == hash_weights(model.network) == hash_weights(module)
    module[-1].bias.data += 1
    assert model.weights_sha256 == hash_weights(model.network) != hash_weights(module)


def test_training_mode_is_refused_as_results_are_of_a_trained_network():
    model = rapbench.Model(network(), name="mine")
    assert model.eval() is model
    with pytest.raises(rapbench.RapbenchError, match="mine stays in eval mode"):
        model.train()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_computed_with_in_float32(dtype):
    module = network().to(dtype)
    model = rapbench.Model(module)
    assert model(torch.randn(2, 2, 6, 9)).dtype == torch.float32
    assert module[0].weight.dtype == dtype
    assert torch.equal(model.network[0].weight, module[0].weight.float())


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_wrappers_are_taken_off(wrap):
    model = rapbench.Model(wrap(network()))
    assert type(model.network) is nn.Sequential
    assert model.facts.name == "Sequential"


@pytest.mark.parametrize("how", [torch.nn.utils.weight_norm, torch.nn.utils.spectral_norm,
                                 torch.nn.utils.parametrizations.weight_norm])  # fmt: skip
def test_computed_weights_are_copied_after_a_training_step(how):
    module = network()
    how(module[-1])
    module.train()
    module(torch.randn(4, 2, 6, 9)).sum().backward()  # leaves a weight that has a gradient's graph, and no copy
    model = rapbench.Model(module)
    assert module.training
    x = torch.randn(2, 2, 6, 9)
    with torch.no_grad():
        assert torch.allclose(model(x), copy.deepcopy(model.network)(x))
        assert torch.allclose(model(x), module.eval()(x), atol=1e-6)


class Locked(nn.Module):
    """Holds what cannot be copied."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()

    def forward(self, x):
        return x.flatten(1)


class Two(nn.Module):
    """Needs a second input."""

    def forward(self, x, y):
        return x + y


BAD = {
    "no module": (lambda: rapbench.Model(lambda x: x), "the model must be a torch.nn.Module, got a function"),
    "a class": (lambda: rapbench.Model(Two), "got a class; give an instance"),
    "two inputs": (lambda: rapbench.Model(Two()), "forward needs y beside the images"),
    "no weights": (lambda: rapbench.Model(nn.LazyLinear(3)), "is lazy"),
    "no copy": (lambda: rapbench.Model(Locked()), "Locked cannot be copied"),
    "a Model": (lambda: rapbench.Model(rapbench.Model(network())), "is a Model already"),
    "mean alone": (lambda: rapbench.Model(network(), mean=[0.5, 0.5]), "mean is given without std"),
    "std alone": (lambda: rapbench.Model(network(), std=[0.5, 0.5]), "std is given without mean"),
    "0..255": (lambda: rapbench.Model(network(), mean=[124.0] * 2, std=[60.0] * 2), "in 0..1 for each channel"),
    "text": (lambda: rapbench.Model(network(), mean="imagenet", std=[0.2]), "in 0..1 for each channel"),
    "NaN": (lambda: rapbench.Model(network(), mean=[float("nan")], std=[0.2]), "in 0..1 for each channel"),
    "true": (lambda: rapbench.Model(network(), mean=[True], std=[0.2]), "in 0..1 for each channel"),
    "no deviation": (lambda: rapbench.Model(network(), mean=[0.5], std=[0]), "must be positive"),
    "unequal": (lambda: rapbench.Model(network(), mean=[0.5], std=[0.2, 0.2]), "mean has 1 channels, std 2"),
    "size 0": (lambda: rapbench.Model(network(), size=0), "size=0: give the side"),
    "size 2.5": (lambda: rapbench.Model(network(), size=[2.5, 3]), "positive whole numbers"),
    "size true": (lambda: rapbench.Model(network(), size=True), "positive whole numbers"),
    "four dimensions": (lambda: rapbench.Model(network(), size=[3, 3, 3, 3]), "1 to 3 positive whole numbers"),
    "no dimension": (lambda: rapbench.Model(network(), size=[]), "1 to 3 positive whole numbers"),
    "transform": (lambda: rapbench.Model(network(), transform=3), "transform must be a function"),
    "name": (lambda: rapbench.Model(network(), name="a\nb"), "is not a name"),
    "class names": (lambda: rapbench.Model(network(), class_names=["a", ""]), r"class_names\[1\] is empty"),
    "a class number": (lambda: rapbench.Model(network(), class_names=["a", 1]), r"class_names\[1\]=1 is not a name"),
    "no file": (lambda: rapbench.Model(network(), class_names="nowhere.txt"), "class_names: nowhere.txt is not a file"),
    "weights": (lambda: rapbench.Model(network(), weights_sha256="0" * 64), "are not the expected ones"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_makes_no_sense_is_one_line(case):
    make, says = BAD[case]
    with pytest.raises(rapbench.RapbenchError, match=says) as error:
        make()
    assert "\n" not in str(error.value)


# What it states


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_space_and_channels(space):
    model = rapbench.Model(network(space), **moments(), size=torch.tensor(space))
    assert (model.channels, model.space) == (2, space)
    mean, std = model.normalisation
    assert torch.equal(mean, torch.tensor([0.4, 0.5]))
    assert torch.equal(std, torch.tensor([0.2, 0.25]))
    bare = rapbench.Model(network(space))
    assert (bare.channels, bare.space, bare.normalisation) == (None, None, None)
    assert rapbench.Model(network((8, 8)), size=8).space == (8, 8)


def test_a_zoo_model_states_them_too_and_says_what_it_did(lite):
    assert (lite.channels, lite.space) == (3, (224, 224))
    assert repr(lite.transform) == (
        "Preprocess(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0), resize=256, crop=224, "
        "interpolation='bicubic', bgr=False)"
    )
    assert lite.weights_sha256 == "aae49dd47f24bcb048f988e3f2436d9a19f49adfe38184571cec1baf8b3a64fd"
    assert classes_of(lite, rapbench.load_data("samples"))[243] == "bull mastiff"


def picture(height=50, width=60) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3))
    return Image.fromarray(pixels.astype("uint8"))


@pytest.mark.parametrize(("size", "whole"), [((24, 40), (33, 40)), ((40, 24), (40, 48)), ((100, 30), (100, 120))])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_covers_the_size_and_its_centre_is_taken(size, whole, channels):
    """Against Pillow: 50 x 60 is scaled to `whole`."""
    model = rapbench.Model(network(channels=channels), **moments(channels), size=size)
    found = model.transform(picture())
    scaled = picture().convert("RGB" if channels == 3 else "L").resize(whole[::-1], Image.Resampling.BILINEAR)
    top, left = (round((length - side) / 2) for length, side in zip(whole, size, strict=True))
    cut = np.asarray(scaled.crop((left, top, left + size[1], top + size[0]))).reshape(*size, channels)
    want = (cut / 255 - np.array(moments(channels)["mean"])) / np.array(moments(channels)["std"])
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.permute(1, 2, 0), want, atol=1e-5)


def test_a_transform_of_ones_own_is_asked_for_pictures_and_for_the_shape():
    def halves(image: Image.Image) -> torch.Tensor:
        assert image.mode == "RGB"
        return torch.full((2, 6, 9), 0.5)

    model = rapbench.Model(network(), transform=halves)
    files = Dataset("folder", Path(), [], "")
    assert input_shape(model, files) == (2, 6, 9)
    assert torch.equal(model.transform(picture().convert("L")), torch.full((2, 6, 9), 0.5))
    told = rapbench.Model(network(), transform=halves, **moments(), size=[6, 9])
    assert torch.equal(told.transform(picture()), torch.full((2, 6, 9), 0.5))


@pytest.mark.parametrize(("stated", "says"), [
    ({}, "the model states no mean and std"),
    (moments(3), "the model does not state the size"),
    (moments(2) | {"size": 8}, "pictures have 2 spatial dimensions and 1 or 3 channels, the model's inputs 2 and 2"),
    (moments(3) | {"size": [8]}, "the model's inputs 1 and 3"),
    ({"transform": lambda image: "x"}, "transform must make a floating-point tensor"),
    ({"transform": lambda image: torch.ones(3, 2, 2).byte()}, "transform must make a floating-point tensor"),
    ({"transform": lambda image: torch.ones(3, 2, 2), "size": 3}, r"by mean, std and size they have \(3, 3, 3\)"),
])  # fmt: skip
def test_a_picture_that_cannot_be_preprocessed_is_one_line(stated, says):
    with pytest.raises(rapbench.RapbenchError, match=says):
        rapbench.Model(network(), **stated).transform(picture())


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_the_shape_is_the_datas_where_the_model_does_not_state_it_and_they_must_agree(space):
    data = rapbench.Dataset.from_tensors(torch.randn(2, 2, *space))
    for stated in ({}, moments(), {"size": list(space)}, moments() | {"size": list(space)}):
        assert input_shape(rapbench.Model(network(space), **stated), data) == (2, *space)
    with pytest.raises(rapbench.RapbenchError, match=r"states 3 channels .* inputs of 2 channels"):
        input_shape(rapbench.Model(network(space), **moments(3)), data)
    with pytest.raises(rapbench.RapbenchError, match=r"states size 3 x 4 .* has inputs of 2 channels and size"):
        input_shape(rapbench.Model(network(space), size=[3, 4]), data)


def test_pixels_in_words():
    assert [pixels_said(space) for space in [(1200,), (8, 9), (2, 3, 4)]] == [
        "1,200 pixels", "8 x 9 = 72 pixels", "2 x 3 x 4 = 24 pixels"]  # fmt: skip


def test_pictures_are_shown_as_they_were_or_spread_where_that_is_not_known():
    shown = torch.linspace(0, 255, 2 * 3 * 4 * 5).round().view(2, 3, 4, 5)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in moments(3).values())
    stated = rapbench.Model(network(), **moments(3))
    assert np.array_equal(seen(stated, (shown / 255 - mean) / std), shown.permute(0, 2, 3, 1).byte().numpy())
    bare = seen(rapbench.Model(network()), torch.tensor([[[[-3.0, 1.0]]], [[[2.0, 2.0]]]]))
    assert bare[..., 0].tolist() == [[[0, 255]], [[0, 0]]]
    assert bare.shape == (2, 1, 2, 3)


# Class names


def test_class_names_of_the_model_come_before_those_of_the_data(tmp_path, lite):
    (tmp_path / "names.txt").write_text("\ufeffcat\r\nsea lion\r\nhen\r\n\r\n", encoding="utf-8")
    named = rapbench.Model(network(), class_names=tmp_path / "names.txt")
    assert named.class_names == ("cat", "sea lion", "hen")
    assert named.facts.classes == 3
    folders = Dataset("folder", tmp_path, [], "", class_names=("a", "b", "c"))
    bare = Dataset("folder", tmp_path, [], "")
    assert classes_of(named, folders) == ["cat", "sea lion", "hen"]
    assert classes_of(rapbench.Model(network()), folders) == ["a", "b", "c"]
    assert classes_of(rapbench.Model(network()), bare) == []
    own = dataclasses.replace(lite.facts, licence="the user's own")
    assert classes_of(rapbench.Model(network(), facts=own), bare) == []


# Its key


def key(model: rapbench.Model) -> str:
    return digest_of(model_key(model))


def test_a_key_is_of_the_network_and_what_is_stated_of_its_inputs():
    one = key(rapbench.Model(network(), **moments()))
    assert key(rapbench.Model(network().train(), **moments(), class_names=["a", "b", "c"])) == one
    other = network()
    other[-1].bias.data[0] += 1
    lenient = network()
    lenient[1].eps = 1e-3
    models = [rapbench.Model(other, **moments()), rapbench.Model(lenient, **moments()), rapbench.Model(network()),
              rapbench.Model(network(), **moments(), size=[6, 9]),
              rapbench.Model(network(), **moments(), transform=lambda image: torch.ones(2, 6, 9))]  # fmt: skip
    assert len({one, *map(key, models)}) == 6


def test_weights_that_are_changed_in_the_model_itself_are_hashed_again():
    model = rapbench.Model(network())
    model.network[-1].bias.data[0] += 1
    assert model_key(model)["model"]["weights"] == hash_weights(model.network)


# From the shell


NETS = """
import torch
from torch import nn
import rapbench

class Net(nn.Module):
    def __init__(self, classes: int = 3, width=4, act=nn.ReLU, *, bias: bool = True):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, width, 3, bias=bias), act(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                    nn.Linear(width, classes))

    def forward(self, x):
        return SLOPE * self.layers(x)

SLOPE = 1.0

def whole():
    names = ["cat", "dog", "cow"]
    return rapbench.Model(Net(), mean=[.5] * 3, std=[.2] * 3, size=(24, 40), name="three", class_names=names)

def sized(size: int = 24):
    return rapbench.Model(Net(), mean=[.5] * 3, std=[.2] * 3, size=size)

def text():
    return "a network"

def fails():
    return 1 / 0

def asks(path):
    return Net()

net = Net()
number = 3
"""
STATED = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "size": [24, 40]}


@pytest.fixture
def own(tmp_path, monkeypatch) -> Own:
    made = Own(tmp_path, monkeypatch)
    made.write("own_nets.py", NETS)
    rng = np.random.default_rng(0)
    for label in range(3):
        (tmp_path / f"photos/class {label}").mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(0, 255, (50, 60, 3)).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / f"photos/class {label}/{number}.png")
    yield made
    made.forget()


def test_a_class_or_function_that_is_not_registered_is_a_model(own):
    model = rapbench.load_model("own_nets:Net", width=5, bias=False, **STATED)
    assert (model.facts.name, model.space, model.network.layers[0].out_channels) == ("own_nets:Net", (24, 40), 5)
    assert model.network.layers[0].bias is None
    assert rapbench.load_model("own_nets:whole").class_names == ("cat", "dog", "cow")
    assert rapbench.load_model("own_nets:sized", size=32).space == (32, 32)  # its own setting
    options = rapbench.zoo.models["own_nets:Net"].options
    assert options == {"classes": 3, "width": 4, "bias": True} | dict.fromkeys(("mean", "std", "size", "class_names"))


def test_a_file_of_data_may_name_what_a_trusted_module_defines_and_not_what_it_imports(own):
    own.write("own_trusted.py", NETS + "from shutil import rmtree")
    with names_from("provenance.json"):
        with pytest.raises(rapbench.RapbenchError, match="--allow-module own_trusted"):
            rapbench.load_model("own_trusted:whole")
        allow_modules(["own_trusted"])
        assert rapbench.load_model("own_trusted:whole").facts.name == "three"
        with pytest.raises(rapbench.RapbenchError, match="it has no function or class of that name"):
            rapbench.load_model("own_trusted:rmtree")


def test_an_own_models_code_is_in_its_key(own):
    keys = [key(rapbench.load_model("own_nets:Net", **STATED)) for _ in range(2)]
    assert keys[0] == keys[1]
    own.write("own_nets.py", NETS.replace("SLOPE = 1.0", "SLOPE = 2.0"))
    own.load("own_nets")
    assert key(rapbench.load_model("own_nets:Net", **STATED)) != keys[0]


SHELL = {
    "nowhere:build": "there is no module 'nowhere'",
    "own_nets:other": "model 'own_nets:other': those that own_nets registers: none; it has no function or class",
    "own_nets:number": "it has no function or class of that name",
    "own_nets:text": "own_nets:text must return an nn.Module or a rapbench.Model, it returns 'a network'",
    "own_nets:fails": "own_nets:fails fails: ZeroDivisionError: division by zero",
    "own_nets:asks": "own_nets:asks needs a value for path; give the parameter a default",
    "own_nets:net": "own_nets:net is a module; name a function that returns it, or its class",
    "own_nets:Net": "the model states no mean and std",
    "own_nets:Net model.size=big": "option size='big'",
    "own_nets:Net model.mean=[124,117,104] model.std=[60,60,60]": "in 0..1 for each channel",
    "own_nets:Net model.height=3": "height",
    "own_nets:whole model.size=3": "own_nets:whole returns a Model, which states its own size",
    "own_nets:whole model.class_names=[a]": "states its own class_names",
    "own_nets:Net model.mean=[.5,.5,.5] model.std=[.2,.2,.2] model.size=24 model.class_names=[a]":
        "class_names has 1 names, but own_nets:Net has 3 classes",
}  # fmt: skip


@pytest.mark.parametrize("words", SHELL)
def test_what_the_shell_cannot_use_is_one_line(own, words, capsys):
    run = ["run", "data=folder", "data.root=photos", "method=[random]", "protocol=[removal]", "gallery=0"]
    assert main([*run, *f"model={words}".split()]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("rapbench: ")
    assert SHELL[words] in error


def test_a_run_of_ones_own_network_on_images_that_are_not_square(own, capsys):
    run = ["run", "data=folder", "data.root=photos", "method=[random,sensitivity]", "subset.n=4", "gallery=2",
           "protocol=[removal,distance,regions]", "protocol.regions.steps=5", "k.positive=[0,9,all]",
           "k.negative=[0,9]"]  # fmt: skip
    settings = [f"model.{name}={value}".replace(" ", "") for name, value in STATED.items()]
    assert main([*run, "model=own_nets:Net", *settings]) == 0
    folder = Path("results/run/own_nets:Net")
    assert main(["subset", "verify", str(folder / "manifest.csv"), "--allow-module", "own_nets"]) == 0
    assert main([*run, "model=own_nets:whole", "name=whole", "data.labels=folders"]) == 0
    page = Path("results/whole/own_nets:whole/report.html").read_text()
    assert "cat" in page or "dog" in page or "cow" in page
    manifest = Path("results/whole/own_nets:whole/manifest.csv")
    assert ",three," in manifest.read_text()
    assert main(["subset", "verify", str(manifest), "--allow-module", "own_nets"]) == 0


def test_a_checkpoint_of_an_own_architecture(own, capsys):
    nets = own.load("own_nets")
    torch.manual_seed(7)
    trained = nets.Net()
    nn.init.normal_(trained.layers[0].weight)
    torch.save({"state_dict": trained.state_dict()}, "mine.pth")
    given = {"architecture": "own_nets:Net", "path": "mine.pth"}
    model = rapbench.load_model("checkpoint", **given, **STATED, class_names=["a", "b", "c"])
    assert hash_weights(model.network) == hash_weights(trained)
    assert (model.facts.name, model.facts.architecture, model.space) == ("mine", "Net", (24, 40))
    assert model.class_names == ("a", "b", "c")
    whole = rapbench.load_model("checkpoint", architecture="own_nets:whole", path="mine.pth")
    assert (whole.space, whole.class_names) == ((24, 40), ("cat", "dog", "cow"))
    for more, says in (({"crop": 24}, "model.crop has no meaning here"), ({"mean": [0.5] * 3}, "given without std")):
        with pytest.raises(rapbench.RapbenchError, match=says):
            rapbench.load_model("checkpoint", **given, **more)
    with pytest.raises(rapbench.RapbenchError, match="returns a Model, which states mean"):
        rapbench.load_model("checkpoint", architecture="own_nets:whole", path="mine.pth", **STATED)
    with pytest.raises(rapbench.RapbenchError, match=r"model\.size has no meaning here: resnet18 has model\.resize"):
        rapbench.load_model("checkpoint", architecture="resnet18", path="mine.pth", size=24)
    torch.save({name: value for name, value in trained.state_dict().items() if "4.bias" not in name}, "less.pth")
    with pytest.raises(rapbench.RapbenchError, match=r"layers\.4\.bias"):
        rapbench.load_model("checkpoint", architecture="own_nets:Net", path="less.pth")
