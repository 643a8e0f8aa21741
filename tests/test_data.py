"""Data sets, decoding and the subset, on small real copies of the layouts."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from timm.data import ImageNetInfo

import rapbench
from rapbench.data import datasets
from rapbench.data._dataset import Sample
from rapbench.data._decode import decode_ahead
from rapbench.data._subset import draw_order, load_images, load_manifest, select, unchanged
from rapbench.data.imagenet import imagenet
from rapbench.data.samples import samples

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    return rapbench.load_model("efficientnet_lite0")


@pytest.fixture
def root(tmp_path) -> Path:
    """The embedded images in ImageNet's layout: val/<wnid>/<file>."""
    synsets = ImageNetInfo("imagenet-1k").label_names()
    source = samples()
    for sample in source.samples:
        folder = tmp_path / "imagenet" / "val" / synsets[sample.label]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(source.root / sample.file, folder / f"{Path(sample.file).stem}.JPEG")
    return tmp_path / "imagenet"


def test_the_samples_are_twenty_labelled_images():
    dataset = datasets["samples"].function()
    assert len(dataset.samples) == 20
    assert dataset.embedded
    assert dataset.samples[0] == Sample("imagenet_00_243.jpg", 243)
    for sample in dataset.samples:
        with Image.open(dataset.root / sample.file) as image:
            assert min(image.size) >= 224


def test_a_label_is_its_place_among_all_synsets(root):
    want = {Path(sample.file).stem: sample.label for sample in samples().samples}
    for place in (root, root / "val"):
        dataset = imagenet(root=str(place))
        assert {Path(sample.file).stem: sample.label for sample in dataset.samples} == want
        assert [sample.file for sample in dataset.samples] == sorted(sample.file for sample in dataset.samples)


def test_roots_that_are_not_imagenet_are_named(root, tmp_path):
    empty, flat, foreign, hollow = (tmp_path / name for name in ("empty", "flat", "foreign", "hollow"))
    for folder in (empty, flat, foreign / "n00000001", hollow / "n01440764"):
        folder.mkdir(parents=True)
    (flat / "cat.jpg").write_bytes(b"x")
    for place, says in (
        (None, "needs data.root"),
        (tmp_path / "nowhere", "nowhere is not a folder; expected ROOT/<wnid>"),
        (empty, "is empty; expected"),
        (flat, "has no class folders; expected"),
        (foreign, "no ILSVRC-2012 class: n00000001"),
        (hollow, "hold no images"),
    ):
        with pytest.raises(rapbench.RapbenchError, match=says):
            imagenet(root=None if place is None else str(place))


def test_the_draw_hangs_on_the_seed_and_the_names_alone():
    files = [Sample(f"{i:03d}.jpg", i) for i in range(50)]
    drawn = draw_order(files, 0)
    assert sorted(drawn, key=lambda sample: sample.file) == files
    assert draw_order(files[::-1], 0) == drawn
    assert draw_order(files, 1) != drawn
    assert [sample.label for sample in drawn[:5]] == [43, 1, 28, 14, 36]  # frozen: a draw never changes


def test_decoding_ahead_keeps_the_order(model):
    dataset = samples()
    decoded = list(decode_ahead(dataset, dataset.samples, model.transform, ahead=3))
    assert [image.sample for image in decoded] == dataset.samples
    want = model.transform(Image.open(dataset.root / dataset.samples[7].file))
    assert torch.equal(decoded[7].pixels, want)


def test_the_subset_is_the_first_n_correct_images_of_the_draw(model, root, tmp_path):
    dataset = imagenet(root=str(root))
    subset = select(model, dataset, 6, 3, CPU, batch=4)
    want = []
    for sample in draw_order(dataset.samples, 3):
        with torch.no_grad():
            logits = model(model.transform(Image.open(dataset.root / sample.file))[None])[0]
        if logits.argmax() == sample.label and len(want) < 6:
            want.append((sample.file, sample.label, pytest.approx(logits[sample.label].item(), rel=1e-4)))
    assert [(row.file, row.label, row.logit) for row in subset.rows] == want
    subset.save(tmp_path / "manifest.csv")
    again = load_manifest(tmp_path / "manifest.csv")
    assert again.rows == subset.rows
    assert again.identity == subset.identity
    assert load_images(again, dataset, model, slice(2, 5)).shape == (3, 3, 224, 224)


def test_a_subset_cannot_be_larger_than_what_is_correct(model):
    assert len(select(model, samples(), 500, 0, CPU).rows) == 18


def test_a_file_that_changed_or_is_missing_is_named(model, root):
    dataset = imagenet(root=str(root))
    subset = select(model, dataset, 3, 0, CPU)
    assert unchanged(subset, dataset)
    victim = dataset.root / subset.rows[1].file
    victim.write_bytes(victim.read_bytes() + b"\0")
    with pytest.raises(rapbench.RapbenchError, match=f"{victim.name} has changed since"):
        load_images(subset, dataset, model, slice(0, 3))
    assert not unchanged(subset, dataset)
    victim.unlink()
    assert not unchanged(subset, dataset)
    with pytest.raises(rapbench.RapbenchError, match=f"{victim.name}, named by the manifest, cannot be read"):
        load_images(subset, dataset, model, slice(0, 3))


def test_broken_images_are_left_out_and_more_than_one_per_cent_is_an_error(model, root, capfd):
    victim = next((root / "val").rglob("*.JPEG"))
    victim.write_bytes(victim.read_bytes()[:2000])
    with pytest.raises(rapbench.RapbenchError, match=rf"1 of 20 images .* cannot be decoded \(.*{victim.name}\)"):
        select(model, imagenet(root=str(root)), 100, 0, CPU)
    for copy in range(120):  # one in 140 is less than 1 %
        shutil.copy(root / "val" / "n02108422" / "imagenet_00_243.JPEG", root / "val" / "n02108422" / f"{copy}.JPEG")
    subset = select(model, imagenet(root=str(root)), 200, 0, CPU)
    assert [Path(file).name for file in subset.broken] == [victim.name]
    assert f"{victim.name} cannot be decoded" in "".join(capfd.readouterr())
    assert victim.name not in {Path(row.file).name for row in subset.rows}


def test_no_correct_image_is_an_error(model, root):
    for folder in list((root / "val").iterdir()):
        if folder.name != "n02108422":
            shutil.rmtree(folder)
    (root / "val" / "n02108422").rename(root / "val" / "n01440764")  # a dog among the tenches
    with pytest.raises(rapbench.RapbenchError, match="efficientnet_lite0 classifies none of the 1 images"):
        select(model, imagenet(root=str(root)), 5, 0, CPU)


@pytest.mark.parametrize(("text", "says"), [
    ("file,label\n", "names no images"),
    ("file,label,sha256,logit,model,weights_sha256\na.jpg,five,0,1,m,w\n", "line 2: not a manifest line"),
    ("file,label\na.jpg,5\n", "line 2: not a manifest line"),
])  # fmt: skip
def test_a_manifest_that_is_none_is_named(tmp_path, text, says):
    path = tmp_path / "m.csv"
    path.write_text(text)
    with pytest.raises(rapbench.RapbenchError, match=says):
        load_manifest(path)
    with pytest.raises(rapbench.RapbenchError, match="is not a file"):
        load_manifest(tmp_path / "none.csv")
