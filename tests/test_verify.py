"""`rapbench subset verify`: a manifest holds, or what does not is named; exit 1, and 2 when it cannot be checked."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from rapbench.app.cli import main
from rapbench.data.subset.manifest import load_manifest
from rapbench.zoo import models


@pytest.fixture
def manifest(imagenet_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The manifest of a real run on four images in ImageNet's layout."""
    monkeypatch.chdir(tmp_path)
    run = ["run", "model=efficientnet_lite0", "data=imagenet", f"data.root={imagenet_root}", "method=[random]"]
    assert main([*run, "protocol=[removal]", "k.positive=[0]", "k.negative=[0]", "subset.n=4"]) == 0
    return Path("results/run/efficientnet_lite0/manifest.csv")


def change(manifest: Path, replace: Callable[[str], str]) -> None:
    manifest.write_text(replace(manifest.read_text()))


def test_a_manifest_holds(manifest, imagenet_root, capsys):
    assert main(["subset", "verify", str(manifest)]) == 0
    said = capsys.readouterr().out
    assert "holds: 4 images of 20 ImageNet images" in said
    assert "each classified as its label by efficientnet_lite0" in said
    # elsewhere: the data set has moved, and the manifest lies alone
    shutil.move(imagenet_root, imagenet_root.with_name("moved"))
    alone = Path(shutil.copy(manifest, "alone.csv"))
    assert main(["subset", "verify", str(alone), "--root", str(imagenet_root.with_name("moved"))]) == 0
    assert main(["subset", "verify", str(manifest)]) == 2  # its provenance names the old place
    assert "is not a folder" in capsys.readouterr().err


def test_what_does_not_hold_is_named_with_exit_code_1(manifest, imagenet_root, capsys):
    rows = load_manifest(manifest).rows
    first, second, third, fourth = (imagenet_root / "val" / row.file for row in rows)
    first.write_bytes(first.read_bytes() + b"\0")
    second.unlink()
    logit = repr(rows[2].logit)
    change(manifest, lambda text: text.replace(logit, repr(rows[2].logit * 1.01)))
    Image.open(third).save(fourth, "JPEG")  # another class's picture, and the manifest says it is the right one
    import hashlib

    digest = hashlib.sha256(fourth.read_bytes()).hexdigest()
    change(manifest, lambda text: text.replace(rows[3].sha256, digest))
    assert main(["subset", "verify", str(manifest)]) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"rapbench: {manifest} does not hold: of 4 images, ")
    assert f"1 have changed (their SHA-256) ({rows[0].file})" in said
    assert f"1 cannot be read ({rows[1].file})" in said
    assert f"1 have another logit under efficientnet_lite0 ({rows[2].file})" in said
    assert f"1 are classified otherwise by efficientnet_lite0 ({rows[3].file})" in said


def test_another_label_in_the_data_set_and_other_weights_are_named(manifest, capsys):
    row = load_manifest(manifest).rows[0]
    change(manifest, lambda text: text.replace(f"{row.file},{row.label},", f"{row.file},{row.label - 1},"))
    assert main(["subset", "verify", str(manifest)]) == 1
    assert f"1 have another label in the data set ({row.file})" in capsys.readouterr().err
    change(manifest, lambda text: text.replace(row.weights_sha256, "0" * 64))
    assert main(["subset", "verify", str(manifest)]) == 1
    assert "drawn with other weights of efficientnet_lite0 (SHA-256 000000000000..., here" in capsys.readouterr().err


def test_models_with_options_and_required_ones_are_loaded_as_the_run_had_them(manifest, imagenet_root, capsys):
    """A checkpoint beside a zoo model: provenance.json says where it lies."""
    network = models["efficientnet_lite0"].function().network
    torch.save(network.state_dict(), "mine.pth")
    mine = {"name": "checkpoint", "architecture": "efficientnet_lite0", "path": "mine.pth", "crop": 220}
    torch.save({k: v * 0.99 if k == "classifier.bias" else v for k, v in network.state_dict().items()}, "mine.pth")
    require = json.dumps(mine).replace('"', "")
    run = ["run", "model=efficientnet_lite0", "data=imagenet", f"data.root={imagenet_root}", "method=[random]"]
    require = f"subset.require=[{require}]"
    assert main([*run, "protocol=[removal]", "k.positive=[0]", "k.negative=[0]", "subset.n=4", require]) == 0
    assert "those that the model and mine classify correctly" in capsys.readouterr().out
    assert load_manifest(manifest).rows[0].also.startswith("mine@")
    assert main(["subset", "verify", str(manifest)]) == 0
    assert "by efficientnet_lite0 and mine;" in capsys.readouterr().out
    torch.save(network.state_dict(), "mine.pth")
    assert main(["subset", "verify", str(manifest)]) == 1
    assert "was drawn with other weights of mine" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "says"), [
    (None, "none.csv is not a file; a manifest is the manifest.csv that a run writes"),
    ("file,label\na.jpg,5\n", "line 1: not a manifest line"),
])  # fmt: skip
def test_what_is_no_manifest_is_one_clear_line(text, says, tmp_path, capsys):
    path = tmp_path / "none.csv"
    if text is not None:
        path.write_text(text)
    assert main(["subset", "verify", str(path)]) == 2
    assert says in capsys.readouterr().err
