"""Roots, label files and archives that are wrong: each gets one line that says what, where, and what to do."""

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.io import savemat

import rapbench
from rapbench.data import load_data
from tests import layouts
from tests.layouts import IMAGES, SYNSETS, Options, structs

LABELS = [label for _, label, _ in IMAGES]


def flat_with(name: str, text: str) -> Callable[[Path], Options]:
    def build(root: Path) -> Options:
        layouts.flat(root)
        (root / name).write_text(text)
        return {}

    return build


def kaggle(text: str) -> Callable[[Path], Options]:
    return flat_with("LOC_val_solution.csv", text)


def caffe(text: str) -> Callable[[Path], Options]:
    return flat_with("val.txt", text)


def devkit(change: Callable[[Path], object]) -> Callable[[Path], Options]:
    def build(root: Path) -> Options:
        layouts.flat(root)
        layouts.devkit(root)
        change(root)
        return {}

    return build


def truth(text: str) -> Callable[[Path], Options]:
    return devkit(lambda root: (root / "ILSVRC2012_validation_ground_truth.txt").write_text(text))


def other_meta(root: Path) -> None:
    table = np.empty((1, 1), dtype=[("ILSVRC2012_ID", object), ("WNID", object), ("num_children", object)])
    table[0, 0] = (1, "n00000001", 0)
    savemat(root / "meta.mat", {"synsets": table})


def kit(data: bytes | None = None, keep: tuple[str, ...] = ()) -> Callable[[Path], Options]:
    def build(root: Path) -> Options:
        layouts.flat(root)
        path = layouts.devkit_archive(root, keep)
        if data is not None:
            path.write_bytes(data)
        return {}

    return build


def archive(change: Callable[[Path], object], name: str = "ILSVRC2012_img_val.tar") -> Callable[[Path], Options]:
    def build(root: Path) -> Options:
        layouts.tar(root / name, layouts.flat)
        layouts.caffe(root / "val.txt")
        change(root / name)
        return {}

    return build


def cut(size: int) -> Callable[[Path], Options]:
    return archive(lambda path: path.write_bytes(path.read_bytes()[:size]))


def no_images(path: Path) -> None:
    with tarfile.open(path, "w") as file:
        file.add(path.parent / "val.txt", "val.txt")


def compressed(root: Path) -> Options:
    layouts.flat(root / "source")
    with tarfile.open(root / "val.tar.gz", "w:gz") as file:
        file.add(root / "source", ".")
    return {"root": root / "val.tar.gz"}


def shard(*arguments: object, name: str = "a.parquet", **kinds: object) -> Callable[[Path], Options]:
    return lambda root: layouts.parquet(root / name, *arguments, **kinds) or {}  # type: ignore[func-returns-value]


def written(name: str, data: bytes, inside: bool = False) -> Callable[[Path], Options]:
    def build(root: Path) -> Options:
        (root / name).write_bytes(data)
        return {"root": root / name} if inside else {}

    return build


def both(first: Callable[[Path], Options], **more: str) -> Callable[[Path], Options]:
    return lambda root: first(root) | more


first = IMAGES[0][0]
WRONG: dict[str, tuple[Callable[[Path], Options], str]] = {
    "no label file": (lambda root: layouts.flat(root) or {},
                      r"no labels for the images in .*imagenet; put LOC_val_solution.csv, val.txt, .*=predicted$"),
    "a label file that is not there": (both(caffe("x 1"), labels_file="none.txt"), "none.txt is not a file"),
    "an empty label file": (caffe("\n"), "val.txt is empty"),
    "a label file that is no text": (both(written("b.txt", b"\xff\xfe\x00"), labels_file="b.txt"), "is not UTF-8 text"),
    "caffe: another layout": (caffe("abc\n"), "val.txt, line 1: expected a file name and a class index, found 'abc'"),
    "caffe: a number beyond all": (caffe(f"\n{first} {10**30}\n"), "val.txt, line 2: expected a file name"),
    "caffe: counted from 1": (caffe(f"a 1\n{first} 1000\n"), r"val.txt, line 2: class index 1000 is not in 0..999"),
    "caffe: negative": (caffe(f"{first} -1\n"), "val.txt, line 1: expected"),
    "caffe: twice": (caffe(f"{first} 1\n{first} 2\n"), f"line 2: {first} has another label in an earlier line"),
    "caffe: too few": (caffe(f"{first} 1\n"), r"val.txt gives no label for ILSVRC2012_val_00000002.JPEG \(1 lines\)"),
    "kaggle: another header": (kaggle("a,b\n"), "line 1: expected the header ImageId,PredictionString, found 'a,b'"),
    "kaggle: no synset": (kaggle("ImageId,PredictionString\nx,\n"), "csv, line 2: expected an image and a synset"),
    "kaggle: unknown": (kaggle("ImageId,PredictionString\nx,n00000001 1 2 3 4\n"), "csv, line 2: .*n00000001"),
    "kaggle: too few": (kaggle(f"ImageId,PredictionString\n{first[:-5]},{SYNSETS[3]} 1\n"), "no label for .*02.JPEG"),
    "devkit: no meta.mat": (devkit(lambda root: (root / "meta.mat").unlink()), "needs the devkit's meta.mat beside it"),
    "devkit: meta.mat is none": (devkit(lambda root: (root / "meta.mat").write_bytes(b"x" * 300)),
                                 "meta.mat is not the devkit's .*; download it again"),
    "devkit: another meta.mat": (devkit(other_meta), "classes that are not ILSVRC-2012's: n00000001"),
    "devkit: an inner synset": (truth("5\n1001\n"), "ground_truth.txt, line 2: '1001' is no ILSVRC2012_ID"),
    "devkit: no number": (truth("5\nfive\n7\n"), "ground_truth.txt, line 2: 'five' is no ILSVRC2012_ID"),
    "devkit: a gap": (truth("5\n\n7\n"), "ground_truth.txt, line 2: '' is no ILSVRC2012_ID"),
    "devkit: too few": (truth("5\n6\n7\n"), r"gives no label for ILSVRC2012_val_00000004.JPEG \(3 lines\)"),
    "devkit: no number in a name": (devkit(lambda root: (root / "cat.jpg").touch()), "cat.jpg has no number in its"),
    "kit: damaged": (kit(b"\x1f\x8bxxx"), "devkit_t12.tar.gz cannot be read as the devkit's archive"),
    "kit: no truth": (kit(), "devkit_t12.tar.gz holds no ILSVRC2012_validation_ground_truth.txt"),
    "kit: no meta.mat": (kit(keep=("ILSVRC2012_validation_ground_truth.txt",)), "tar.gz holds no meta.mat"),
    "archive: cut in an image": (cut(70_000), r"img_val.tar cannot be read as a tar archive \(.*\); download it again"),
    "archive: cut after an image": (cut(512 + 512 + 512 * -(-len(IMAGES[0][2]) // 512)), "cannot be read as a tar"),
    "archive: empty": (cut(0), "cannot be read as a tar archive"),
    "archive: none": (archive(lambda path: path.write_bytes(b"x" * 5000)), "cannot be read as a tar archive"),
    "archive: without images": (archive(no_images), r"img_val.tar holds no images \(.bmp, "),
    "archive: compressed": (compressed, "val.tar.gz is compressed, .*; decompress it first"),
    "archive: foreign folders": (
        lambda root: layouts.tar(root / "a.tar", lambda at: layouts.flat(at / "n00000001")) or {"root": root / "a.tar"},
        "a.tar has folders that are no ILSVRC-2012 class: n00000001"),
    "a file of another kind": (written("a.zip", b"PK", inside=True), "a.zip is not a tar archive or a parquet"),
    "parquet: none": (written("a.parquet", b"x" * 100), "cannot be read as a parquet file .*; download"),
    "parquet: no rows": (shard([], []), "its parquet files have no rows"),
    "parquet: no label": (shard(structs(), None), r"no column 'label' \(it has image\); data.labels=predicted"),
    "parquet: no image": (shard([], [], image=pa.string()), "column 'image' is string; expected"),
    "parquet: others' classes": (shard(structs(), [0] * 20, ["cat", "dog"]), r"has 2 classes \('cat', ...\), which"),
    "parquet: hidden labels": (shard(structs(), [-1] * 20), "a.parquet, row 0: label -1 is no ImageNet class"),
    "parquet: out of range": (shard(structs(), [*LABELS[:-1], 1000]), "row 19: label 1000 is no ImageNet class"),
    "parquet: null label": (shard(structs(), [None] * 20), "row 0: label None is no ImageNet class"),
    "parquet: foreign synset": (shard(structs(), ["n00000001"] * 20, label=pa.string()), "label 'n00000001' is no"),
    "parquet: odd labels": (shard(structs(), [0.5] * 20, label=pa.float64()), "column 'label' is double; expected"),
    "parquet: only for training": (shard(structs(), LABELS, name="train-0.parquet"), "no validation-.*train-0"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_said_in_one_line(wrong, tmp_path, monkeypatch):
    build, says = WRONG[wrong]
    root = tmp_path / "imagenet"
    root.mkdir()
    monkeypatch.chdir(root)
    options = build(root)
    if "labels_file" in options:
        layouts.flat(root)
    with pytest.raises(rapbench.RapbenchError, match=says) as caught:
        load_data("imagenet", **{"root": str(options.pop("root", root))}, **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    layouts.by_class(tmp_path)
    locked = str(tmp_path / SYNSETS[LABELS[0]])
    scan = os.scandir

    def refuse(path: str | Path) -> object:
        if str(path) == locked:
            raise PermissionError(13, "Permission denied", locked)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for data, more in (("imagenet", {}), ("imagenet", {"labels": "predicted"}), ("folder", {})):
        with pytest.raises(rapbench.RapbenchError, match=rf"{locked} cannot be read \(Permission denied\); give"):
            load_data(data, root=str(tmp_path), **more)


def test_an_image_without_bytes_in_a_shard_is_an_os_error(tmp_path):
    images = [*structs()[:-1], {"bytes": None, "path": IMAGES[-1][0]}]
    layouts.parquet(tmp_path / "a.parquet", images, LABELS)
    dataset = load_data("imagenet", root=str(tmp_path))
    assert dataset.read(IMAGES[0][0]) == IMAGES[0][2]
    with pytest.raises(OSError, match=r"a\.parquet has no bytes in its row"):
        dataset.read(IMAGES[-1][0])


def test_an_archive_that_shrinks_after_its_index_is_an_os_error(tmp_path):
    layouts.tar(tmp_path / "ILSVRC2012_img_val.tar", layouts.flat)
    layouts.caffe(tmp_path / "val.txt")
    dataset = load_data("imagenet", root=str(tmp_path))
    (tmp_path / "ILSVRC2012_img_val.tar").write_bytes(b"x" * 1000)
    with pytest.raises(OSError, match=rf"ends within {first}"):
        dataset.read(first)
