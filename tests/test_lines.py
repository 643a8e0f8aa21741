"""Whatever is wrong with words, files, folders or what surrounds them: one line on standard error, exit code 2."""

import ast
import errno
import hashlib
import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

import rapbench
from rapbench.app.cli import main
from rapbench.app.registries import REGISTRIES
from rapbench.core import reading
from rapbench.data import load_data
from rapbench.data.subset.manifest import Row, Subset, load_manifest
from rapbench.registry.declared import declared_options
from rapbench.zoo.weights import downloads
from tests.results import write_results

ROOT = Path(__file__).resolve().parents[1]
HEAD = "file,label,sha256,logit,model,weights_sha256,also"
LINE = f"a.jpg,3,{'1' * 64},1.5,net,{'2' * 64},"


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


def refused(words: list[str], capsys, says: str = "") -> str:
    """Run a command that must be refused in one line; return the line."""
    assert main(words) == 2
    said = capsys.readouterr()
    assert not said.out
    (line,) = said.err.splitlines()
    assert re.match(rf"rapbench: .*{says}", line), line
    assert len(line) < 900 + max(map(len, [*words, ""]))
    return line


def child(words: list[str], folder: Path, prelude: str = "", **more) -> subprocess.CompletedProcess:
    """Run a command in a process of its own, after some lines of Python that change what surrounds it."""
    code = f"import os, sys, resource\n{prelude}\nfrom rapbench.app.cli import main\nsys.exit(main({words!r}))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **more.pop("env", {})}
    given = {"capture_output": True, "text": True, "timeout": 240} | more
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, **given)


# Words of `rapbench run`, and what is said of them.
VALUES = {
    "name=": "name='' is empty",
    "name=..": "leads to another folder",
    "name=.": "leads to another folder",
    "name=../x": "holds a slash",
    "name=/tmp/x": "holds a slash",
    "name=a/b": "holds a slash",
    "name=store": "name=store is taken",
    f"name={'a' * 300}": "longer than 255 bytes",
    f'name="{"ä" * 200}"': "longer than 255 bytes",
    'name="a\0b"': "cannot be printed",
    'name="a\nb"': "",
    "results=": "results='' is empty",
    "results=/dev/null": "/dev/null is not one",
    "results=/dev/null/deeper": "/dev/null is not one",
    'results="a\0b"': "cannot be printed",
    f"results={'a' * 300}": "longer than 255 bytes",
    "results=file": "file is not one",
    "output=file/x": "file is not one",
    "device=": "is not a device's name",
    "device=../cpu": "is not a device's name",
    "device=null": "",
    "chunk=0": "chunk must be at least 1",
    "chunk=-1": "chunk must be at least 1",
    "chunk=1.5": "",
    "chunk=nan": "",
    f"chunk={10**30}": "chunk must be a number of 64 bits",
    "batch=0": "batch must be at least 1",
    "subset.n=0": "subset.n must be at least 1",
    "subset.n=inf": "",
    "subset.seed=-1": "subset.seed must be at least 0",
    f"seed={10**30}": "seed must be a number of 64 bits",
    "gallery=-1": "gallery must be at least 0",
    "pattern_images=12": "pattern_images must be at least 50, got 12",
    "shard=5": "shard must be i/n",
    "shard=0/4": "shard must be i/n",
    "shard=5/4": "shard must be i/n",
    f"shard=1/{'9' * 5000}": "shard must be i/n",
    "precision=fp64": "",
    "heatmaps=true": "",
    "k.positive=[5,3]": "k.positive must ascend",
    "k.positive=[]": "k.positive must ascend",
    "k.positive=[all,5]": "k.positive must ascend",
    "k.negative=[1.5]": "k.negative must hold whole numbers",
    "k.negative=[true]": "k.negative must hold whole numbers",
    "k.negative=[-5]": "k.negative must hold whole numbers",
    f"k.negative=[{10**30}]": "k.negative must hold whole numbers",
    "k.negative=[[1]]": "k.negative must hold whole numbers",
    "k.negative=5": "",
    "protocol.removal.k={positive: 5}": "k.positive must be a list",
    "protocol.removal.k=5": "k must give lists",
    "protocol.removal.fill=zer": "option fill='zer'",
    "protocol.removal.flil=zero": "did you mean 'fill'",
    "protocol.regions.size=0": "",
    "method.rap.flow=bth": "option flow='bth'",
    "method.rap.flow=null": "option flow=None",
    "method.rap.bias_correction=1": "option bias_correction=1",
    "method.rap.name=5": "must be a mapping with a name",
    "method.rap=5": "",
    "method.random.flow=up": "",
    "method.sensitivity.x=1": "",
    "method.lrp_epsilon.stabilizer=1": "lrp_epsilon is not among the chosen methods",
    "method=[]": "nothing to run",
    "protocol=[]": "nothing to run",
    "data.root=x": "",
    "data=imagenet data.labels=give": "option labels='give'",
    "data=folder data.exif=1": "option exif=1",
    "model=checkpoint model.interpolation=cubic": "option interpolation='cubic'",
    "model=checkpoint model.mean=0.5": "option mean=0.5",
    "model=checkpoint model.crop=1e3": "option crop=1000.0",
    "method=[smoothgrad] method.smoothgrad.noise=nan": "option noise=nan",
    "method=[smoothgrad] method.smoothgrad.samples=0": "option samples=0",
    "method=[deeplift] method.deeplift.baseline=inf": "option baseline=inf",
    "subset.manifest=nowhere.csv": "nowhere.csv is not a file",
    "subset.manifest=file": "",
    "subset.manifest=.": "is not a file",
    "subset.require=[5]": "subset.require must list models",
    "subset.require=[{architecture: x}]": "subset.require must list models",
    "subset.require=[{name: checkpoint, interpolation: cubic}]": "option interpolation='cubic'",
    "seed=${nowhere}": "",
    "name=${name}": "",
    "seed=" + "[" * 400: "",
    "=": "",
    "+": "",
    "++": "",
    "~": "",
    "chunk": "",
    "chunk=8 chunk=": "",
    "-x": "",
    "--config-dir=nowhere": "",
    "--config-name=nowhere": "",
    "caf\udce9=1": "is not UTF-8",
    "name=caf\udce9": "is not UTF-8",
}


@pytest.mark.parametrize("words", VALUES)
def test_a_value_that_no_run_can_have_is_refused_before_anything_is_made(words, capsys):
    Path("file").write_text("words")
    refused(["run", "method=[rap]", *(words.split(" ") if words.count("=") == 2 else [words])], capsys, VALUES[words])
    assert {path.name for path in Path().rglob("*")} == {"file"}


def test_values_are_checked_in_seconds_without_torch(tmp_path):
    words = [
        "name=..",
        "chunk=0",
        "k.positive=[5,3]",
        "method.rap.flow=bth",
        "method.rap.flwo=up",
        "device=a/b",
        "protocol.removal.fill=zer",
        "subset.manifest=nowhere.csv",
        "shard=5",
    ]
    prelude = (
        f"from rapbench.app.cli import main\nassert [main(['run', word]) for word in {words!r}] == [2] * {len(words)}"
    )
    prelude += "\nassert not {'torch', 'timm', 'pandas', 'scipy'} & set(sys.modules)"
    done = child(["--help"], tmp_path, prelude)
    assert "usage: rapbench" in done.stdout, done.stderr


@pytest.mark.parametrize("group", REGISTRIES)
def test_what_is_read_of_the_sources_is_what_importing_them_says(group):
    declared = declared_options(REGISTRIES[group].package)
    entries = {name: REGISTRIES[group][name] for name in REGISTRIES[group]}
    assert group == "model" or declared.keys() == entries.keys()
    for name, options in declared.items():
        parameters = entries[name]._parameters()
        assert list(options) == list(parameters)
        for option, annotation in options.items():
            assert annotation == parameters[option].annotation or "Tensor" in str(parameters[option].annotation)


# Every command, with what is there in place of what it asks for.
COMMANDS = {
    "no command": [],
    "unknown command": ["runn"],
    "an option for none": ["--bogus"],
    "empty": [""],
    "report: nothing": ["report"],
    "report: two": ["report", "a", "b"],
    "report: missing": ["report", "nowhere"],
    "report: a file": ["report", "file"],
    "report: empty folder": ["report", "folder"],
    "report: a dash": ["report", "-x"],
    "report: a dash behind --": ["report", "--", "-x"],
    "report: a long name": ["report", "a" * 5000],
    "report: a null character": ["report", "a\0b"],
    "report: unicode": ["report", "ünïcode-☃"],
    "list: unknown kind": ["list", "nets"],
    "list: unknown name": ["list", "methods", "rapp"],
    "list: unknown model": ["list", "models", "resnet51"],
    "list: a path": ["list", "methods", "../rap"],
    "list: an empty name": ["list", "data", "none"],
    "patterns: nothing": ["patterns"],
    "patterns: unknown model": ["patterns", "--model", "nowhere"],
    "patterns: no number": ["patterns", "--model", "vgg16", "--n", "x"],
    "patterns: none": ["patterns", "--model", "vgg16", "--n", "0"],
    "patterns: negative": ["patterns", "--model", "vgg16", "--batch", "-1"],
    "patterns: NaN": ["patterns", "--model", "vgg16", "--n", "nan"],
    "patterns: no pair": ["patterns", "--model", "vgg16", "--option", "x"],
    "patterns: no YAML": ["patterns", "--model", "vgg16", "--option", "weights=[a"],
    "patterns: an alias bomb": [
        "patterns",
        "--model",
        "vgg16",
        "--option",
        f"weights=[&a [x, x], {', '.join(f'&{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]' for i in range(24))}]",
    ],
    "patterns: an endless alias": ["patterns", "--model", "vgg16", "--option", "weights=&a [*a]"],
    "patterns: nested deeply": ["patterns", "--model", "vgg16", "--option", "weights=" + "[" * 5000],
    "patterns: unknown option": ["patterns", "--model", "efficientnet_lite0", "--option", "x=1"],
    "patterns: no images": ["patterns", "--model", "efficientnet_lite0", "--images", "nowhere"],
    "patterns: a file for images": ["patterns", "--model", "efficientnet_lite0", "--images", "file"],
    "patterns: device": ["patterns", "--model", "efficientnet_lite0", "--device", "meta"],
    "subset: no verb": ["subset"],
    "subset: unknown verb": ["subset", "check"],
    "subset: nothing": ["subset", "verify"],
    "subset: missing": ["subset", "verify", "nowhere"],
    "subset: a folder": ["subset", "verify", "folder"],
    "subset: an empty file": ["subset", "verify", "empty"],
    "subset: words": ["subset", "verify", "file"],
    "subset: a checkpoint": ["subset", "verify", "bytes.pth"],
    "subset: a pipe": ["subset", "verify", "pipe"],
    "subset: a dangling link": ["subset", "verify", "link"],
    "drift: nothing": ["drift"],
    "drift: no baseline": ["drift", "folder"],
    "drift: missing": ["drift", "nowhere", "--baseline", "none.csv"],
    "drift: a file": ["drift", "file", "--baseline", "none.csv"],
    "drift: empty folder": ["drift", "folder", "--baseline", "none.csv", "--update"],
    "drift: a folder for the baseline": ["drift", "folder", "--baseline", "folder"],
    "drift: words for the baseline": ["drift", "folder", "--baseline", "words.csv"],
    "drift: perturbed alone": ["drift", "folder", "--baseline", "none.csv", "--perturbed", "folder"],
    "drift: a name for the baseline": ["drift", "folder", "--baseline", "nothing"],
    "drift check: nothing": ["drift", "check"],
    "drift check: missing": ["drift", "check", "none.csv"],
    "drift check: words": ["drift", "check", "words.csv"],
    "drift check: a folder": ["drift", "check", "folder"],
    "drift freeze: nothing": ["drift", "freeze"],
    "drift freeze: words": ["drift", "freeze", "words.csv"],
    "drift freeze: below a file": ["drift", "freeze", "file/x.csv"],
    "figure: nothing": ["figure"],
    "figure: unknown": ["figure", "folder"],
    **{
        f"figure {name}: {what}": ["figure", name, *words]
        for name in ("heatmaps", "figure7", "figure8", "aopc")
        for what, words in {
            "missing": ["nowhere"],
            "a file": ["file"],
            "empty folder": ["folder"],
            "a folder and a setting": ["folder", "subset.n=1"],
            "an option": ["--nothing"],
            "a null character": ["a\0b"],
        }.items()
    },
    "store: nothing": ["store"],
    "store: unknown verb": ["store", "rm"],
    "store ls: missing": ["store", "ls", "--results", "nowhere"],
    "store ls: a file": ["store", "ls", "--results", "file"],
    "store verify: missing": ["store", "verify", "--results", "nowhere"],
    "store gc: a file": ["store", "gc", "--results", "file"],
}


@pytest.mark.parametrize("case", COMMANDS)
def test_every_command_refuses_what_is_not_there_or_of_another_kind(case, capsys):
    for name, data in {
        "file": b"words",
        "empty": b"",
        "bytes.pth": bytes(range(256)),
        "words.csv": b"a",
        "words.yaml": b"a",
    }.items():
        Path(name).write_bytes(data)
    Path("folder").mkdir()
    os.mkfifo("pipe")
    Path("link").symlink_to("nowhere")
    before = sorted(Path().rglob("*"))
    refused(COMMANDS[case], capsys)
    assert sorted(Path().rglob("*")) == before


# Manifests: what was changed, and what is said; None where it is read all the same.
MANIFESTS = {
    "a byte order mark": (b"\xef\xbb\xbf" + f"{HEAD}\n{LINE}\n".encode(), None),
    "other line ends": (f"{HEAD}\r\n{LINE}\r\n\r\n".encode(), None),
    "old line ends": (f"{HEAD}\r{LINE}\r".encode(), None),
    "empty lines": (f"{HEAD}\n\n{LINE}\n,,,,,,\n\n".encode(), None),
    "trailing commas": (f"{HEAD},,\n{LINE},,\n".encode(), None),
    "quotes": (f'{HEAD}\n"a.jpg","3",{LINE.partition("3,")[2]}\n'.encode(), None),
    "another order of columns": (f"label,{HEAD.replace('label,', '')}\n3,{LINE.replace('3,', '', 1)}\n".encode(), None),
    "no column also": (f"{HEAD.removesuffix(',also')}\n{LINE.removesuffix(',')}\n".encode(), None),
    "semicolons": (f"{HEAD}\n{LINE}\n".replace(",", ";").encode(), "line 1: .*separated by semicolons"),
    "Latin-1": (
        f"{HEAD}\n{LINE}\n{LINE}\n".replace("a.jpg", "é.jpg").encode("latin-1"),
        "not UTF-8 text .byte 0xe9 in line 2",
    ),
    "UTF-16": (f"{HEAD}\n{LINE}\n".encode("utf-16"), "not UTF-8 text"),
    "a checkpoint": (b"PK\x03\x04" + bytes(range(256)), "not UTF-8 text"),
    "empty": (b"", "line 1: not a manifest line, it has no column file"),
    "only its head": (f"{HEAD}\n".encode(), "names no images"),
    "a label beyond all": (
        f"{HEAD}\n{LINE}\n".replace(",3,", f",{10**30},").encode(),
        "line 2: .*label 1000.* is not a class",
    ),
    "a negative label": (f"{HEAD}\n{LINE}\n".replace(",3,", ",-1,").encode(), "line 2: .*label -1 is not a class"),
    "a label with a point": (f"{HEAD}\n{LINE}\n".replace(",3,", ",3.0,").encode(), "label 3.0 is not a class"),
    "digits of another script": (f"{HEAD}\n{LINE}\n".replace(",3,", ",٣,").encode(), "is not a class"),
    "no label": (f"{HEAD}\n{LINE}\n".replace(",3,", ",,").encode(), "line 2: .*its label is empty"),
    "an image twice": (f"{HEAD}\n{LINE}\n\n{LINE}\n".encode(), "line 4: a.jpg is in line 2, too"),
    "no number": (f"{HEAD}\n{LINE}\n".replace("1.5", "nan").encode(), "logit nan is not a number"),
    "a comma for the point": (f"{HEAD}\n{LINE}\n".replace("1.5", '"1,5"').encode(), "logit 1,5 is not a number"),
    "endless": (f"{HEAD}\n{LINE}\n".replace("1.5", "1e999").encode(), "logit 1e999 is not a number"),
    "no hash": (f"{HEAD}\n{LINE}\n".replace("1" * 64, "abc").encode(), "sha256 abc is not a SHA-256"),
    "too many cells": (f"{HEAD}\n{LINE},x\n".encode(), "8 cells for 7 columns"),
    "too few cells": (f"{HEAD}\na.jpg,3\n".encode(), "its sha256 is empty"),
    "an open quote": (f'{HEAD}\n"a.jpg,3\n'.encode(), "not a manifest line .unexpected end"),
    "a null character": (f"{HEAD}\na\0{LINE}\n".encode(), "null|NUL"),
    "a model that is none": (f"{HEAD}\n{LINE}net2\n".encode(), "also net2 is not a list"),
    "a cell without end": (f"{HEAD}\n{'a' * 200_000}\n".encode(), "line 2"),
    "too large": (b"a" * (reading.MOST["text"] + 1), "is larger than 64 MB"),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_is_read_as_spreadsheets_write_it_or_its_line_is_named(case, capsys):
    data, says = MANIFESTS[case]
    Path("m.csv").write_bytes(data)
    if says is None:
        assert load_manifest(Path("m.csv")).rows == [Row("a.jpg", 3, "1" * 64, 1.5, "net", "2" * 64)]
        return
    refused(["subset", "verify", "m.csv"], capsys, f"m.csv.*({says})")
    refused(["run", "subset.manifest=m.csv"], capsys, f"m.csv.*({says})")


def test_any_file_name_that_a_data_set_may_have_comes_back_from_a_manifest():
    names = [
        "a,b.jpg",
        'say "a".jpg',
        "ünïcode ☃.jpg",
        " blank .jpg",
        "=1+1.jpg",
        "'.jpg",
        "\u2028.jpg",
        "#.jpg",
        "\\.jpg",
        "\ufeffbom.jpg",
    ]
    rows = [Row(name, 3, "1" * 64, -1.5e-7, "my model", "2" * 64, f"a b@{'3' * 64} c@d@{'4' * 64}") for name in names]
    Subset(rows).save(Path("m.csv"))
    read = load_manifest(Path("m.csv")).rows
    assert read == rows
    assert read[0].others == [("a b", "3" * 64), ("c@d", "4" * 64)]


def test_a_label_that_the_model_does_not_have_is_named_with_its_image(capsys):
    """Not an index error, for a method that does not look at the model."""
    file = next(iter(load_data("samples").samples)).file
    digest = hashlib.sha256(load_data("samples").read(file)).hexdigest()
    Path("m.csv").write_text(f"{HEAD}\n{file},1000,{digest},1.5,net,{'2' * 64},\n", encoding="utf-8")
    words = ["model=efficientnet_lite0", "method=[random]", "protocol=[removal]", "k.positive=[10]", "k.negative=[10]"]
    assert main(["run", *words, "subset.manifest=m.csv"]) == 2
    assert f"rapbench: input {file} has label 1000, but efficientnet_lite0 has 1,000 classes" in capsys.readouterr().err


@pytest.mark.parametrize("name", [b"caf\xe9.jpg", b"two\nlines.jpg", b"return\r.jpg", b"escape\x1b[31m.jpg"])
def test_a_file_name_that_no_table_could_hold_is_named(name, capsys):
    Path("images").mkdir()
    (Path("images") / os.fsdecode(name)).write_bytes(b"x")
    with pytest.raises(rapbench.RapbenchError, match=r"has a file whose name .*; rename it") as caught:
        load_data("folder", root="images")
    assert str(caught.value).isprintable()


# What a provenance.json may hold instead of a run's.
PROVENANCE = {
    "null": "null",
    "a list": "[]",
    "a number": "5",
    "words": "nonsense",
    "nothing": "",
    "cut": '{"config": {',
    "nested": "[" * 100_000,
    "no section": '{"config": null}',
    "a list for a section": '{"config": []}',
    "a model without a name": '{"config": {"model": {}}}',
    "a header of numbers": '{"header": [1]}',
    "a header of words": '{"header": "x"}',
    "methods that are words": '{"methods": {"rap": "rap"}}',
    "seeds that are none": '{"seeds": {"run": "x"}}',
    "versions of numbers": '{"versions": {"torch": 2}}',
    "require that is none": '{"config": {"subset": {"require": 5}}}',
}


@pytest.mark.parametrize("case", PROVENANCE)
def test_a_provenance_that_is_none_is_named_wherever_it_is_read(case, capsys):
    Path("run").mkdir()
    Path("run/provenance.json").write_text(PROVENANCE[case], encoding="utf-8")
    Path("run/manifest.csv").write_text(f"{HEAD}\n{LINE}\n", encoding="utf-8")
    pd.DataFrame({"input": ["a"]}).to_parquet("run/results.parquet")
    says = "run/provenance.json.*the same run writes it again"
    refused(["report", "run"], capsys, says)
    refused(["subset", "verify", "run/manifest.csv"], capsys, says)
    refused(["drift", "run", "--baseline", "b.csv", "--update"], capsys, says)
    from rapbench.app.finished_run import FinishedRun

    with pytest.raises(rapbench.RapbenchError, match=says):
        FinishedRun(Path("run"))


@pytest.mark.parametrize("missing", ["config", "model", "machine", "versions", "seeds", "methods", "protocols"])
def test_a_provenance_that_lacks_a_part_is_named_by_drift(missing, capsys):
    whole = json.loads((ROOT / "results/reference/resnet50_keras/provenance.json").read_text(encoding="utf-8"))
    Path("run").mkdir()
    Path("run/manifest.csv").write_text(f"{HEAD}\n{LINE}\n", encoding="utf-8")
    Path("run/provenance.json").write_text(
        json.dumps({k: v for k, v in whole.items() if k != missing}), encoding="utf-8"
    )
    refused(["drift", "run", "--baseline", "b.csv", "--update"], capsys, f"does not say '{missing}'")


def test_settings_of_a_finished_run_that_are_none_are_named():
    from rapbench.app.finished_run import FinishedRun

    Path("run").mkdir()
    for config, says in (({"chunk": "many"}, "config: "), ({"nowhere": 1}, "config: "), ({"seed": "${x"}, "config: ")):
        Path("run/provenance.json").write_text(json.dumps({"config": config, "refused": {}}), encoding="utf-8")
        with pytest.raises(rapbench.RapbenchError, match=says):
            FinishedRun(Path("run"))


ALIASES = "x0: &x0 [1, 1]\n" + "".join(f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}, *x{n - 1}]\n" for n in range(1, 30))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (ALIASES, "aliases counted in full"),
        ("a: &a [*a]", "an alias within"),
        ("[" * 3000, "nested too deeply|YAML"),
        ("a: b: c", "YAML"),
        ("!!python/object/apply:os.system [ls]", "YAML"),
        ("- 1", "dictionary"),
        ("", "dictionary"),
        ("a: " + "b" * (3 << 20), "larger than"),
        ("? [1]\n: 2", "YAML|dictionary"),
        ("<<: 5", "YAML|dictionary"),
        ("2024-13-45", "YAML|dictionary"),
        ("\u0007", "YAML"),
    ],
)
def test_yaml_without_end_or_sense_is_one_line(text, says, capsys):
    Path("b.csv").write_text("x", encoding="utf-8")
    Path("b.yaml").write_text(text, encoding="utf-8")
    start = time.perf_counter()
    refused(["drift", "run", "--baseline", "b.csv"], capsys, f".*({says})")
    assert time.perf_counter() - start < 10


def test_aliases_that_end_are_as_in_yaml():
    assert reading.parse_yaml("a: &a [1, 2]\nb: [*a, *a]") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}
    assert reading.parse_yaml("") is None
    assert reading.parse_yaml("IMAGENET1K_V1") == "IMAGENET1K_V1"


@pytest.mark.parametrize("words", [["--config-name=bomb"], ["experiment=bomb"], []])
def test_a_configuration_folder_with_an_alias_bomb_is_one_line(words, capsys):
    for path in (Path("own/bomb.yaml"), Path("own/experiment/bomb.yaml")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# @package _global_\n{ALIASES}", encoding="utf-8")
    for folder in (["--config-dir", "own"], ["-cd=own"], ["--config-path", str(Path("own").resolve())]):
        refused(["run", *folder, *words], capsys, "own/.*bomb.yaml cannot be read as YAML .more than")


def stored_run(folder: Path = Path("run")) -> Path:
    """Write what `rapbench report` needs of a run, with names in other scripts."""
    folder.mkdir()
    keys = [
        (method, sign, perturbation, k, image)
        for method in ("rap", "random")
        for sign in ("positive", "negative")
        for perturbation in ("removal", "shuffling")
        for k in ("0", "100", "all")
        for image in range(6)
    ]
    frame = pd.DataFrame(
        [
            {
                "image": f"ü{key[4]}.jpg",
                "label": key[4],
                "method": key[0],
                "sign": key[1],
                "perturbation": key[2],
                "k": key[3],
                "selected": 100,
                "predicted": key[4],
                "correct": number % 3 > 0,
                "logit": float(number % 7),
            }
            for number, key in enumerate(keys)
        ]
    )
    write_results(folder, frame)
    about = {"header": ["Nét: ☃ \u2028.", "Second."], "seeds": {"run": 0}}
    (folder / "provenance.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


LOCALES = {
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ASCII": {"PYTHONIOENCODING": "ascii"},
    "Latin-1": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "iso-8859-1"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOCALES)
def test_no_locale_changes_a_report_or_ends_it(name, tmp_path, capsys):
    folder = stored_run()
    assert main(["report", "run"]) == 0
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "Nét: ☃" in (folder / "report.html").read_text(encoding="utf-8")
    done = child(["report", "run"], tmp_path, env=LOCALES[name], text=False)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert rb"\u2603" in done.stdout  # what the encoding lacks
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


def test_every_text_file_is_opened_with_an_encoding():
    """No locale may decide; what this finds is a call without encoding=, as read_text() and open() allow."""
    found = []
    for path in [
        path for room in ("rapbench", "experiments", "benchmarks") for path in ROOT.joinpath(room).rglob("*.py")
    ]:
        for call in ast.walk(ast.parse(path.read_bytes())):
            name = getattr(call.func, "attr", getattr(call.func, "id", "")) if isinstance(call, ast.Call) else ""
            binary = name == "open" and any(
                isinstance(word, ast.Constant) and "b" in str(word.value) for word in call.args
            )
            own = (
                name == "open"
                and isinstance(call.func, ast.Attribute)
                and getattr(call.func.value, "id", "") in ("Image", "archive", "tarfile", "webbrowser", "os")
            )
            if (
                name in ("open", "read_text", "write_text")
                and not binary
                and not own
                and not ({"encoding"} & {word.arg for word in call.keywords} or (name == "read_text" and call.args))
            ):
                found.append(f"{path}:{call.lineno}")
    assert not found


# What surrounds a command, in Python before it, and the exit codes of a listing (which needs nothing) and of a run.
MODEL = [
    "model=efficientnet_lite0",
    "method=[random]",
    "protocol=[distance]",
    "subset.n=1",
    "k.positive=[5]",
    "k.negative=[5]",
]
# As in a container that runs as a number which no user has.
NOBODY = """import pwd
for name in ("HOME", "USER", "LOGNAME"):
    os.environ.pop(name, None)
def nobody(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")
pwd.getpwuid = nobody"""
AROUND = {
    "no home, no user": NOBODY,
    "no folder for temporary files": "os.environ['TMPDIR'] = '/nowhere'",
    "no standard input": "os.close(0)\nsys.stdin = None",
    "no standard output": "os.close(1)\nsys.stdout = None",
    "no standard error": "os.close(2)\nsys.stderr = None",
}


@pytest.mark.slow
@pytest.mark.parametrize("around", AROUND)
def test_a_run_goes_on_without_what_it_does_not_need(around, tmp_path):
    room = tmp_path / "room"
    room.mkdir()
    done = child(["run", *MODEL], room, AROUND[around])
    assert done.returncode == 0, done.stderr
    assert {path.name for path in room.iterdir()} == {"results"}  # nor a folder called ~
    assert (room / "results/run/efficientnet_lite0/table1.csv").exists() or (
        room / "results/run/efficientnet_lite0/distance.csv"
    ).exists()


@pytest.mark.parametrize("model", ["vgg16_keras", "vgg16", "timm/resnet18"])
def test_a_cache_without_a_home_folder_is_one_line(model, tmp_path, monkeypatch):
    """Nothing may be written to a folder called ~."""
    from huggingface_hub import constants

    for name in ("HOME", "RAPBENCH_CACHE", "TORCH_HOME", "XDG_CACHE_HOME", "KERAS_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", os.path.expanduser("~/.cache/huggingface"))
    says = r"no home folder is known to keep downloads in; set \w+ or HOME"
    with pytest.raises(rapbench.RapbenchError, match=says):
        rapbench.load_model(model)
    with pytest.raises(rapbench.RapbenchError, match=r"model.path=~/x: there is no such home folder"):
        rapbench.load_model("checkpoint", architecture="vgg16", path="~/x")
    with pytest.raises(rapbench.RapbenchError, match=r"data.root=~nobody-here: there is no such home folder"):
        load_data("folder", root="~nobody-here")
    assert not list(tmp_path.iterdir())


def test_a_working_folder_that_is_gone_is_one_line(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    done = child(["run"], gone, f"os.rmdir({str(gone)!r})\nsys.path[:] = [path for path in sys.path if path]")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "rapbench: the current folder is not there any more; change to another\n"


@pytest.mark.parametrize("words", [["list"], ["--help"], ["run", "--cfg", "job"], ["run", "--hydra-help"]])
def test_a_reader_that_has_gone_is_no_error(words, tmp_path):
    """As `rapbench list | head -1`: no traceback, no complaint at the interpreter's end."""
    out, into = os.pipe()
    os.close(out)
    done = child(words, tmp_path, stdout=into, stderr=subprocess.PIPE, capture_output=False)
    os.close(into)
    assert done.stderr == ""
    assert done.returncode in (0, 128 + signal.SIGPIPE)


@pytest.mark.parametrize("flags", [["--cfg", "job"], ["-c=job"], ["--config-dir", "own", "--cfg", "job"]])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_flags_stand_before_between_or_after_the_overrides(flags, place, capsys):
    Path("own").mkdir()
    overrides = ["seed=3", "chunk=5"]
    assert main(["run", *overrides[:place], *flags, *overrides[place:]]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert (config["seed"], config["chunk"]) == (3, 5)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["list"], ["run", "--cfg", "job"], ["run", "--help"], ["report", "--help"]])
def test_output_to_a_full_disk_is_one_line(words, unbuffered, tmp_path):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = child(words, tmp_path, stdout=full, stderr=subprocess.PIPE, capture_output=False,
                     env={"PYTHONUNBUFFERED": unbuffered})  # fmt: skip
    assert done.returncode == 2
    assert re.fullmatch(r"rapbench: cannot write .*: No space left on device.*\n", done.stderr)


@pytest.mark.parametrize(
    "number", [errno.EIO, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EISDIR, errno.ENOSPC, errno.EROFS, errno.ESTALE]
)
def test_whatever_the_system_refuses_anywhere_is_one_line(number, monkeypatch, capsys):
    from rapbench.report import rebuild

    def refuse(path: Path) -> str:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(rebuild, "write_again", refuse)
    refused(["report", "folder"], capsys, f"folder: {os.strerror(number)}")


def test_a_disk_that_is_full_or_read_only_ends_a_report_in_one_line(tmp_path, capsys):
    """A real, small file system, where this process may mount one."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "none", str(small)], capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    try:
        folder = stored_run(small / "run")
        assert main(["report", str(folder)]) == 2
        line = capsys.readouterr().err.splitlines()[-1]  # behind a progress bar
        assert re.search("rapbench: cannot write .*: No space left on device; free some space", line)
        assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]  # no half files
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        assert main(["report", str(folder)]) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert re.search("rapbench: cannot write .*: Read-only file system; name another place", line)
        refused(["run", f"results={small}/results"], capsys, "cannot be written to")
    finally:
        subprocess.run(["umount", str(small)], check=True)


def silent_server() -> tuple[socket.socket, str]:
    """Return a server that accepts and never answers, as a firewall or a dead proxy does."""
    server = socket.create_server(("127.0.0.1", 0))
    server.listen(8)
    return server, f"http://127.0.0.1:{server.getsockname()[1]}/file"


def test_a_hub_that_does_not_answer_is_said_in_five_seconds(monkeypatch):
    server, url = silent_server()
    start = time.perf_counter()
    with server:
        assert "time" in downloads.unreachable(url) or "answer" in downloads.unreachable(url)
        assert time.perf_counter() - start < 10
    start = time.perf_counter()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(60))  # a name's look-up that never ends
    assert downloads.unreachable("http://nowhere.invalid/file") == "no answer within 3 seconds"
    assert time.perf_counter() - start < 5.5


def test_a_hub_that_answers_is_reached_whatever_it_says(tmp_path):
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Refusing(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert downloads.unreachable(f"http://127.0.0.1:{server.server_port}/x") == ""
        server.shutdown()
    (tmp_path / "x").write_bytes(b"x")
    assert downloads.unreachable((tmp_path / "x").as_uri()) == ""


@pytest.mark.parametrize("model", ["timm/resnet18", "vgg16", "vgg16_keras"])
def test_weights_that_cannot_be_fetched_are_one_line_within_five_seconds(model, tmp_path, monkeypatch, capfd):
    from huggingface_hub import constants

    from rapbench.zoo import vgg16_keras

    server, url = silent_server()
    for name in ("TORCH_HOME", "HF_HUB_CACHE", "RAPBENCH_CACHE", "KERAS_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(vgg16_keras, "OFFICIAL", vgg16_keras.OFFICIAL.__class__("x.h5", url, ()))
    fetch = downloads.fetch
    monkeypatch.setattr(downloads, "fetch", lambda _, *more: fetch(url, *more))
    entry = REGISTRIES["model"][model]
    start = time.perf_counter()
    with server, pytest.raises(rapbench.RapbenchError, match=r"cannot (download|be reached)"):
        entry.function()
    assert time.perf_counter() - start < 8
    assert capfd.readouterr().err == ""  # no retries, no lines of libraries


def test_what_the_huggingface_cache_holds_is_taken_where_its_hub_is_away(tmp_path, monkeypatch):
    """The cache's own layout: a snapshot that points to a blob named by its hash."""
    from hashlib import sha256

    from huggingface_hub import constants

    from rapbench.zoo.timm import _hugging_face_file

    digest = sha256(b"weights").hexdigest()
    room = tmp_path / "models--some--net"
    for path in ("blobs", "refs", "snapshots/abc"):
        (room / path).mkdir(parents=True)
    (room / "blobs" / digest).write_bytes(b"weights")
    (room / "refs/main").write_text("abc", encoding="utf-8")
    (room / "snapshots/abc/model.safetensors").symlink_to(f"../../blobs/{digest}")
    server, url = silent_server()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", url)
    with server:
        assert _hugging_face_file("some/net", ("model.safetensors",)).read_bytes() == b"weights"


@pytest.mark.parametrize(
    "name", ["meta", "meta:0", "cuda:99", "xla", "mps", "hpu", "mkldnn", "gpu", "privateuseone", "vulkan"]
)
def test_a_device_that_cannot_compute_is_one_line(name):
    from rapbench.core.device import device_called

    with pytest.raises(rapbench.RapbenchError, match=rf"device '{name}' cannot be used here \(.*\); try cpu") as caught:
        device_called(name)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_a_cpu_is_one_whatever_its_number():
    from rapbench.core.device import device_called

    assert str(device_called("cpu:3")) == "cpu"
