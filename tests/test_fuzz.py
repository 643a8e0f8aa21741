"""Every reader on files that were damaged or changed: a value or a RapbenchError, never a traceback, a hang or 1 GB."""

import copy
import gzip
import io
import json
import resource
import signal
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
import safetensors.numpy
import safetensors.torch
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from rapbench import RapbenchError
from rapbench.app import hydra_app
from rapbench.app.cli import main
from rapbench.core import reading
from rapbench.data import load_data
from rapbench.data.labelled.marks import NotMarked
from rapbench.data.layouts.label_files import from_label_file
from rapbench.data.layouts.synsets import synset_index
from rapbench.data.marks.painted import painted
from rapbench.data.subset.manifest import load_manifest
from rapbench.drift.baseline import read_baseline, write_baseline
from rapbench.drift.comparable import differences, other_platform
from rapbench.drift.compare import compare
from rapbench.drift.compared_run import read_run
from rapbench.report.distance import distance_table
from rapbench.report.page.gallery import gallery_section
from rapbench.report.regions import aopc, by_cell, drop_curve
from rapbench.report.table1 import table1
from rapbench.results.file import NAME, read, to_bytes
from rapbench.results.gallery import Gallery, load_gallery
from rapbench.results.layouts import DISTANCE, PERTURBATION, REGIONS, laid_out
from rapbench.results.provenance import provenance_of
from rapbench.zoo.checkpoint import check, read_tensors, without_prefix
from tests.results import run_of
from tests.test_drift import Run

SECONDS = 20  # of CPU
ROOM = 1 << 30  # bytes beyond what the process has
often = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
seldom = settings(often, max_examples=30)


@pytest.fixture(autouse=True)
def bounded(tmp_path, monkeypatch) -> Iterator[None]:
    """Less than a gigabyte more, in seconds."""
    monkeypatch.chdir(tmp_path)

    def too_long(*_: object) -> None:
        raise AssertionError(f"more than {SECONDS} s of CPU")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, hard))
    before = signal.signal(signal.SIGVTALRM, too_long)
    yield
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def in_one_line() -> Iterator[None]:
    """Let a RapbenchError of one line pass, and nothing else."""
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    said = ""
    try:
        yield
    except RapbenchError as error:
        said = str(error)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    assert "\n" not in said.strip()
    assert len(said) < 2000


def damaged(data: bytes) -> st.SearchStrategy[bytes]:
    """Bytes of a valid file with a few places flipped, cut out, doubled, put in, or cut off."""
    place = st.integers(0, max(len(data) - 1, 0))
    # Half of the damage is done to the ends, where formats keep what says how to read them.
    ends = st.one_of(place, st.integers(0, min(200, len(data))), st.integers(max(0, len(data) - 400), len(data)))
    some = st.one_of(
        st.binary(min_size=1, max_size=8),
        st.sampled_from([b"\0", b"\xff" * 8, b"\n", b'"', b",", b"\x7f" * 4, b"9" * 30]),
    )
    edit = st.tuples(st.sampled_from(["flip", "cut", "double", "insert", "end"]), ends, some, st.integers(1, 64))
    return st.lists(edit, min_size=1, max_size=6).map(lambda edits: _edited(data, edits))


def _edited(data: bytes, edits: list[tuple[str, int, bytes, int]]) -> bytes:
    for kind, at, some, size in edits:
        if kind == "flip":
            data = data[:at] + some + data[at + len(some) :]
        elif kind == "cut":
            data = data[:at] + data[at + size :]
        elif kind == "double":
            data = data[: at + size] + data[at:]
        elif kind == "insert":
            data = data[:at] + some + data[at:]
        else:
            data = data[:at]
    return data


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**30),
    st.floats(),
    st.text(max_size=8),
    st.just("\ud800"),
    st.just([]),
    st.just({}),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.just("${seed}"),
    st.just("../x"),
)


@st.composite
def changed(draw: Callable[..., Any], whole: Any) -> Any:
    """Draw a tree of dictionaries and lists with a few values replaced, taken out or renamed."""
    tree = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        node = tree
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            deeper = isinstance(node[key], (dict, list)) and node[key] and draw(st.integers(0, 3))
            if deeper:
                node = node[key]
                continue
            kind = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
            if kind == "remove":
                del node[key]
            elif kind == "add" and isinstance(node, dict):
                node[draw(st.text(max_size=5))] = draw(JUNK)
            else:
                node[key] = draw(JUNK)
            break
    return tree


HEX = "0123456789abcdef" * 4
MANIFEST = "\n".join(
    [
        "file,label,sha256,logit,model,weights_sha256,also",
        *(f'"{name}",{number},{HEX},{number}.5e-3,net,{HEX},other@{HEX}' for number, name in enumerate("abc")),
        "",
    ]
).encode()


@often
@given(damaged(MANIFEST))
def test_manifests(data):
    Path("m.csv").write_bytes(data)
    with in_one_line():
        for row in load_manifest(Path("m.csv")).rows:
            assert 0 <= row.label < 10**9
            assert np.isfinite(row.logit)


SYNSETS = list(synset_index())
LABELS = {
    "LOC_val_solution.csv": "ImageId,PredictionString\n" + "".join(f"a{n},{SYNSETS[n]} 1 2 3 4\n" for n in range(4)),
    "val.txt": "".join(f"a{n}.JPEG {n}\n" for n in range(4)),
}


@pytest.mark.parametrize("name", LABELS)
def test_label_files(name):
    @often
    @given(damaged(LABELS[name].encode()))
    def fuzz(data):
        Path(name).write_bytes(data)
        with in_one_line():
            assert all(
                0 <= sample.label < 1000 for sample in from_label_file([f"a{n}.JPEG" for n in range(4)], Path(name))
            )

    fuzz()


def small() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5)).state_dict()


def saved(kind: str) -> bytes:
    buffer = io.BytesIO()
    whole = {"state_dict": small(), "epoch": 3, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}
    if kind == "safetensors":
        return safetensors.torch.save(small(), {"format": "pt"})
    torch.save(whole, buffer, _use_new_zipfile_serialization=kind == "zip")
    return buffer.getvalue()


def read_checkpoint(path: Path) -> None:
    tensors, _ = read_tensors(path)
    check(small(), without_prefix(tensors, small(), str(path)), str(path))


BOXES = (b'<?xml version="1.0"?><annotation><size><width>60</width><height>40</height></size><object><bndbox>'
         b"<xmin>3</xmin><ymin>4</ymin><xmax>30</xmax><ymax>20</ymax></bndbox></object></annotation>")  # fmt: skip


def of_tar(name: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(BOXES)
        archive.addfile(info, io.BytesIO(BOXES))
    return made.getvalue()[:2048]  # the rest is zeros


def of_png() -> bytes:
    made = io.BytesIO()
    Image.new("L", (60, 40), 255).save(made, "PNG")
    return made.getvalue()


@pytest.mark.parametrize(("file", "data", "wrap"), [
    ("boxes/a.xml", BOXES, bytes), ("boxes", of_tar("val/a.xml"), bytes), ("boxes", of_tar("a.xml"), gzip.compress),
    ("boxes", gzip.compress(of_tar("a.xml")), bytes), ("masks/a.png", of_png(), bytes),
])  # fmt: skip
def test_boxes_and_masks(file, data, wrap):
    option = file.partition("/")[0]
    for folder in {"images", Path(file).parent.name} - {""}:
        Path(folder).mkdir()
    Image.new("RGB", (60, 40)).save("images/a.png")

    @often
    @given(damaged(data))
    def fuzz(damage):
        Path(file).write_bytes(wrap(damage))
        with in_one_line():
            dataset = load_data("folder", root="images", **{option: option})
            with suppress(NotMarked):
                assert painted(dataset, "a.png").size == (60, 40)

    fuzz()


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
def test_checkpoints(kind):
    @often
    @given(damaged(saved(kind)), st.sampled_from(["c.pth", "c.safetensors", "c.ckpt"]))
    def fuzz(data, name):
        Path(name).write_bytes(data)
        with in_one_line():
            read_checkpoint(Path(name))

    fuzz()


@often
@given(
    st.dictionaries(
        st.sampled_from([*small(), "model.0.weight", "x"]),
        st.sampled_from(
            [
                *small().values(),
                *(tensor.half() for tensor in small().values()),
                torch.tensor(float("nan")),
                torch.ones(2, dtype=torch.complex64),
                torch.ones(5, 4, dtype=torch.int8),
                torch.ones(5, 4, dtype=torch.bool),
                torch.ones(5, 4).to_sparse(),
                torch.ones(5, 4, dtype=torch.float8_e5m2),
                torch.tensor(1.0).expand(10**6, 10**6),
                torch.ones(5, 4, device="meta"),
                torch.full((5, 4), 1e300, dtype=torch.float64),
                torch.ones(0),
                torch.quantize_per_tensor(torch.ones(5, 4), 0.1, 0, torch.qint8),
                5,
                "x",
                None,
            ]
        ),
    ),
    st.sampled_from([None, "state_dict", "model", "net", "optimizer", "nowhere"]),
)
def test_checkpoints_of_other_tensors(state, wrapping):
    torch.save({wrapping: state} if wrapping else state, "c.pth")
    with in_one_line():
        read_checkpoint(Path("c.pth"))


PROVENANCE = Run().provenance | {
    "header": ["One.", "Two."],
    "refused": {"deeplift": "why"},
    "started": "now",
    "seconds": 1.5,
    "git": {"commit": "a", "dirty": False},
    "data": {"description": "d", "sha256": HEX},
}


@often
@given(
    st.one_of(damaged(json.dumps(PROVENANCE).encode()), changed(PROVENANCE).map(lambda tree: json.dumps(tree).encode()))
)
def test_provenance(data):
    run = Run().write(Path("run"))
    (run / "provenance.json").write_bytes(data)
    from rapbench.report.page.build import _provenance

    with in_one_line():
        _provenance(provenance_of(run))
    with in_one_line():
        found = read_run(run)
        differences(found, found)
        other_platform(found, found)


def region_rows() -> pd.DataFrame:
    rows = [
        (image, 1, "rap", "regions", order, "logit", step, 1.5 * step, 1, True)
        for image in ("a.jpg", "b.jpg")
        for order in ("morf", "lerf")
        for step in range(3)
    ]
    columns = ["image", "label", "method", "perturbation", "order", "output", "step", "score", "predicted", "correct"]
    return pd.DataFrame(rows, columns=columns)


RESULTS = {
    "images": run_of(Run().images),
    "distances": run_of(distances=Run().distances),
    "regions": run_of(regions=region_rows()),
    "all": run_of(Run().images, Run().distances, region_rows()),
}


def report_on(path: Path) -> None:
    """Read results, and make the tables of what was read."""
    run = read(path)
    assert len(run.frame) >= sum(len(table) for table in run.tables.values())
    images, distances, regions = (laid_out(run, layout) for layout in (PERTURBATION, DISTANCE, REGIONS))
    if len(images):
        table1(images)
    if len(distances):
        distance_table(distances)
    if len(regions):
        for cell in by_cell(regions):
            drop_curve(cell)
            aopc(cell)


@pytest.mark.parametrize("name", RESULTS)
def test_results_that_were_damaged(name):
    @often
    @given(damaged(to_bytes(RESULTS[name])))
    def fuzz(data):
        Path(NAME).write_bytes(data)
        with in_one_line():
            report_on(Path(NAME))

    fuzz()


@pytest.mark.parametrize("name", RESULTS)
def test_results_with_other_columns_and_values(name):
    whole = pyarrow.parquet.read_table(io.BytesIO(to_bytes(RESULTS[name])))
    frame = whole.to_pandas().iloc[:60]
    frame = frame.astype({column: object for column in frame if column not in ("label", "value")})
    kinds = ["drop", "null", "double", "text", "number", "junk", "category", "none", "lists", "big", "other", "empty",
             "another"]  # fmt: skip

    @often
    @given(st.sampled_from(list(frame)), st.sampled_from(kinds), st.integers(0, len(frame) - 1), JUNK)
    def fuzz(column, kind, row, junk):
        other = frame.copy().astype({column: object} if kind in ("null", "junk", "lists", "big") else {})
        if kind == "drop":
            other = other.drop(columns=column)
        elif kind == "double":
            other = pd.concat([other, other.iloc[[row]]])
        elif kind in ("null", "junk", "big"):
            other.at[row, column] = {"null": None, "junk": junk, "big": 10**18}[kind]
        elif kind == "empty":
            other = other.iloc[:0]
        elif kind == "other":
            other = other.drop(index=row)
        elif kind == "another":
            other.at[row, column] = frame[column].iloc[-1]
        elif kind == "number":
            other[column] = 1.5
        elif kind == "lists":
            other[column] = [[value] for value in other[column]]
        elif kind != "none":
            other[column] = other[column].astype({"text": str, "category": "category"}[kind])
        else:
            other[column] = None
        try:
            table = pyarrow.Table.from_pandas(other, preserve_index=False)
            table = table.replace_schema_metadata((table.schema.metadata or {}) | whole.schema.metadata)
            pyarrow.parquet.write_table(table, NAME)
        except (pyarrow.ArrowException, OverflowError, UnicodeError):  # what no parquet file can hold
            return
        with in_one_line():
            report_on(Path(NAME))

    fuzz()


ABOUT = json.loads(pyarrow.parquet.read_schema(io.BytesIO(to_bytes(RESULTS["all"]))).metadata[b"rapbench"])


@often
@given(changed(ABOUT))
def test_results_that_say_something_else_of_their_metrics(about):
    table = pyarrow.parquet.read_table(io.BytesIO(to_bytes(RESULTS["all"])))
    pyarrow.parquet.write_table(table.replace_schema_metadata({b"rapbench": json.dumps(about)}), NAME)
    with in_one_line():
        report_on(Path(NAME))


def test_results_that_claim_to_be_large():
    """A million million rows in a few kilobytes, and columns that unpack to gigabytes."""
    rows = 40_000_000
    constant = pyarrow.DictionaryArray.from_arrays(pyarrow.array(np.zeros(rows, np.int8)), pyarrow.array(["x"]))
    pyarrow.parquet.write_table(pyarrow.table({"input": constant}), NAME, row_group_size=rows)
    del constant
    with pytest.raises(RapbenchError, match="are said to hold 40,000,000 rows"):
        read(Path(NAME))
    assert Path(NAME).stat().st_size < 100_000


GALLERY = Gallery(
    "id",
    ["a.jpg", "b.jpg"],
    [1, 2],
    ["one", "two", "three"],
    np.zeros((2, 8, 8, 3), np.uint8),
    {"rap": np.zeros((2, 8, 8), np.int8)},
)
ABOUT = {
    "identity": "id",
    "files": ["a.jpg", "b.jpg"],
    "labels": [1, 2],
    "classes": ["one", "two", "three"],
    "methods": ["rap"],
}


def gallery_of(about: Any) -> bytes:
    maps = {"images": GALLERY.images, "map 0": GALLERY.maps["rap"]}
    return safetensors.numpy.save(maps, {"gallery": json.dumps(about)})


@often
@given(st.one_of(damaged(GALLERY.save()), changed(ABOUT).map(gallery_of)))
def test_galleries(data):
    Path("gallery.safetensors").write_bytes(data)
    with in_one_line():
        found = load_gallery(Path())
        if found:
            gallery_section(found, Run().images)


def baseline() -> tuple[bytes, dict[str, Any]]:
    if not Path("b.csv").exists():
        write_baseline(Path("b.csv"), read_run(Run().write(Path("frozen"))))
    return Path("b.csv").read_bytes(), yaml.safe_load(Path("b.yaml").read_text(encoding="utf-8"))


def test_baselines():
    values, facts = baseline()
    run = read_run(Path("frozen"))
    facts["tolerances"] = [
        {"method": "rap", "protocol": "removal", "sign": "positive", "k": "50", "selected": 0.0, "logit": 0.5}
    ]
    text = yaml.safe_dump(facts).encode()

    @often
    @given(
        st.one_of(
            st.tuples(damaged(values), st.just(text)),
            st.tuples(st.just(values), damaged(text)),
            st.tuples(
                st.just(values),
                changed(facts).map(lambda tree: yaml.safe_dump(tree, allow_unicode=True).encode(errors="replace")),
            ),
        )
    )
    def fuzz(files):
        Path("b.csv").write_bytes(files[0])
        Path("b.yaml").write_bytes(files[1])
        with in_one_line():
            frozen = read_baseline(Path("b.csv"))
            if not differences(frozen, run):
                other_platform(frozen, run)
                compare(frozen, run, frozen.tolerances)

    fuzz()


@often
@given(st.one_of(st.text(max_size=40), st.text(alphabet="&*a[]{}:,- \n!|>'\"#%@`?<~0.\\", max_size=40)))
def test_yaml_values(text):
    said = ""
    try:
        reading.parse_yaml(text)
    except ValueError as error:
        said = str(error)
    assert "\n" not in said


SETTING = st.sampled_from(
    [
        "name",
        "chunk",
        "batch",
        "seed",
        "subset",
        "subset.n",
        "subset.require",
        "subset.manifest",
        "k",
        "k.positive",
        "method",
        "method.rap.flow",
        "method.rap",
        "protocol",
        "protocol.removal.k",
        "data",
        "data.root",
        "model",
        "device",
        "results",
        "output",
        "shard",
        "heatmaps",
        "gallery",
        "hydra.run.dir",
        "hydra",
        "experiment",
        "x",
        "",
    ]
)
VALUE = st.one_of(
    st.text(max_size=10),
    st.text(alphabet="[]{}(),:='\"$\\ ab1.-+~*@\n", max_size=12),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        [
            "null",
            "[]",
            "{}",
            "[null]",
            "{a: 1}",
            "${seed}",
            "${oc.env:HOME}",
            "${x}",
            "???",
            "true",
            "a,b",
            "range(3)",
            "1e999",
            "..",
            "/",
            "\0",
        ]
    ),
)


@pytest.mark.slow
@settings(often, max_examples=100)
@given(
    st.lists(
        st.tuples(st.sampled_from(["", "", "+", "++", "~"]), SETTING, st.sampled_from(["=", "=", "=", ""]), VALUE),
        min_size=1,
        max_size=3,
    )
)
def test_overrides(words):
    """Composed and checked as for a run, which is left out where they make sense."""
    said, told = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(said), redirect_stdout(told):
        patch.setattr(hydra_app, "job", lambda config: None)
        code = main(["run", *("".join(word) for word in words)])
    assert code in (0, 2)
    assert "Traceback" not in said.getvalue()
    assert code == 0 or len(said.getvalue().splitlines()) == 1


WORD = st.one_of(
    st.sampled_from(
        [
            "list",
            "report",
            "patterns",
            "subset",
            "verify",
            "drift",
            "store",
            "ls",
            "gc",
            "methods",
            "models",
            "data",
            "--baseline",
            "--update",
            "--results",
            "--n",
            "--seed",
            "--option",
            "--root",
            "--device",
            "-h",
            "--",
            "x=1",
        ]
    ),
    st.text(max_size=6),
    st.integers().map(str),
)


@often
@given(st.lists(WORD, max_size=5))
def test_words(words):
    said, told = io.StringIO(), io.StringIO()
    with redirect_stderr(said), redirect_stdout(told):
        try:
            code = main(words)
        except SystemExit as end:  # of -h
            code = end.code
    assert code in (0, 2)
    assert "Traceback" not in said.getvalue()
    assert code == 0 or len(said.getvalue().splitlines()) == 1
