"""The subset: the draw, the manifest, and what a run does when images break or change."""

import copy
import dataclasses
import functools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

import rapbench
from rapbench.data.imagenet import imagenet
from rapbench.data.labelled.dataset import UNLABELLED, Sample
from rapbench.data.samples import samples
from rapbench.data.subset import select as selecting
from rapbench.data.subset.images import load_images
from rapbench.data.subset.manifest import load_manifest
from rapbench.data.subset.select import draw_order, select
from rapbench.evaluation.identity import draw_key
from rapbench.model import Model
from rapbench.store.draws import Draws
from rapbench.store.sealed import write_sealed
from tests.small import small

CPU = torch.device("cpu")


def test_the_draw_depends_on_the_seed_and_the_names_alone():
    files = [Sample(f"{i:03d}.jpg", i) for i in range(50)]
    drawn = draw_order(files, 0)
    assert sorted(drawn, key=lambda sample: sample.file) == files
    assert draw_order(files[::-1], 0) == drawn
    assert draw_order(files, 1) != drawn
    assert [sample.label for sample in drawn[:5]] == [43, 1, 28, 14, 36]  # frozen: a draw never changes


def test_the_subset_is_the_first_n_correct_images_of_the_draw(lite, imagenet_root, tmp_path):
    dataset = imagenet(root=str(imagenet_root))
    subset = select([lite], dataset, 6, 3, CPU)
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
    chunks = list(load_images(again, dataset, lite.transform, [slice(2, 5), slice(0, 1)]))
    assert [chunk.shape for chunk in chunks] == [(3, 3, 224, 224), (1, 3, 224, 224)]
    assert torch.equal(chunks[1][0], lite.transform(Image.open(dataset.root / subset.rows[0].file)))
    assert torch.equal(chunks[0][2], lite.transform(Image.open(dataset.root / subset.rows[4].file)))


def test_a_subset_cannot_be_larger_than_what_is_correct(lite):
    assert len(select([lite], samples(), 500, 0, CPU).rows) == 18


def test_a_file_that_changed_or_is_missing_is_named(lite, imagenet_root):
    dataset = imagenet(root=str(imagenet_root))
    subset = select([lite], dataset, 3, 0, CPU)
    victim = dataset.root / subset.rows[1].file
    victim.write_bytes(victim.read_bytes() + b"\0")
    with pytest.raises(rapbench.RapbenchError, match=f"{victim.name} in .* has changed since"):
        list(load_images(subset, dataset, lite.transform, [slice(0, 3)]))
    victim.unlink()
    with pytest.raises(rapbench.RapbenchError, match=f"{victim.name} in .*, named by the manifest, cannot be read"):
        list(load_images(subset, dataset, lite.transform, [slice(0, 3)]))


def draws(store: Path) -> Draws:
    return Draws(store, functools.partial(draw_key, device=CPU))


class Watched(nn.Module):
    """A network that notes the size of every batch, and fails at one when told to."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.sizes: list[int] = []
        self.failing: int | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(self.sizes) == self.failing:
            raise KeyboardInterrupt
        self.sizes.append(len(x))
        return self.network(x)


@pytest.fixture
def watched(monkeypatch) -> Model:
    monkeypatch.setattr(selecting, "BATCH", 4)
    model = small()
    return Model(Watched(model.network), transform=model.transform, facts=model.facts)


def test_what_a_model_said_is_not_asked_again(watched, imagenet_root, tmp_path):
    dataset = imagenet(root=str(imagenet_root))
    few = select([watched], dataset, 5, 0, CPU, draws(tmp_path / "store"))
    asked = len(watched.network.sizes)
    assert asked == 2
    assert select([watched], dataset, 5, 0, CPU, draws(tmp_path / "store")) == few
    assert len(watched.network.sizes) == asked
    more = select([watched], dataset, 12, 0, CPU, draws(tmp_path / "store"))
    assert more.rows[:5] == few.rows
    assert more == select([watched], dataset, 12, 0, CPU)
    assert watched.network.sizes == [4] * (3 + 3)  # what was known, and the rest once; then all of it without a store
    select([watched], dataset, 5, 1, CPU, draws(tmp_path / "store"))  # another seed is another draw
    assert len(watched.network.sizes) == 8
    watched.transform = replace(
        watched.transform, interpolation="bicubic"
    )  # as is other preprocessing of the same weights
    select([watched], dataset, 5, 0, CPU, draws(tmp_path / "store"))
    assert len(watched.network.sizes) == 10


def test_a_stopped_draw_goes_on_at_the_batch_it_was_on(watched, imagenet_root, tmp_path):
    dataset = imagenet(root=str(imagenet_root))
    want = select([watched], dataset, 500, 0, CPU)
    watched.network.sizes.clear()
    watched.network.failing = 3
    with pytest.raises(KeyboardInterrupt):
        select([watched], dataset, 500, 0, CPU, draws(tmp_path))
    watched.network.failing = None
    assert select([watched], dataset, 500, 0, CPU, draws(tmp_path)) == want
    assert watched.network.sizes == [4] * 5


def test_a_changed_file_makes_a_new_verdict(watched, imagenet_root, tmp_path):
    dataset = imagenet(root=str(imagenet_root))
    before = select([watched], dataset, 500, 0, CPU, draws(tmp_path))
    victim, other = (dataset.root / row.file for row in before.rows[:2])
    victim.write_bytes(other.read_bytes())  # another class's picture
    after = select([watched], dataset, 500, 0, CPU, draws(tmp_path))
    assert [row.file for row in after.rows] == [row.file for row in before.rows[1:]]


def test_a_kept_file_that_is_broken_is_made_anew(watched, imagenet_root, tmp_path, capsys):
    dataset = imagenet(root=str(imagenet_root))
    want = select([watched], dataset, 500, 0, CPU, draws(tmp_path))
    victim = next(tmp_path.glob("draws/*/00001-*.json"))
    victim.write_text(victim.read_text().replace(", ", ",  ", 1))
    assert select([watched], dataset, 500, 0, CPU, draws(tmp_path)) == want
    assert "is damaged: its checksum is wrong; moved to" in capsys.readouterr().err


def renewed(path: Path, change) -> None:
    """Put a file in a batch's place that holds other things, with a name that its bytes deserve."""
    held = json.loads(path.read_text())
    path.unlink()
    write_sealed(path.parent, path.name.rpartition("-")[0], "json", json.dumps(change(held)).encode())


def first(held: dict, value: object, place: int) -> dict:
    held["verdicts"][0][place] = value
    return held


FOREIGN = {
    "another batch's": lambda path: [shutil.copy(other, path.with_name(f"00001-{other.name.partition('-')[2]}"))
                                     for other in path.parent.glob("00000-*")],
    "another draw's": lambda path: renewed(path, lambda held: held | {"key": held["key"] | {"seed": 5}}),
    "a list, as other versions kept": lambda path: renewed(path, lambda held: held["verdicts"]),
    "null": lambda path: renewed(path, lambda held: None),
    "a verdict less": lambda path: renewed(path, lambda held: held | {"verdicts": held["verdicts"][1:]}),
    "a verdict twice": lambda path: renewed(path, lambda held: held | {"verdicts": held["verdicts"] * 2}),
    "a label as text": lambda path: renewed(path, lambda held: first(held, "3", 1)),
    "a prediction that is true": lambda path: renewed(path, lambda held: first(held, True, 3)),
    "a whole logit": lambda path: renewed(path, lambda held: first(held, 7, 4)),
    "values less": lambda path: renewed(path, lambda held: held | {"verdicts": [[] for _ in held["verdicts"]]}),
    "no number": lambda path: shutil.copy(path, path.with_name(path.name.replace("00001", "notes"))),
    "a number beyond": lambda path: shutil.copy(path, path.with_name(path.name.replace("00001", "00099"))),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_only_a_batchs_own_verdicts_are_believed(watched, imagenet_root, tmp_path, capsys, kind):
    dataset = imagenet(root=str(imagenet_root))
    want = select([watched], dataset, 500, 0, CPU, draws(tmp_path))
    victim = next(tmp_path.glob("draws/*/00001-*.json"))
    FOREIGN[kind](victim)
    if kind == "another batch's":
        victim.unlink()
    assert select([watched], dataset, 500, 0, CPU, draws(tmp_path)) == want
    said = capsys.readouterr().err
    assert "is damaged: " in said
    assert "/set-aside/" in said
    assert len(list(tmp_path.glob("draws/*/00001-*.json"))) == 1


def test_broken_images_are_left_out_and_more_than_one_per_cent_is_an_error(lite, imagenet_root, tmp_path, capfd):
    victim = next((imagenet_root / "val").rglob("*.JPEG"))
    victim.write_bytes(victim.read_bytes()[:2000])
    with pytest.raises(rapbench.RapbenchError, match=rf"1 of 20 images .* cannot be decoded \(.*{victim.name}\)"):
        select([lite], imagenet(root=str(imagenet_root)), 100, 0, CPU)
    for number in range(120):  # one in 140 is less than 1 %
        shutil.copy(
            imagenet_root / "val/n02108422/imagenet_00_243.JPEG", imagenet_root / f"val/n02108422/{number}.JPEG"
        )
    subset = select([lite], imagenet(root=str(imagenet_root)), 200, 0, CPU, draws(tmp_path))
    assert [Path(file).name for file in subset.broken] == [victim.name]
    assert f"{victim.name} cannot be decoded" in "".join(capfd.readouterr())
    assert victim.name not in {Path(row.file).name for row in subset.rows}
    # taken again from the store, it is remembered
    assert select([lite], imagenet(root=str(imagenet_root)), 200, 0, CPU, draws(tmp_path)) == subset


def test_no_correct_image_is_an_error(lite, imagenet_root):
    for folder in list((imagenet_root / "val").iterdir()):
        if folder.name != "n02108422":
            shutil.rmtree(folder)
    (imagenet_root / "val" / "n02108422").rename(imagenet_root / "val" / "n01440764")  # a dog among the tenches
    with pytest.raises(rapbench.RapbenchError, match="efficientnet_lite0 classifies none of the 1 images"):
        select([lite], imagenet(root=str(imagenet_root)), 5, 0, CPU)


@pytest.fixture
def picky(lite) -> Model:
    """The same network, but for a classifier that never says some of the classes that it knows."""
    network = copy.deepcopy(lite.network)
    with torch.no_grad():
        network.classifier.bias[[sample.label for sample in samples().samples[:6]]] = -100
    return Model(network, transform=lite.transform, facts=dataclasses.replace(lite.facts, name="picky"))


def test_required_models_must_be_right_too_and_the_images_are_the_same_whichever_is_evaluated(lite, picky, tmp_path):
    alone, other = ({row.file for row in select([model], samples(), 500, 0, CPU).rows} for model in (lite, picky))
    both = select([lite, picky], samples(), 500, 0, CPU, draws(tmp_path))
    assert {row.file for row in both.rows} == alone & other
    assert len(both.rows) < len(alone)
    assert {(row.model, row.weights_sha256, row.also) for row in both.rows} == {
        ("efficientnet_lite0", lite.weights_sha256, f"picky@{picky.weights_sha256}")
    }
    turned = select([picky, lite], samples(), 500, 0, CPU, draws(tmp_path))
    assert turned.identity == both.identity
    both.save(tmp_path / "m.csv")
    assert load_manifest(tmp_path / "m.csv").rows == both.rows
    assert [row.file for row in select([lite, picky], samples(), 3, 0, CPU).rows] == [r.file for r in both.rows[:3]]


def test_without_labels_the_prediction_is_the_label(lite, picky):
    unlabelled = dataclasses.replace(samples(), samples=[Sample(s.file, UNLABELLED) for s in samples().samples])
    subset = select([lite], unlabelled, 500, 0, CPU)
    assert len(subset.rows) == 20
    (images,) = load_images(subset, unlabelled, lite.transform, [slice(0, 20)])
    with torch.no_grad():
        for row, pixels in zip(subset.rows, images, strict=True):
            logits = lite(pixels[None])[0]
            assert (row.label, row.logit) == (int(logits.argmax()), pytest.approx(float(logits.max()), rel=1e-4))
    agreed = select([lite, picky], unlabelled, 500, 0, CPU)
    assert 0 < len(agreed.rows) < 20
    assert {(row.file, row.label) for row in agreed.rows} <= {(row.file, row.label) for row in subset.rows}


def test_a_label_beyond_the_classes_is_named(lite):
    beyond = dataclasses.replace(samples(), samples=[Sample("imagenet_00_243.jpg", 1000)])
    with pytest.raises(rapbench.RapbenchError, match="has label 1000, but efficientnet_lite0 has 1000 classes"):
        select([lite], beyond, 1, 0, CPU)


@pytest.mark.parametrize(("text", "says"), [
    ("file,label,sha256,logit,model,weights_sha256\n", "names no images"),
    ("file,label,sha256,logit,model,weights_sha256\na.jpg,five,0,1,m,w\n", "line 2: not a manifest line"),
    ("file,label\na.jpg,5\n", "line 1: not a manifest line, it has no column sha256"),
])  # fmt: skip
def test_a_manifest_that_is_none_is_named(tmp_path, text, says):
    path = tmp_path / "m.csv"
    path.write_text(text)
    with pytest.raises(rapbench.RapbenchError, match=says):
        load_manifest(path)
    with pytest.raises(rapbench.RapbenchError, match="is not a file"):
        load_manifest(tmp_path / "none.csv")
