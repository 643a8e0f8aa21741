"""What is stated of a method when it is registered: checked at once, one line for what cannot be."""

import functools
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

import rapbench
from rapbench.app.cli import main
from rapbench.app.unchanged_output import RECORD
from rapbench.methods import method_of, methods
from rapbench.methods.adapters.facts import MethodFacts
from rapbench.registry.declared import declared_titles
from rapbench.results.display import NAMES
from rapbench.results.file import NAME, read
from tests.small import SMALL


def plain(model, inputs, targets, *, size: int = 5):
    return inputs * size


def drawn(model, inputs, targets, *, seeds=None):
    return inputs


WRONG = {
    "unknown": (
        {"sign": ("positive",)},
        r"register_method has no keyword 'sign' \(did you mean 'signs'\?\); known: signs, passes, ",
    ),
    "sign": ({"signs": ("positive", "upward")}, "Input should be 'positive' or 'negative'; write signs="),
    "text": ({"signs": "positive"}, r"signs='positive': Input should be a valid tuple; write signs=\(\"positive\""),
    "list": ({"signs": ["positive"]}, "Input should be a valid tuple"),
    "no sign": ({"signs": ()}, r"signs=\(\): Tuple should have at least 1 item"),
    "twice": ({"signs": ("positive", "positive")}, "a sign is given twice"),
    "negative cost": ({"passes": -1}, "passes=-1: Input should be greater than or equal to 0"),
    "nan": ({"passes": float("nan")}, "passes=nan: Input should be "),
    "endless": ({"passes": float("inf")}, "passes=inf: Input should be a finite number"),
    "words": ({"passes": "many"}, "passes='many': Input should be a valid number"),
    "no title": ({"title": 3}, "title=3: Input should be a valid string"),
    "lines": ({"title": "two\nlines"}, "it must be one line of printable characters"),
    "blank": ({"title": " mine"}, "without blanks around"),
    "long": ({"title": "x" * 61}, "String should have at most 60 characters"),
    "looks": ({"looks_at_model": "no"}, "looks_at_model='no': Input should be a valid boolean"),
    "random": ({"random": 1}, "random=1: Input should be a valid boolean"),
    "no seeds": ({"random": True}, r"random=True gives it seeds; add the keyword seeds=None after a \*"),
    "files": ({"files": ["size"]}, r"files=\['size'\]: Input should be a"),
    "file": ({"files": {"size": "a.pt"}}, "Input should be callable"),
    "other file": ({"files": {"sizes": print}}, "files= names 'sizes', which is no option; its options: size"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_fact_is_one_line_that_names_the_method(name):
    stated, says = WRONG[name]
    with pytest.raises(rapbench.RapbenchError, match=f"^method 'wrong': .*{says}") as caught:
        rapbench.register_method("wrong", **stated)(plain)
    assert "\n" not in str(caught.value)
    assert "wrong" not in methods


def test_each_fact_has_a_wrong_value_above():
    assert {fact for stated, _ in WRONG.values() for fact in stated} >= {field.name for field in fields(MethodFacts)}


class Model:
    def __call__(self, model, inputs, targets):
        return inputs


NO_METHOD = {
    "number": (3, "must be a function of (model, inputs, targets), got 3"),
    "class": (Model, "must be a function of (model, inputs, targets), got <class"),
    "two": (lambda model, inputs: inputs, "too many positional arguments"),
    "four": (lambda model, inputs, targets, size: inputs, "missing a required argument: 'size'; what comes after a *"),
    "keywords": (lambda *, model, inputs, targets: inputs, "option 'model' has no default; give it one"),
    "no default": (lambda model, inputs, targets, *, size: inputs, "option 'size' has no default; give it one"),
    "built in": (dict.fromkeys, "must be a function of (model, inputs, targets)"),
}


@pytest.mark.parametrize("name", NO_METHOD)
def test_what_cannot_be_called_as_a_method_is_one_line(name):
    function, says = NO_METHOD[name]
    with pytest.raises(rapbench.RapbenchError) as caught:
        rapbench.register_method("wrong")(function)
    assert str(caught.value).startswith("method 'wrong'")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("function", [
    plain, drawn, Model(), functools.partial(plain, size=3), lambda *arguments: arguments[1],
    lambda model, inputs, targets, factor=2: inputs, lambda model, inputs, targets, **options: inputs,
])  # fmt: skip
def test_what_can_be_called_as_a_method_is_one(function):
    rapbench.register_method("right")(function)
    assert methods["right"].facts == MethodFacts()
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4))
    images = torch.rand(2, 3, 2, 2)
    relevance = rapbench.attribute(network, images, 1, "right")
    assert torch.equal(relevance, rapbench.attribute(network, images, 1, function))


def test_a_function_is_a_method_without_a_registry():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4))
    images = torch.rand(2, 3, 2, 2)
    assert torch.equal(rapbench.attribute(network, images, 1, plain, size=2), 2 * images)
    assert method_of(plain).name == "plain"
    with pytest.raises(rapbench.RapbenchError, match="method 'plain' has no option 'sizes'"):
        rapbench.attribute(network, images, 1, plain, sizes=2)
    with pytest.raises(rapbench.RapbenchError, match="must be a function of"):
        rapbench.attribute(network, images, 1, lambda: images)


def test_an_annotation_that_cannot_be_read_is_one_line():
    def odd(model, inputs, targets, *, size: "Nowhere" = 3):  # noqa: F821
        return inputs

    rapbench.register_method("odd")(odd)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4))
    with pytest.raises(rapbench.RapbenchError, match=r"method 'odd': its annotations cannot be read .*'Nowhere'"):
        rapbench.attribute(network, torch.rand(2, 3, 2, 2), 1, "odd")


@pytest.mark.parametrize("name", list(methods))
def test_a_report_reads_each_title_where_it_is_stated(name):
    """Reports import no method: they read the sources. Each has a title, and none is another's."""
    title = methods[name].facts.title
    assert title
    assert declared_titles()[name] == NAMES.get(name) == title
    assert [methods[other].facts.title for other in methods].count(title) == 1


MODULE = '''
import rapbench

@rapbench.register_method("mine", title="A & B <method>", signs=("positive",))
def mine(model, inputs, targets):
    """Return the inputs."""
    return inputs

@rapbench.register_method("taken", title="RAP", signs=("positive",))
def taken(model, inputs, targets):
    return inputs

@rapbench.register_method("good")
def good(model, inputs, targets):
    return inputs
'''
RUN = ["run", f"model={SMALL}", "subset.n=2", "protocol=[removal]", "k.positive=[0,500]", "k.negative=[0]"]
FOLDER = Path("results/run", SMALL)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "users_titles.py").write_text(MODULE)
    (tmp_path / "users_slip.py").write_text(MODULE.replace("signs=", "sign=", 1))
    yield tmp_path
    for name in ("users_titles", "users_slip"):
        sys.modules.pop(name, None)


def test_a_title_stands_in_tables_and_again_in_a_report_that_runs_nothing(here, capsys):
    assert main([*RUN, "method=[users_titles:mine,random]"]) == 0
    assert "\nA & B <method> " in capsys.readouterr().out
    assert read(FOLDER / NAME).titles == {"mine": "A & B <method>", "random": "Random"}
    texts = {
        path.name: path.read_bytes() for path in FOLDER.iterdir() if path.suffix in (".md", ".tex", ".csv", ".html")
    }
    assert rb"A \& B" in texts["table1.tex"]
    assert b"positive,mine," in texts["table1.csv"]
    (here / "users_titles.py").unlink()
    sys.modules.pop("users_titles")
    (FOLDER / RECORD).unlink()
    assert main(["report", str(FOLDER)]) == 0
    assert "\nA & B <method> " in capsys.readouterr().out
    assert {name: (FOLDER / name).read_bytes() for name in texts} == texts


def test_a_title_is_for_the_method_s_own_label(here, capsys):
    assert main([*RUN, "method=[random]", "+method.other={name: users_titles:mine}"]) == 0
    assert "\nother " in capsys.readouterr().out


def test_two_methods_of_one_title_are_refused(here, capsys):
    assert main([*RUN, "method=[rap,users_titles:taken]"]) == 2
    assert "methods 'rap' and 'taken' would both be shown as 'RAP'; rename one" in capsys.readouterr().err


def test_a_slip_in_a_users_module_is_one_line_before_anything_is_computed(here, capsys):
    assert main([*RUN, "method=[random,users_slip:mine]"]) == 2
    error = capsys.readouterr().err
    known = ", ".join(field.name for field in fields(MethodFacts))
    wrong = "method 'mine': register_method has no keyword 'sign' (did you mean 'signs'?)"
    assert error == f"rapbench: {wrong}; known: {known}\n"
