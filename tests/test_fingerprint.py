"""Fingerprints: all code that is imported counts, what it says in words does not, and settings of any kind are seen."""

import functools
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import rapbench
from rapbench.fingerprint import Walk, code_of
from rapbench.fingerprint.code import is_stale
from rapbench.fingerprint.modules import closure
from rapbench.fingerprint.packages import versions
from rapbench.fingerprint.source import source_of
from rapbench.methods import methods
from tests.own import Own

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def own(tmp_path, monkeypatch) -> Own:
    """Modules of a user's own, in the working directory."""
    return Own(tmp_path, monkeypatch)


# What a file says

SAME = {
    "comments": ("x = 1\n", "# why\nx = 1  # because\n"),
    "docstring of a module": ('"""Old."""\nx = 1\n', '"""New."""\nx = 1\n'),
    "no docstring": ('def f():\n    """Old."""\n    return 1\n', "def f():\n    return 1\n"),
    "docstring of a method": ('class A:\n    """A."""\n    def f(self):\n        "B"\n        return 2\n',
                              "class A:\n\n    def f(self):\n        return 2\n"),
    "layout": ("x = f(1, 2)\nif x: y = 3\n", "x = f(\n    1,\n    2,\n)\n\nif x:\n    y = 3\n"),
    "quotes": ("x = 'a' 'b'\n", 'x = "ab"\n'),
    "digits": ("x = 1000000\n", "x = 1_000_000\n"),
    "brackets": ("x = (1 + 2)\n", "x = 1 + 2\n"),
}  # fmt: skip
OTHER = {
    "number": ("x = 1\n", "x = 2\n"),
    "type": ("x = 1\n", "x = 1.0\n"),
    "text": ("x = 'a'\n", "x = 'b'\n"),
    "text that is no docstring": ("def f():\n    x = 'a'\n", "def f():\n    x = 'b'\n"),
    "operator": ("x = a - b\n", "x = a + b\n"),
    "order": ("a()\nb()\n", "b()\na()\n"),
    "block": ("if a:\n    b()\nc()\n", "if a:\n    b()\n    c()\n"),
    "annotation": ("def f(a: int): ...\n", "def f(a: float): ...\n"),
    "decorator": ("def f(): ...\n", "@g\ndef f(): ...\n"),
}


@pytest.mark.parametrize(("which", "equal"), [*((k, True) for k in SAME), *((k, False) for k in OTHER)])
def test_code_counts_and_words_do_not(tmp_path, which, equal):
    digests = []
    for number, text in enumerate((SAME if equal else OTHER)[which]):
        path = tmp_path / f"{number}.py"
        path.write_text(text)
        digests.append(source_of(str(path)).digest)
    assert (digests[0] == digests[1]) is equal


# What is imported

IMPORTS = {
    "import": "import PACK.helper",
    "import as": "import PACK.helper as h",
    "from": "from PACK.helper import VALUE",
    "from package": "from PACK import helper",
    "relative": "from .helper import VALUE",
    "relative package": "from . import helper",
    "star": "from PACK.helper import *",
    "everything": "from PACK import *",
    "in a function": "def f():\n    from .helper import VALUE\n    return VALUE",
    "in a method": "class A:\n    def f(self):\n        import PACK.helper",
    "under a condition": "import sys\nif sys.version_info > (3, 99):\n    x = 1\nelse:\n    import PACK.helper",
    "tried": "try:\n    import not_installed_at_all\nexcept ImportError:\n    from . import helper",
    "by name": "import importlib\nhelper = importlib.import_module('PACK.helper')",
    "by relative name": "from importlib import import_module\nhelper = import_module('.helper', __package__)",
    "through another": "from PACK.between import VALUE",
    "not type checking": "from typing import TYPE_CHECKING\nif not TYPE_CHECKING:\n    import PACK.helper",
}
FUNCTION = "\n\ndef method(model, inputs, targets):\n    return inputs\n"


@pytest.mark.parametrize("form", IMPORTS)
def test_a_helper_counts_however_it_is_imported(own, form):
    name = own.package(helper="VALUE = 1\n", between="from .helper import VALUE\n", other="VALUE = 1\n")
    own.write(f"{name}/own.py", IMPORTS[form].replace("PACK", name) + FUNCTION)
    before = code_of(own.load(f"{name}.own").method)
    own.write(f"{name}/helper.py", "# a word\nVALUE  =  1\n")
    assert code_of(own.load(f"{name}.own").method) == before
    own.write(f"{name}/helper.py", "VALUE = 2\n")
    assert code_of(own.load(f"{name}.own").method) != before
    own.write(f"{name}/helper.py", "VALUE = 1\n")
    own.write(f"{name}/other.py", "VALUE = 2\n")
    assert (code_of(own.load(f"{name}.own").method) == before) is (form != "everything")
    own.write(f"{name}/other.py", "VALUE = 1\n")
    own.write(f"{name}/__init__.py", "X = 1\n")
    assert code_of(own.load(f"{name}.own").method) != before


def test_an_import_for_type_checkers_does_not_count(own):
    name = own.package(helper="VALUE = 1\n")
    text = "import typing\n\nif typing.TYPE_CHECKING:\n    from .helper import VALUE\nelse:\n    VALUE = 0\n"
    own.write(f"{name}/own.py", text + FUNCTION)
    assert closure([f"{name}.own"]).modules.keys() == {name, f"{name}.own"}


def test_modules_without_a_package_and_in_a_namespace(own):
    own.write("own_alone.py", "import own_beside\nimport own_space.inner" + FUNCTION)
    own.write("own_beside.py", "")
    own.write("own_space/inner.py", "")
    found = closure(["own_alone"])
    assert found.modules.keys() == {"own_alone", "own_beside", "own_space.inner"}
    assert not found.packages | found.missing


@pytest.mark.parametrize("statement", ["from {} import data", "import {}.data", "from {}.data import inner"])
def test_a_folder_without_init_in_a_package_that_is_not_loaded(own, statement):
    name = own.package()
    own.write(f"{name}/data/inner.py", "")
    own.write("own_reader.py", f"if False:\n    {statement.format(name)}" + FUNCTION)
    found = closure(["own_reader"])
    inner = {f"{name}.data.inner"} if "inner" in statement else set()
    assert found.modules.keys() == {"own_reader", name} | inner
    assert not found.packages | found.missing


def test_an_own_module_of_a_librarys_name_does_not_take_its_place_and_compiled_code_counts(own):
    own.write("own_binary.py", "import own_compiled" + FUNCTION)
    suffix = next(suffix for suffix in __import__("importlib.machinery").machinery.EXTENSION_SUFFIXES)
    own.write(f"own_compiled{suffix}", "\x7fELF 1")
    before = is_stale(("own_binary",), code_of("x").sha256, ())
    assert before  # another digest
    digest = source_of(closure(["own_binary"]).modules["own_compiled"]).digest
    own.write(f"own_compiled{suffix}", "\x7fELF 2")
    assert source_of(closure(["own_binary"]).modules["own_compiled"]).digest != digest


def test_a_users_module_may_call_any_entry_of_a_registry_by_name(own):
    own.write("own_caller.py", "import rapbench" + FUNCTION)
    found = closure(["own_caller"]).modules
    assert {"rapbench.methods.gradient_x_input", "rapbench.protocols.removal", "rapbench.zoo.timm",
            "rapbench.methods.adapters.target", "rapbench.relevance.engine"} <= found.keys()  # fmt: skip
    assert "rapbench.methods.gradient_x_input" not in closure(["rapbench.methods.sensitivity"]).modules


def test_packages_count_by_their_versions_with_what_computes_behind_them(own):
    own.write("own_library.py", "import scipy.ndimage, PIL.Image\nimport yaml, tabulate" + FUNCTION)
    found = versions(closure(["own_library"]).packages)
    assert found.keys() == {"scipy", "numpy", "pillow", "pyyaml", "tabulate", "python"}  # NumPy behind SciPy
    timm = versions(["timm"])
    assert {"timm", "torch", "torchvision", "numpy"} <= timm.keys()
    assert not {"requests", "certifi", "tqdm", "jinja2"} & timm.keys()
    assert timm["torch"] == torch.__version__


# Functions that are no plain ones of a file


def scaled(model, inputs, targets, *, factor: float = 2.0):
    return factor * inputs


class Scale:
    def __init__(self, factor: float, name: str = ""):
        self.factor = factor

    def __call__(self, model, inputs, targets):
        return self.factor * inputs

    def method(self, model, inputs, targets):
        return self.factor * inputs


def closed(factor):
    def method(model, inputs, targets):
        return factor * inputs

    return method


def decorated(function, by):
    @functools.wraps(function)
    def method(*arguments):
        return by * function(*arguments)

    return method


def notebook(text: str, **names: object):
    """A function as a notebook has it: of no file."""
    space = {"__name__": "__main__", "F": F, "np": np} | names
    exec(compile(textwrap.dedent(text), "<cell 1>", "exec"), space)
    return space["method"]


BODY = "def method(model, inputs, targets):\n    '''Words.'''\n    return helper(inputs)\n"
FUNCTIONS = {
    "partial": (lambda: functools.partial(scaled, factor=2.0), lambda: functools.partial(scaled, factor=3.0)),
    "object": (lambda: Scale(2.0), lambda: Scale(3.0)),
    "bound method": (lambda: Scale(2.0).method, lambda: Scale(3.0).method),
    "closure": (lambda: closed(2.0), lambda: closed(3.0)),
    "closure over a tensor": (lambda: closed(torch.ones(3)), lambda: closed(torch.zeros(3))),
    "lambda": (lambda: lambda m, x, t: 2 * x, lambda: lambda m, x, t: 3 * x),
    "decorator": (lambda: decorated(scaled, 2), lambda: decorated(scaled, 3)),
    "decorated": (lambda: decorated(closed(2), 1), lambda: decorated(closed(3), 1)),
    "notebook": (lambda: notebook(BODY, helper=np.exp), lambda: notebook(BODY, helper=np.log)),
    "notebook's helper": (lambda: notebook("def helper(x):\n    return 2 * x\n" + BODY),
                          lambda: notebook("def helper(x):\n    return 3 * x\n" + BODY)),
    "notebook's constant": (lambda: notebook(BODY.replace("helper(", "FACTOR * ("), FACTOR=2),
                            lambda: notebook(BODY.replace("helper(", "FACTOR * ("), FACTOR=3)),
    "notebook's class": (lambda: notebook("class A:\n    def f(self, x):\n        return 2 * x\n"
                                          "def method(m, x, t):\n    return A().f(x)\n"),
                         lambda: notebook("class A:\n    def f(self, x):\n        return 3 * x\n"
                                          "def method(m, x, t):\n    return A().f(x)\n")),
    "notebook's lambda": (lambda: notebook("method = lambda m, x, t: 2 * x"),
                          lambda: notebook("method = lambda m, x, t: 3 * x")),
    "built in": (lambda: torch.relu, lambda: torch.tanh),
}  # fmt: skip


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_what_a_function_holds_counts(kind):
    one, other = FUNCTIONS[kind]
    assert code_of(one()) == code_of(one())
    assert code_of(one()) != code_of(other())


def test_words_and_places_do_not_count_in_a_notebook():
    plain = notebook("def method(model, inputs, targets):\n    return 2 * inputs\n")
    other = "\n\n# why\ndef method(model, inputs, targets):\n    '''Words.'''\n\n    return (2 *\n inputs)\n"
    assert code_of(notebook(other)) == code_of(plain)


def test_a_function_put_in_the_place_of_another_counts(monkeypatch):
    from rapbench.methods import gradient_x_input
    from rapbench.methods.adapters import target
    from rapbench.relevance.rules import Step

    function = gradient_x_input.gradient_x_input
    before, rap = code_of(function), code_of(methods["rap"].function)
    with monkeypatch.context() as patched:
        patched.setattr(target, "target_logits", closed(2.0))
        assert code_of(function) != before
    assert code_of(function) == before
    with monkeypatch.context() as patched:
        patched.setattr(Step, "share", closed(2.0))
        assert code_of(methods["rap"].function) != rap
        assert code_of(function) == before  # has no such step
    assert code_of(methods["rap"].function) == rap


# Networks


@dataclass
class Config:
    slope: float = 0.1
    names: list[str] = field(default_factory=lambda: ["a"])


class Holds(nn.Module):
    def __init__(self, value: object):
        super().__init__()
        self.value = value
        self.layer = nn.Linear(2, 2)


class Counted(nn.Module):
    slope = 0.1


class Faster(Counted):
    slope = 0.2


def buffered(value: float) -> nn.Module:
    module = nn.Module()
    module.register_buffer("scale", torch.tensor(value), persistent=False)
    return module


def hooked(value: float) -> nn.Module:
    module = nn.ReLU()
    module.register_forward_hook(closed(value))
    return module


def replaced(value: float) -> nn.Module:
    module = nn.ReLU()
    module.forward = closed(value)
    return module


def traced(value: float) -> nn.Module:
    return torch.fx.symbolic_trace(nn.Sequential(nn.LeakyReLU(value)))


NETWORKS = {
    "eps": (lambda: nn.BatchNorm2d(3), lambda: nn.BatchNorm2d(3, eps=1e-3)),
    "padding": (lambda: nn.Conv2d(3, 4, 3), lambda: nn.Conv2d(3, 4, 3, padding=1)),
    "padding mode": (lambda: nn.Conv2d(3, 4, 3, padding=1),
                     lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular")),
    "stride": (lambda: nn.Conv2d(3, 4, 3), lambda: nn.Conv2d(3, 4, 3, stride=2)),
    "slope": (lambda: nn.LeakyReLU(0.01), lambda: nn.LeakyReLU(0.9)),
    "rounding": (lambda: nn.MaxPool2d(2), lambda: nn.MaxPool2d(2, ceil_mode=True)),
    "activation": (lambda: nn.Sequential(nn.ReLU()), lambda: nn.Sequential(nn.SiLU())),
    "name": (lambda: nn.ModuleDict({"a": nn.ReLU()}), lambda: nn.ModuleDict({"b": nn.ReLU()})),
    "order": (lambda: nn.Sequential(nn.ReLU(), nn.Tanh()), lambda: nn.Sequential(nn.Tanh(), nn.ReLU())),
    "number": (lambda: Holds(1), lambda: Holds(2)),
    "type": (lambda: Holds(1), lambda: Holds(1.0)),
    "list": (lambda: Holds([1, 2]), lambda: Holds([2, 1])),
    "dictionary": (lambda: Holds({"a": 1}), lambda: Holds({"a": 2})),
    "set": (lambda: Holds({"a", "b", "c"}), lambda: Holds({"a", "b"})),
    "dataclass": (lambda: Holds(Config()), lambda: Holds(Config(names=["b"]))),
    "tensor": (lambda: Holds(torch.zeros(2)), lambda: Holds(torch.ones(2))),
    "bfloat16": (lambda: Holds(torch.zeros(2).bfloat16()), lambda: Holds(torch.ones(2).bfloat16())),
    "array": (lambda: Holds(np.zeros(2)), lambda: Holds(np.ones(2))),
    "dtype": (lambda: Holds(torch.float32), lambda: Holds(torch.float64)),
    "function": (lambda: Holds(F.relu), lambda: Holds(F.silu)),
    "lambda": (lambda: Holds(lambda x: x), lambda: Holds(lambda x: -x)),
    "partial": (lambda: Holds(functools.partial(F.leaky_relu, negative_slope=0.1)),
                lambda: Holds(functools.partial(F.leaky_relu, negative_slope=0.2))),
    "modules in a list": (lambda: Holds([nn.LeakyReLU(0.1)]), lambda: Holds([nn.LeakyReLU(0.2)])),
    "class attribute": (Counted, Faster),
    "buffer that is not saved": (lambda: buffered(1.0), lambda: buffered(2.0)),
    "hook": (lambda: hooked(1.0), lambda: hooked(2.0)),
    "forward of an instance": (lambda: replaced(1.0), lambda: replaced(2.0)),
    "graph": (lambda: traced(0.1), lambda: traced(0.2)),
    "shared": (lambda: nn.Sequential(*[nn.ReLU()] * 2), lambda: nn.Sequential(nn.ReLU(), nn.ReLU())),
    "parametrised": (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2), eps=1e-12),
                     lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2), eps=1e-3)),
}  # fmt: skip


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_setting_of_a_network_counts(kind):
    def digest(make):
        torch.manual_seed(0)
        return Walk().add(make().eval()).sha256

    one, other = NETWORKS[kind]
    assert digest(one) == digest(one)
    assert digest(one) != digest(other)


def test_what_cannot_be_looked_into_does_no_harm():
    import threading

    with open(os.devnull) as file:
        module = Holds({"lock": threading.Lock(), "file": file, "generator": torch.Generator()})
        module.value["self"], module.parent = module.value, [module]
        assert Walk().add(module).sha256
    assert Walk().add(torch.jit.script(nn.ReLU())).sha256


def test_a_networks_code_counts(own):
    text = """
        from torch import nn
        from own_layers import Layer

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a = Layer()
    """
    own.write("own_network.py", textwrap.dedent(text))
    layers = "from torch import nn\n\nclass Layer(nn.Module):\n    def forward(self, x):\n        return x\n"
    own.write("own_layers.py", layers)
    before = code_of(own.load("own_network").Net())
    assert {"own_network", "own_layers"} <= set(before.roots)
    own.write("own_layers.py", layers.replace("return x", "return -x"))
    assert code_of(own.load("own_network").Net()) != before


# The project's tables, to which a user's code may add

RULE = """
from torch import nn
from rapbench.relevance import rule
from own_share import share

class Mine(nn.Module):
    def forward(self, x):
        return x

@rule({of})
def mine(step, flows):
    return [share(flow.relevance) for flow in flows]
"""


def test_a_rule_of_the_users_own_counts_where_it_is_used(own, monkeypatch):
    from rapbench.relevance import RULES

    rap, random = (methods[name].function for name in ("rap", "random"))
    before, untouched = code_of(rap), code_of(random)
    own.write("own_share.py", "def share(relevance):\n    return (relevance,)\n")
    own.write("own_rule.py", RULE.format(of="Mine"))
    module = own.load("own_rule")
    after = code_of(rap)
    assert after != before
    assert code_of(random) == untouched
    assert code_of(rap, types={nn.Linear}) == before  # no such module in the network
    assert code_of(rap, types={module.Mine}) == after
    own.write("own_share.py", "def share(relevance):\n    return (2 * relevance,)\n")
    del RULES[module.Mine]
    module = own.load("own_rule")
    assert code_of(rap) not in (before, after)
    del RULES[module.Mine]
    assert code_of(rap) == before
    own.write("own_rule.py", RULE.format(of="nn.ReLU"))  # in the place of a built-in one
    own.load("own_rule")
    assert code_of(rap, types={nn.Linear}) != before


# Files that change while a process runs

EDITS = {
    "function": ("return 2 * inputs", "return 3 * inputs"),
    "method": ("return 4", "return 5"),
    "constant": ("FACTOR = 1.0", "FACTOR = 2.0"),
    "inner function": ("return x + 1", "return x + 2"),
    "decorated": ("return 6", "return 7"),
    "property": ("return 8", "return 9"),
}
CHANGING = """
import functools

FACTOR = 1.0


class A:
    def f(self):
        def inner(x):
            return x + 1
        return inner(4) and [y for y in range(3)]

    def g(self):
        return 4

    @property
    def h(self):
        return 8


@functools.lru_cache
def cached():
    return 6


def method(model, inputs, targets):
    return 2 * inputs
"""


@pytest.mark.parametrize("edit", EDITS)
def test_what_runs_counts_not_what_was_written_since(own, edit):
    before, after = EDITS[edit]
    file = own.write("own_changing.py", CHANGING)
    function = own.load("own_changing").method
    first = code_of(function)
    file.write_text("# words\n" + CHANGING)
    assert code_of(function) == first
    file.write_text(CHANGING.replace(before, after))
    assert code_of(function) == first  # as it is loaded
    assert is_stale(first.roots, first.sha256, tuple(first.versions.items()))  # for the next process
    second = code_of(own.load("own_changing").method)
    assert second != first
    assert code_of(sys.modules["own_changing"].method) == second
    file.write_text(CHANGING)
    assert code_of(own.load("own_changing").method) == first


def test_a_file_that_changed_before_anybody_looked_is_refused(own):
    file = own.write("own_late.py", CHANGING)
    function = own.load("own_late").method
    file.write_text(CHANGING.replace("2 * inputs", "3 * inputs"))
    with pytest.raises(rapbench.RapbenchError, match=r"own_late.py was changed after it was imported; start again"):
        code_of(function)


# Whatever the process


@pytest.mark.slow
def test_fingerprints_are_the_same_in_every_process():
    text = """
        import torch, rapbench
        from rapbench.methods import methods
        from rapbench.evaluation.identity import code_of, draw_key, evaluation_key
        model = rapbench.load_model("efficientnet_lite0")
        print(evaluation_key(model, torch.device("cpu")), draw_key(model, torch.device("cpu")))
        print([code_of(methods[name].function).key for name in methods])
    """
    said = [
        subprocess.run([sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, check=True,
                       env=os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert said[0] == said[1] != ""
