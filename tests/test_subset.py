"""The subset: the draw, the manifest, and what a run does when images break or change."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import rapbench
from rapbench.data._dataset import Sample
from rapbench.data._subset import draw_order, load_images, load_manifest, select, unchanged
from rapbench.data.imagenet import imagenet
from rapbench.data.samples import samples

CPU = torch.device("cpu")


def test_the_draw_hangs_on_the_seed_and_the_names_alone():
    files = [Sample(f"{i:03d}.jpg", i) for i in range(50)]
    drawn = draw_order(files, 0)
    assert sorted(drawn, key=lambda sample: sample.file) == files
    assert draw_order(files[::-1], 0) == drawn
    assert draw_order(files, 1) != drawn
    assert [sample.label for sample in drawn[:5]] == [43, 1, 28, 14, 36]  # frozen: a draw never changes


def test_the_subset_is_the_first_n_correct_images_of_the_draw(lite, imagenet_root, tmp_path):
    dataset = imagenet(root=str(imagenet_root))
    subset = select(lite, dataset, 6, 3, CPU, batch=4)
    want = []
    for sample in draw_order(dataset.samples, 3):
        with torch.no_grad():
            logits = lite(lite.transform(Image.open(dataset.root / sample.file))[None])[0]
        if logits.argmax() == sample.label and len(want) < 6:
            want.append((sample.file, sample.label, pytest.approx(logits[sample.label].item(), rel=1e-4)))
    assert [(row.file, row.label, row.logit) for row in subset.rows] == want
    subset.save(tmp_path / "manifest.csv")
    again = load_manifest(tmp_path / "manifest.csv")
    assert again.rows == subset.rows
    assert again.identity == subset.identity
    assert load_images(again, dataset, lite, slice(2, 5)).shape == (3, 3, 224, 224)


def test_a_subset_cannot_be_larger_than_what_is_correct(lite):
    assert len(select(lite, samples(), 500, 0, CPU).rows) == 18


def test_a_file_that_changed_or_is_missing_is_named(lite, imagenet_root):
    dataset = imagenet(root=str(imagenet_root))
    subset = select(lite, dataset, 3, 0, CPU)
    assert unchanged(subset, dataset)
    victim = dataset.root / subset.rows[1].file
    victim.write_bytes(victim.read_bytes() + b"\0")
    with pytest.raises(rapbench.RapbenchError, match=f"{victim.name} has changed since"):
        load_images(subset, dataset, lite, slice(0, 3))
    assert not unchanged(subset, dataset)
    victim.unlink()
    assert not unchanged(subset, dataset)
    with pytest.raises(rapbench.RapbenchError, match=f"{victim.name}, named by the manifest, cannot be read"):
        load_images(subset, dataset, lite, slice(0, 3))


def test_broken_images_are_left_out_and_more_than_one_per_cent_is_an_error(lite, imagenet_root, capfd):
    victim = next((imagenet_root / "val").rglob("*.JPEG"))
    victim.write_bytes(victim.read_bytes()[:2000])
    with pytest.raises(rapbench.RapbenchError, match=rf"1 of 20 images .* cannot be decoded \(.*{victim.name}\)"):
        select(lite, imagenet(root=str(imagenet_root)), 100, 0, CPU)
    for copy in range(120):  # one in 140 is less than 1 %
        shutil.copy(
            imagenet_root / "val" / "n02108422" / "imagenet_00_243.JPEG",
            imagenet_root / "val" / "n02108422" / f"{copy}.JPEG",
        )
    subset = select(lite, imagenet(root=str(imagenet_root)), 200, 0, CPU)
    assert [Path(file).name for file in subset.broken] == [victim.name]
    assert f"{victim.name} cannot be decoded" in "".join(capfd.readouterr())
    assert victim.name not in {Path(row.file).name for row in subset.rows}


def test_no_correct_image_is_an_error(lite, imagenet_root):
    for folder in list((imagenet_root / "val").iterdir()):
        if folder.name != "n02108422":
            shutil.rmtree(folder)
    (imagenet_root / "val" / "n02108422").rename(imagenet_root / "val" / "n01440764")  # a dog among the tenches
    with pytest.raises(rapbench.RapbenchError, match="efficientnet_lite0 classifies none of the 1 images"):
        select(lite, imagenet(root=str(imagenet_root)), 5, 0, CPU)


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
