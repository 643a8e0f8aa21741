"""ImageNet in every layout that users have it in: the same labels and the same bytes from each."""

import hashlib
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest

import rapbench
from rapbench.app.cli import main
from rapbench.data import load_data
from rapbench.data.decoding.decode import decode_ahead
from rapbench.data.labelled.dataset import UNLABELLED, Dataset
from rapbench.data.layouts import parquet
from tests import layouts
from tests.layouts import IMAGES, LAYOUTS

WANT = {hashlib.sha256(data).hexdigest(): label for _, label, data in IMAGES}
FLAT = [name for name, _, _ in IMAGES]


def opened(options: layouts.Options, **more: str) -> Dataset:
    return load_data("imagenet", **options | {"root": str(options["root"])} | more)


def hashes(dataset: Dataset) -> dict[str, int]:
    return {hashlib.sha256(dataset.read(sample.file)).hexdigest(): sample.label for sample in dataset.samples}


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.__name__)
def options(request, tmp_path) -> layouts.Options:
    return request.param(tmp_path / "imagenet")


def test_every_layout_says_the_same(options):
    dataset = opened(options)
    assert hashes(dataset) == WANT
    files = [sample.file for sample in dataset.samples]
    assert files == sorted(files)
    assert dataset.description.startswith("20 ImageNet images in ")
    assert dataset.name == "imagenet"
    assert not dataset.embedded
    if "#" not in files[0] and files[0].startswith("ILSVRC2012"):  # one identity, however they are packed
        assert files == FLAT
        lines = [f"{name} {label}" for name, label, _ in IMAGES]
        assert dataset.identity == hashlib.sha256("\n".join([*lines, "upright=False"]).encode()).hexdigest()


def test_every_layout_survives_pickling_and_is_decoded_in_processes(options, lite):
    dataset = pickle.loads(pickle.dumps(opened(options)))
    decoded = list(decode_ahead(dataset, dataset.samples, lite.transform, workers=2))
    assert {image.sha256: image.sample.label for image in decoded} == WANT
    assert not any(image.error for image in decoded)


def test_every_layout_can_do_without_its_labels(options):
    options.pop("labels_file", None)
    dataset = opened(options, labels="predicted")
    assert hashes(dataset).keys() == WANT.keys()
    assert {sample.label for sample in dataset.samples} == {UNLABELLED}
    assert dataset.description.startswith("20 images in ")


def test_a_row_group_too_large_to_keep_is_run_through(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "KEPT_GROUP", 0)
    monkeypatch.setattr(parquet, "_kept", OrderedDict())
    for layout in (layouts.parquet_without_paths, layouts.parquet_of_bytes):
        assert hashes(opened(layout(tmp_path / layout.__name__))) == WANT
    assert not parquet._kept


def test_a_run_gives_the_same_bytes_whatever_the_layout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = set()
    for layout in (layouts.flat_with_kaggle, layouts.archive_with_devkit, layouts.parquet_shards):
        root = layout(tmp_path / layout.__name__)["root"]
        assert main(["run", "model=efficientnet_lite0", "data=imagenet", f"data.root={root}", "subset.n=3", "chunk=2",
                     "method=[random]", "protocol=[distance]", f"results={root}"]) == 0  # fmt: skip
        folder = root / "run/efficientnet_lite0"
        found.add(tuple((folder / name).read_bytes() for name in ("manifest.csv", "results.parquet")))
    assert len(found) == 1


def test_a_file_that_is_not_there_is_an_os_error(options):
    with pytest.raises(OSError, match=r"none\.JPEG"):
        opened(options).read("n01440764/none.JPEG")


def test_the_first_label_file_wins_and_is_named(tmp_path):
    layouts.flat(tmp_path / "val")
    layouts.devkit_archive(tmp_path)
    assert opened({"root": tmp_path}).description.endswith("in val/, labels from ILSVRC2012_devkit_t12.tar.gz")
    layouts.caffe(tmp_path / "val.txt")
    assert opened({"root": tmp_path}).description.endswith(", labels from val.txt")
    layouts.kaggle(tmp_path / "LOC_val_solution.csv")
    assert opened({"root": tmp_path}).description.endswith(", labels from LOC_val_solution.csv")
    other = tmp_path / "mine.txt"
    other.write_text("".join(f"{name} 5\n" for name in FLAT))
    dataset = opened({"root": tmp_path}, labels_file=str(other))
    assert {sample.label for sample in dataset.samples} == {5}


def test_a_file_of_labels_overrides_the_folders(tmp_path):
    layouts.by_class(tmp_path)
    (tmp_path / "mine.txt").write_text("".join(f"{name} 5\n" for name in FLAT))
    dataset = opened({"root": tmp_path}, labels_file=str(tmp_path / "mine.txt"))
    assert {sample.label for sample in dataset.samples} == {5}


def test_what_is_hidden_is_no_image(tmp_path):
    options = layouts.class_folders(tmp_path)
    folder = next(path for path in tmp_path.iterdir() if path.is_dir())
    for name in ("._ILSVRC2012_val_00000001.JPEG", ".hidden.png", "notes.txt"):
        (folder / name).write_bytes(b"x")
    assert hashes(opened(options)) == WANT


def test_labels_given_depend_on_all_synsets_not_on_those_there(tmp_path):
    """The first of two folders is class 1, not 0."""
    for label in (1, 3):
        folder = tmp_path / layouts.SYNSETS[label]
        folder.mkdir()
        (folder / "a.JPEG").write_bytes(b"x")
    assert [sample.label for sample in opened({"root": tmp_path}).samples] == [1, 3]


def test_upright_is_asked_for_and_part_of_the_identity(tmp_path):
    options = layouts.class_folders(tmp_path)
    plain, upright = opened(options), opened(options, exif="apply")
    assert (plain.upright, upright.upright) == (False, True)
    assert plain.identity != upright.identity
    assert plain.identity == opened(options).identity
    assert plain.identity != opened(options, labels="predicted").identity


def test_without_labels_any_depth_will_do(tmp_path):
    layouts.flat(tmp_path / "a" / "b")
    assert [sample.file for sample in opened({"root": tmp_path}, labels="predicted").samples] == [
        f"a/b/{name}" for name in FLAT
    ]


def test_val_comes_before_what_lies_beside_it(tmp_path):
    layouts.by_class(tmp_path / "val")
    layouts.flat(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.jpg").write_bytes(b"x")
    for labels in ("given", "predicted"):
        dataset = opened({"root": tmp_path}, labels=labels)
        assert dataset.root == tmp_path / "val"
        assert len(dataset.samples) == 20


def test_an_option_that_is_none_is_named(tmp_path):
    with pytest.raises(rapbench.RapbenchError, match="option labels='guessed'"):
        opened({"root": tmp_path}, labels="guessed")
    with pytest.raises(rapbench.RapbenchError, match="labels_file has no meaning with"):
        opened({"root": tmp_path}, labels="predicted", labels_file="a")


def test_a_relative_root_and_a_home_are_understood(tmp_path, monkeypatch):
    layouts.class_folders(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for root in ("here", "~/here"):
        assert opened({"root": root}).root == Path(tmp_path / "here").resolve()
