"""Data sets, decoding and the subset, on small real copies of the layouts."""

from pathlib import Path

import pytest
import torch
from PIL import Image

import rapbench
from rapbench.data import datasets
from rapbench.data.decoding.decode import decode_ahead
from rapbench.data.imagenet import imagenet
from rapbench.data.labelled.dataset import Sample
from rapbench.data.samples import samples


def test_the_samples_are_twenty_labelled_images():
    dataset = datasets["samples"].function()
    assert len(dataset.samples) == 20
    assert dataset.embedded
    assert dataset.samples[0] == Sample("imagenet_00_243.jpg", 243)
    for sample in dataset.samples:
        with Image.open(dataset.root / sample.file) as image:
            assert min(image.size) >= 224


def test_a_label_is_its_place_among_all_synsets(imagenet_root):
    want = {Path(sample.file).stem: sample.label for sample in samples().samples}
    for place in (imagenet_root, imagenet_root / "val"):
        dataset = imagenet(root=str(place))
        assert {Path(sample.file).stem: sample.label for sample in dataset.samples} == want
        assert [sample.file for sample in dataset.samples] == sorted(sample.file for sample in dataset.samples)


def test_roots_that_are_not_imagenet_are_named(imagenet_root, tmp_path):
    empty, flat, foreign, hollow = (tmp_path / name for name in ("empty", "flat", "foreign", "hollow"))
    for folder in (empty, flat, foreign / "n00000001", hollow / "n01440764"):
        folder.mkdir(parents=True)
    (flat / "cat.txt").write_bytes(b"x")
    for place, says in (
        (None, "needs data.root"),
        (tmp_path / "nowhere", "nowhere is not a folder or an archive; expected ROOT/<wnid>"),
        (empty, "is empty; expected"),
        (flat, "holds no images that are known here; expected"),
        (foreign, "no ILSVRC-2012 class: n00000001"),
        (hollow, "hold no images"),
    ):
        with pytest.raises(rapbench.RapbenchError, match=says):
            imagenet(root=None if place is None else str(place))


def test_decoding_ahead_keeps_the_order(lite):
    dataset = samples()
    decoded = list(decode_ahead(dataset, dataset.samples, lite.transform, ahead=3))
    assert [image.sample for image in decoded] == dataset.samples
    want = lite.transform(Image.open(dataset.root / dataset.samples[7].file))
    assert torch.equal(decoded[7].pixels, want)
