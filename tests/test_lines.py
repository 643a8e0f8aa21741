"""Whatever is wrong with words, files, folders or the surroundings: one line on standard error, exit code 2, in time."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import rapbench
from rapbench import reading
from rapbench.cli import main
from rapbench.data import load_data
from rapbench.data._manifest import Row, Subset, load_manifest
from rapbench.declared import declared_options
from rapbench.registries import REGISTRIES

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
    code = f"import os, sys, resource\n{prelude}\nfrom rapbench.cli import main\nsys.exit(main({words!r}))"
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
}  # fmt: skip


@pytest.mark.parametrize("words", VALUES)
def test_a_value_that_no_run_can_have_is_refused_before_anything_is_made(words, capsys):
    Path("file").write_text("words")
    refused(["run", "method=[rap]", *(words.split(" ") if words.count("=") == 2 else [words])], capsys, VALUES[words])
    assert {path.name for path in Path().rglob("*")} == {"file"}


def test_values_are_checked_in_seconds_without_torch(tmp_path):
    words = ["name=..", "chunk=0", "k.positive=[5,3]", "method.rap.flow=bth", "method.rap.flwo=up", "device=a/b",
             "protocol.removal.fill=zer", "subset.manifest=nowhere.csv", "shard=5"]  # fmt: skip
    prelude = f"from rapbench.cli import main\nassert [main(['run', word]) for word in {words!r}] == [2] * {len(words)}"
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
    "patterns: an alias bomb": ["patterns", "--model", "vgg16", "--option",
                                f"weights=[&a [x, x], {', '.join(f'&{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]' for i in range(24))}]"],
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
    "store: nothing": ["store"],
    "store: unknown verb": ["store", "rm"],
    "store ls: missing": ["store", "ls", "--results", "nowhere"],
    "store ls: a file": ["store", "ls", "--results", "file"],
    "store verify: missing": ["store", "verify", "--results", "nowhere"],
    "store gc: a file": ["store", "gc", "--results", "file"],
}  # fmt: skip


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
    "Latin-1": (f"{HEAD}\n{LINE}\n{LINE}\n".replace("a.jpg", "é.jpg").encode("latin-1"), "not UTF-8 text .byte 0xe9 in line 2"),
    "UTF-16": (f"{HEAD}\n{LINE}\n".encode("utf-16"), "not UTF-8 text"),
    "a checkpoint": (b"PK\x03\x04" + bytes(range(256)), "not UTF-8 text"),
    "empty": (b"", "line 1: not a manifest line, it has no column file"),
    "only its head": (f"{HEAD}\n".encode(), "names no images"),
    "a label beyond all": (f"{HEAD}\n{LINE}\n".replace(",3,", f",{10**30},").encode(), "line 2: .*label 1000.* is not a class"),
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
}  # fmt: skip


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
    names = ["a,b.jpg", 'say "a".jpg', "ünïcode ☃.jpg", " blank .jpg", "=1+1.jpg",
             "'.jpg", "\u2028.jpg", "#.jpg", "\\.jpg", "\ufeffbom.jpg"]  # fmt: skip
    rows = [Row(name, 3, "1" * 64, -1.5e-7, "my model", "2" * 64, f"a b@{'3' * 64} c@d@{'4' * 64}") for name in names]
    Subset(rows).save(Path("m.csv"))
    read = load_manifest(Path("m.csv")).rows
    assert read == rows
    assert read[0].others == [("a b", "3" * 64), ("c@d", "4" * 64)]


def test_a_label_that_the_model_does_not_have_is_named_with_its_image(capsys):
    """Not an index error, for a method that does not look at the model."""
    file = next(iter(load_data("samples").samples)).file
    digest = __import__("hashlib").sha256(load_data("samples").read(file)).hexdigest()
    Path("m.csv").write_text(f"{HEAD}\n{file},1000,{digest},1.5,net,{'2' * 64},\n", encoding="utf-8")
    words = ["model=efficientnet_lite0", "method=[random]", "protocol=[removal]", "k.positive=[10]", "k.negative=[10]"]
    assert main(["run", *words, "subset.manifest=m.csv"]) == 2
    assert f"rapbench: {file} has label 1000, but efficientnet_lite0 has 1000 classes" in capsys.readouterr().err


@pytest.mark.parametrize("name", [b"caf\xe9.jpg", b"two\nlines.jpg", b"return\r.jpg", b"escape\x1b[31m.jpg"])
def test_a_file_name_that_no_table_could_hold_is_named(name, capsys):
    Path("images").mkdir()
    (Path("images") / os.fsdecode(name)).write_bytes(b"x")
    with pytest.raises(rapbench.RapbenchError, match=r"has a file whose name .*; rename it") as caught:
        load_data("folder", root="images")
    assert str(caught.value).isprintable()


# What a provenance.json may hold instead of a run's.
PROVENANCE = {
    "null": "null", "a list": "[]", "a number": "5", "words": "nonsense", "nothing": "", "cut": '{"config": {',
    "nested": "[" * 100_000, "no section": '{"config": null}', "a list for a section": '{"config": []}',
    "a model without a name": '{"config": {"model": {}}}', "a header of numbers": '{"header": [1]}', "a header of words": '{"header": "x"}',
    "methods that are words": '{"methods": {"rap": "rap"}}', "seeds that are none": '{"seeds": {"run": "x"}}',
    "versions of numbers": '{"versions": {"torch": 2}}', "require that is none": '{"config": {"subset": {"require": 5}}}',
}  # fmt: skip


@pytest.mark.parametrize("case", PROVENANCE)
def test_a_provenance_that_is_none_is_named_wherever_it_is_read(case, capsys):
    Path("run").mkdir()
    Path("run/provenance.json").write_text(PROVENANCE[case], encoding="utf-8")
    Path("run/manifest.csv").write_text(f"{HEAD}\n{LINE}\n", encoding="utf-8")
    pd.DataFrame({"image": ["a"]}).to_parquet("run/images.parquet")
    says = "run/provenance.json.*the same run writes it again"
    refused(["report", "run"], capsys, says)
    refused(["subset", "verify", "run/manifest.csv"], capsys, says)
    refused(["drift", "run", "--baseline", "b.csv", "--update"], capsys, says)
    from rapbench.runner.finished import Finished

    with pytest.raises(rapbench.RapbenchError, match=says):
        Finished(Path("run"))


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
    from rapbench.runner.finished import Finished

    Path("run").mkdir()
    for config, says in (({"chunk": "many"}, "config: "), ({"nowhere": 1}, "config: "), ({"seed": "${x"}, "config: ")):
        Path("run/provenance.json").write_text(json.dumps({"config": config, "refused": {}}), encoding="utf-8")
        with pytest.raises(rapbench.RapbenchError, match=says):
            Finished(Path("run"))


ALIASES = "x0: &x0 [1, 1]\n" + "".join(f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}, *x{n - 1}]\n" for n in range(1, 30))


@pytest.mark.parametrize(("text", "says"), [
    (ALIASES, "aliases counted in full"), ("a: &a [*a]", "an alias within"), ("[" * 3000, "nested too deeply|YAML"), ("a: b: c", "YAML"),
    ("!!python/object/apply:os.system [ls]", "YAML"), ("- 1", "dictionary"), ("", "dictionary"), ("a: " + "b" * (3 << 20), "larger than"),
    ("? [1]\n: 2", "YAML|dictionary"), ("<<: 5", "YAML|dictionary"), ("2024-13-45", "YAML|dictionary"), ("\u0007", "YAML"),
])  # fmt: skip
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
