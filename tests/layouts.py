"""ImageNet's layouts as small real copies: each is made of the embedded images, and says the same of them."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.io import savemat
from timm.data import ImageNetInfo

from rapbench.data.samples import samples

SYNSETS = ImageNetInfo("imagenet-1k").label_names()
SOURCE = samples()
# name, class index, bytes
IMAGES = [
    (f"ILSVRC2012_val_{number:08d}.JPEG", sample.label, SOURCE.read(sample.file))
    for number, sample in enumerate(SOURCE.samples, start=1)
]
IDS = {synset: 1 + (437 * place + 11) % 1000 for place, synset in enumerate(SYNSETS)}  # not in the synsets' order

Options = dict[str, Any]


def flat(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, _, data in IMAGES:
        (folder / name).write_bytes(data)


def by_class(folder: Path) -> None:
    for name, label, data in IMAGES:
        (folder / SYNSETS[label]).mkdir(parents=True, exist_ok=True)
        (folder / SYNSETS[label] / name).write_bytes(data)


def kaggle(file: Path) -> None:
    lines = [f"{Path(name).stem},{SYNSETS[label]} 85 1 499 272 {SYNSETS[label]} 3 4 5 6 " for name, label, _ in IMAGES]
    file.write_text("\n".join(["ImageId,PredictionString", *lines[::-1]]) + "\n")


def caffe(file: Path, prefix: str = "") -> None:
    file.write_text("".join(f"{prefix}{name} {label}\n" for name, label, _ in IMAGES[::-1]))


def devkit(folder: Path) -> Path:
    """Write the ground truth and meta.mat as they are published: an array of structures, inner synsets among them."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = folder / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("".join(f"{IDS[SYNSETS[label]]}\n" for _, label, _ in IMAGES))
    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height",
              "num_train_images")  # fmt: skip
    rows = [(IDS[wnid], wnid, "words", "gloss", 0, [], 0, 1300) for wnid in sorted(IDS, key=lambda wnid: IDS[wnid])]
    rows += [(1001 + i, f"n9999999{i}", "inner", "gloss", 2, [i + 1, i + 2], 1, 0) for i in range(3)]
    table = np.empty((len(rows), 1), dtype=[(field, object) for field in fields])
    table[:, 0] = rows
    savemat(folder / "meta.mat", {"synsets": table})
    return truth


def devkit_archive(
    folder: Path, keep: tuple[str, ...] = ("meta.mat", "ILSVRC2012_validation_ground_truth.txt")
) -> Path:
    devkit(folder / "unpacked")
    path = folder / "ILSVRC2012_devkit_t12.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in keep:
            archive.add(folder / "unpacked" / name, f"ILSVRC2012_devkit_t12/data/{name}")
    shutil.rmtree(folder / "unpacked")
    return path


def tar(path: Path, source: Callable[[Path], None], prefix: str = "") -> None:
    source(path.parent / "source")
    with tarfile.open(path, "w") as archive:
        archive.add(path.parent / "source", prefix or ".")
    shutil.rmtree(path.parent / "source")


def parquet(path: Path, images: list, labels: list | None, names: list[str] | None = None, **kinds: Any) -> None:
    """Write a shard as Hugging Face does. names: the ClassLabel's. kinds: column types other than theirs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"image": pa.array(images, kinds.get("image", struct))}
    if labels is not None:
        columns["label"] = pa.array(labels, kinds.get("label", pa.int64()))
    table = pa.table(columns)
    if names:
        info = {"info": {"features": {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, path, row_group_size=kinds.get("rows", 4))


def structs(images: list = IMAGES) -> list:
    return [{"bytes": data, "path": name} for name, _, data in images]


def class_folders_in_val(root: Path) -> Options:
    by_class(root / "val")
    (root / "val" / SYNSETS[999]).mkdir(exist_ok=True)  # a class without images
    (root / "train" / SYNSETS[0]).mkdir(parents=True)
    return {"root": root}


def class_folders(root: Path) -> Options:
    by_class(root)
    return {"root": root}


def linked_class_folders(root: Path) -> Options:
    by_class(root.parent / "elsewhere")
    root.mkdir()
    for folder in (root.parent / "elsewhere").iterdir():
        (root / folder.name).symlink_to(folder)
    return {"root": root}


def flat_with_devkit(root: Path) -> Options:
    flat(root / "val")
    devkit(root / "ILSVRC2012_devkit_t12" / "data")
    return {"root": root}


def flat_with_devkit_archive(root: Path) -> Options:
    flat(root / "ILSVRC2012_img_val")
    devkit_archive(root)
    return {"root": root}


def flat_with_caffe(root: Path) -> Options:
    flat(root / "val")
    caffe(root / "val.txt", "val/")
    return {"root": root / "val"}


def flat_with_kaggle(root: Path) -> Options:
    flat(root / "ILSVRC" / "Data" / "CLS-LOC" / "val")
    kaggle(root / "LOC_val_solution.csv")
    return {"root": root}


def flat_with_kaggle_above(root: Path) -> Options:
    flat(root / "ILSVRC" / "Data" / "CLS-LOC" / "val")
    kaggle(root / "LOC_val_solution.csv")
    return {"root": root / "ILSVRC"}


def flat_with_a_file_named(root: Path) -> Options:
    flat(root / "images")
    caffe(root / "mine.txt")
    return {"root": root / "images", "labels_file": str(root / "mine.txt")}


def archive_with_devkit(root: Path) -> Options:
    root.mkdir()
    tar(root / "ILSVRC2012_img_val.tar", flat)
    devkit_archive(root)
    return {"root": root}


def archive_itself_with_caffe(root: Path) -> Options:
    root.mkdir()
    tar(root / "mine.tar", flat, "some/folder")
    caffe(root / "val.txt")
    return {"root": root / "mine.tar"}


def archive_of_class_folders(root: Path) -> Options:
    root.mkdir()
    tar(root / "ILSVRC2012_img_val.tar", by_class, "val")
    return {"root": root}


def parquet_shards(root: Path) -> Options:
    names = [f"{place}, as people call it" for place in range(1000)]
    for part, images in enumerate((IMAGES[:11], IMAGES[11:])):
        labels = [label for _, label, _ in images]
        parquet(root / "data" / f"validation-{part:05d}-of-00002.parquet", structs(images), labels, names)
    parquet(root / "data" / "train-00000-of-00001.parquet", structs(IMAGES[:1]), [7], names)
    return {"root": root}


def parquet_of_bytes(root: Path) -> Options:
    parquet(root / "a.parquet", [data for _, _, data in IMAGES], [label for _, label, _ in IMAGES], image=pa.binary())
    return {"root": root / "a.parquet"}


def parquet_without_paths(root: Path) -> Options:
    images = [{"bytes": data, "path": None} for _, _, data in IMAGES]
    parquet(root / "mine.parquet", images, [label for _, label, _ in IMAGES], rows=100)
    return {"root": root}


def parquet_of_some_synsets(root: Path) -> Options:
    some = [SYNSETS[label] for label in sorted({label for _, label, _ in IMAGES}, reverse=True)]
    parquet(root / "mine.parquet", structs(), [some.index(SYNSETS[label]) for _, label, _ in IMAGES], some)
    return {"root": root}


def parquet_labelled_by_synset(root: Path) -> Options:
    kind = pa.dictionary(pa.int32(), pa.string())
    parquet(root / "mine.parquet", structs(), [SYNSETS[label] for _, label, _ in IMAGES], label=kind)
    return {"root": root}


LAYOUTS: list[Callable[[Path], Options]] = [
    class_folders_in_val, class_folders, linked_class_folders, flat_with_devkit, flat_with_devkit_archive,
    flat_with_caffe, flat_with_kaggle, flat_with_kaggle_above, flat_with_a_file_named, archive_with_devkit,
    archive_itself_with_caffe, archive_of_class_folders, parquet_shards, parquet_of_bytes, parquet_without_paths,
    parquet_of_some_synsets, parquet_labelled_by_synset,
]  # fmt: skip
