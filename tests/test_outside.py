"""Entries of a user's own modules: named as module:name, run as any other, refused in one line."""

import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

import rapbench
from rapbench.app.cli import main
from tests.results import distances as of_distances
from tests.results import images as of_images
from tests.small import SMALL

MODULE = '''
"""What a user might write."""
from dataclasses import dataclass

import torch
import rapbench
from rapbench.data import datasets, load_data
from rapbench.methods import methods
from rapbench.protocols import protocols
from rapbench.protocols.base.perturbation import Perturbation
from rapbench.protocols.removal import Removal
from rapbench.zoo import load_model, models


@methods.register("scaled", signs=("positive", "negative"), passes=3)
def scaled(model, inputs, targets, *, factor: float = 2.0):
    """Return gradient times input, times a factor."""
    return factor * rapbench.attribute(model, inputs, targets, "gradient_x_input")


@methods.register("noise", signs=("positive", "negative"), passes=1, random=True)
def noise(model, inputs, targets, *, seeds: torch.Tensor | None = None):
    return methods["random"].function(model, inputs, targets, seeds=seeds)


@methods.register("cropped", signs=("positive",), passes=1)
def cropped(model, inputs, targets):
    return inputs[..., 1:]


@methods.register("nothing", signs=("positive",), passes=1)
def nothing(model, inputs, targets):
    return None


@methods.register("attached", signs=("positive",), passes=1)
def attached(model, inputs, targets):
    return inputs.requires_grad_() * 2


@protocols.register("white")
@dataclass(frozen=True, kw_only=True)
class White(Perturbation):
    """Set the pixels to a value, as removal does."""

    value: float = 0.0

    def perturbed(self, images, order, counts, seeds, normalisation):
        return Removal(fill="zero").perturbed(images - self.value, order, counts, seeds) + self.value


@models.register("mine")
def mine():
    return load_model("efficientnet_lite0")


@datasets.register("few")
def few():
    return load_data("samples")
'''
RUN = ["run", f"model={SMALL}", "subset.n=2", "k.positive=[0,500]", "k.negative=[0,500]"]
FOLDER = Path("results/run", SMALL)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working directory with the module, which is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "users_own.py").write_text(MODULE)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("users_own")]:
        del sys.modules[name]


def images() -> pd.DataFrame:
    return of_images(FOLDER)


def test_a_method_outside_gives_the_numbers_of_the_same_inside_under_its_own_name(capsys):
    chosen = ["method=[gradient_x_input,users_own:scaled,users_own:noise]", "method.scaled.factor=4.0"]
    assert main([*RUN, *chosen, "protocol=[removal]"]) == 0
    assert "\nscaled " in capsys.readouterr().out
    frame = images()
    assert set(frame.method) == {"gradient_x_input", "scaled", "noise"}
    one, other = (frame[frame.method == name].drop(columns="method").reset_index(drop=True)
                  for name in ("gradient_x_input", "scaled"))  # fmt: skip
    pd.testing.assert_frame_equal(one, other)


def test_an_option_is_checked_by_its_annotation(capsys):
    assert main([*RUN, "method=[users_own:scaled]", "method.scaled.factor=big"]) == 2
    assert "method 'users_own:scaled': option factor='big'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "got"), [("cropped", r"torch.float32 of shape \(2, 3, 48, 47\)"), ("nothing", "a NoneType")]
)
def test_another_shape_is_refused(name, got, capsys):
    assert main([*RUN, f"method=[users_own:{name},random]", "protocol=[distance]"]) == 2
    wanted = rf"method 'users_own:{name}' must return relevance of shape \(2, 3, 48, 48\), returned {got}\n"
    assert re.search(wanted, capsys.readouterr().err)
    assert set(of_distances(FOLDER).method) == {"random"}


def test_a_gradient_that_is_still_attached_does_no_harm():
    assert main([*RUN, "method=[users_own:attached]", "protocol=[distance]"]) == 0
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 10))
    assert not rapbench.attribute(model, torch.ones(1, 3, 2, 2), 3, "users_own:attached").requires_grad


def test_protocols_models_and_data_outside(capsys):
    chosen = ["model=users_own:mine", "data=users_own:few", "method=[gradient_x_input]"]
    wanted = ["protocol=[users_own:white,removal]", "protocol.removal.fill=zero"]
    assert main([*RUN[:1], *RUN[2:], *chosen, *wanted]) == 0
    frame = of_images(Path("results/run/users_own:mine"))
    one, other = (frame[frame.perturbation == name].drop(columns="perturbation").reset_index(drop=True)
                  for name in ("white", "removal"))  # fmt: skip
    assert len(one) == 2 * 2 * 2
    pd.testing.assert_frame_equal(one, other)


def test_random_weights_of_a_users_function_are_the_same_in_every_call():
    Path("users_net.py").write_text("""
import torch
def build(width: int = 4):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, width))
""")
    before = torch.get_rng_state()
    one, other = (rapbench.load_model("users_net:build") for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert one.weights_sha256 == other.weights_sha256
    torch.manual_seed(1)
    assert rapbench.load_model("users_net:build").weights_sha256 == one.weights_sha256
    assert rapbench.load_model("users_net:build", width=5).weights_sha256 != one.weights_sha256


def test_it_is_listed_and_called_from_python():
    assert main(["list", "methods", "users_own:scaled"]) == 0
    x = torch.rand(1, 3, 32, 32)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10))
    relevance = rapbench.attribute(model, x, 3, "users_own:scaled")
    assert torch.equal(relevance, 2 * rapbench.attribute(model, x, 3, "gradient_x_input"))
    assert torch.equal(rapbench.attribute(model, x, 3, "scaled"), relevance)  # imported by now


def test_what_is_installed_comes_before_the_working_directory(here):
    """A file here that has the name of a library must not take its place."""
    (here / "tabulate.py").write_text("raise SystemExit('taken')")
    assert main(["list", "methods", "users_own:scaled"]) == 0
    assert sys.path[-1] == str(here)


OWN = "scaled, noise, cropped, nothing, attached"
BAD = {
    "nowhere:scaled": "there is no module 'nowhere', neither installed nor in ",
    "users_own.deeper:scaled": "there is no module 'users_own.deeper'",
    "users_own:other": f"unknown method 'users_own:other': those that users_own registers: {OWN}",
    "users_own:rap": f"unknown method 'users_own:rap': those that users_own registers: {OWN}",
    "users_ow:scaled": "there is no module 'users_ow'",
    ":scaled": "name a module before the colon, as in my_methods:my_method",
    "users_own_broken:scaled": "importing users_own_broken fails: ZeroDivisionError: division by zero (",
    "users_own_syntax:scaled": "importing users_own_syntax fails: SyntaxError: ",
    "users_own_needs:scaled": "importing users_own_needs fails: ModuleNotFoundError: No module named 'not_installed'",
    "users_own_clash:rap": "method 'rap' is registered already, by rapbench.methods.rap",
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_one_line(name, here, capsys):
    (here / "users_own_broken.py").write_text("1 / 0\n")
    (here / "users_own_syntax.py").write_text("def\n")
    (here / "users_own_needs.py").write_text("import not_installed\n")
    clash = 'from rapbench.methods import methods\n\n@methods.register("rap", signs=())\ndef rap():\n    """Mine."""\n'
    (here / "users_own_clash.py").write_text(clash)
    assert main(["run", f"method=[{name}]"]) == 2
    error = capsys.readouterr().err
    assert BAD[name] in error
    assert error.count("\n") == 1
    assert "broken" not in name or f"{here / 'users_own_broken.py'}:1" in error
