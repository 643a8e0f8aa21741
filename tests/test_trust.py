"""Files that come from elsewhere: nothing in them is run or followed, and none takes more than there is room for."""

import functools
import gzip
import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import loadmat, savemat

import rapbench
from rapbench import registry
from rapbench.app.cli import main
from rapbench.app.registries import REGISTRIES
from rapbench.data import load_data
from rapbench.data.decoding.picture import FORMATS, MOST_PIXELS, BrokenImage, picture
from rapbench.data.labelled.dataset import Dataset, is_inside
from rapbench.data.layouts.devkit import read_devkit
from rapbench.data.layouts.mat import read_structures
from rapbench.data.layouts.parquet import open_parquet
from rapbench.data.layouts.tar import open_tar
from rapbench.data.subset.manifest import Row, Subset, load_manifest
from rapbench.zoo.checkpoint import read_tensors
from rapbench.zoo.weights.keras import read_layers
from tests import layouts
from tests.conftest import lay_out_imagenet
from tests.pages import ROOT

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


# Images


def encoded(kind: str, size: tuple[int, int] = (6, 4)) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, (9, 99, 199)).save(data, kind)
    return data.getvalue()


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 8 8
%%EndComments
(f) (w) file closefile
showpage
"""


@pytest.mark.parametrize("kind", sorted(Image.registered_extensions().values() if Image.init() is None else ()))
def test_only_the_named_formats_are_decoded(kind):
    try:
        data = EPS if kind == "EPS" else encoded(kind)
    except Exception:  # Pillow writes no such file here
        pytest.skip(f"{kind} cannot be written")
    if kind in FORMATS or kind == "MPO" or data[:2] == b"BM" or data[:2] == b"\xff\xd8":
        assert picture(data, False).size == (6, 4)
    else:
        with pytest.raises(BrokenImage, match="not an image of the formats JPEG, PNG, WEBP, BMP, GIF"):
            picture(data, False)


def test_no_program_is_started_for_an_eps_file(tmp_path, monkeypatch):
    """Ghostscript, if it were there, as a program that leaves a mark."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    with pytest.raises(BrokenImage):
        picture(EPS, False)
    assert not (tmp_path / "ran").exists()


def sized(kind: str, width: int, height: int) -> bytes:
    """Return a small file whose header states another size."""
    data = bytearray(encoded(kind))
    if kind == "PNG":
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif kind == "BMP":
        data[18:26] = struct.pack("<ii", width, height)
    elif kind == "GIF":
        data[6:10] = struct.pack("<HH", width, height)
        place = data.index(b"\x2c")
        data[place + 5 : place + 9] = struct.pack("<HH", width, height)
    elif kind == "JPEG":
        place = data.index(b"\xff\xc0")
        data[place + 5 : place + 9] = struct.pack(">HH", height, width)
    elif kind == "WEBP":
        out = io.BytesIO()
        Image.new("RGB", (6, 4)).save(out, "WEBP", lossless=True)
        data = bytearray(out.getvalue())
        place = data.index(b"VP8L") + 9
        bits = struct.unpack("<I", data[place : place + 4])[0] & ~0xFFFFFFF
        data[place : place + 4] = struct.pack("<I", bits | (width - 1) | (height - 1) << 14)
    return bytes(data)


@pytest.mark.parametrize("size", [(16_000, 16_000), (1, 16_000), (16_000, 2), (7_100, 7_100)])
@pytest.mark.parametrize("kind", FORMATS)
def test_an_image_that_states_a_size_beyond_a_photographs_is_not_decoded(kind, size):
    with pytest.raises(BrokenImage, match=r"more than 50 million.*scale it down|no side may be over 100 times"):
        picture(sized(kind, *size), False)
    assert picture(sized(kind, 6, 4), False).size == (6, 4)  # the file itself is sound


def test_the_largest_photograph_is_decoded():
    width, height = 8160, 6120  # of the 50 million pixels that phones have
    assert width * height <= MOST_PIXELS
    line = b"\0" + bytes((width + 7) // 8)
    packed = zlib.compress(line * height)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    assert picture(data, False).size == (width, height)


# Names


CLIMBING = ["../x.jpg", "/etc/passwd", "a/../../x.jpg", "..", "", ".", "/", "a\0b.jpg", "a/.."]


@pytest.mark.parametrize("name", CLIMBING)
def test_a_name_that_leads_out_is_refused_by_manifests_and_data_sets(name, tmp_path):
    assert not is_inside(name)
    (tmp_path / "x.jpg").write_bytes(encoded("JPEG"))
    (tmp_path / "set").mkdir()
    with pytest.raises(OSError, match="its name leads out of the data set"):
        Dataset("folder", tmp_path / "set", [], "").read(name)
    Subset([Row(name, 1, "0" * 64, 1.0, "m", "w")]).save(tmp_path / "manifest.csv")
    with pytest.raises(
        rapbench.RapbenchError, match=r"line 2: .*(leads out of the data set|its file is empty|a null character)"
    ) as caught:
        load_manifest(tmp_path / "manifest.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["x.jpg", "a/b/x.jpg", "..x.jpg", "a..b/x.jpg", "-x.jpg", "a b/é.JPEG", "a:b.jpg", "~/x.jpg"]
)
def test_other_names_are_names(name):
    assert is_inside(name)


def test_links_of_the_users_own_are_followed(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "x.jpg").write_bytes(encoded("JPEG"))
    (tmp_path / "set/x.jpg").symlink_to(tmp_path / "x.jpg")
    dataset = load_data("folder", root=str(tmp_path / "set"))
    assert [sample.file for sample in dataset.samples] == ["x.jpg"]
    assert dataset.read("x.jpg") == encoded("JPEG")


def test_a_pipe_and_a_huge_file_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "x.jpg")
    with (tmp_path / "y.jpg").open("wb") as file:
        file.truncate(1 << 40)  # of nothing, on disk
    dataset = Dataset("folder", tmp_path, [], "")
    with pytest.raises(OSError, match="not a regular file"):
        dataset.read("x.jpg")
    with pytest.raises(OSError, match="an image file of more than 256 MiB is not read"):
        dataset.read("y.jpg")


def test_a_tar_member_that_leads_out_is_refused(tmp_path):
    for name in ("../x.jpg", "/abs/x.jpg"):
        tar(tmp_path / "t.tar", [("a.jpg", encoded("JPEG")), (name, encoded("JPEG"))])
        with pytest.raises(rapbench.RapbenchError, match="has a name that leads out of the archive"):
            open_tar(tmp_path / "t.tar")


@pytest.mark.parametrize("paths", [["..", "b.jpg"], ["x/..", "b.jpg"], [".", "b.jpg"], ["a.jpg", "a.jpg"]])
def test_paths_in_parquet_that_are_no_names_are_numbered(paths, tmp_path):
    rows = [{"bytes": encoded("PNG"), "path": path} for path in paths]
    layouts.parquet(tmp_path / "p.parquet", rows, [1, 2])
    found = open_parquet(tmp_path, [tmp_path / "p.parquet"], True)
    assert [sample.file for sample in found.samples] == ["p.parquet#0", "p.parquet#1"]


def tar(path: Path, members: list[tuple[str, bytes]], **more: dict) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.pax_headers = more.get("pax", {})
            archive.addfile(info, io.BytesIO(data))
    return path


# HDF5


def keras_file(path: Path, make) -> Path:
    with h5py.File(path.with_name("other.h5"), "w") as file:
        file["k"] = np.ones((2, 2))
        inside = file.create_group("conv")
        inside["k"] = np.ones((2, 2))
        for place in (file, file.create_group("model_weights")):
            place.attrs["layer_names"] = [b"conv"]
        inside.attrs["weight_names"] = [b"k"]
    path.with_name("raw").write_bytes(bytes(400))
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv"]
        file["own"] = np.ones(3)
        make(file)
    return path


def layer(file: h5py.File) -> h5py.Group:
    inside = file.create_group("conv")
    inside.attrs["weight_names"] = [b"k"]
    return inside


def external(file):
    layer(file)["k"] = h5py.ExternalLink("other.h5", "k")


def soft(file):
    layer(file)["k"] = h5py.SoftLink("/own")


def storage(file):
    layer(file).create_dataset("k", (10, 10), "f4", external=[("raw", 0, 400)])


def virtual(file):
    layout = h5py.VirtualLayout((2, 2), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "k", (2, 2))
    layer(file).create_virtual_dataset("k", layout)


def external_layer(file):
    file["conv"] = h5py.ExternalLink("other.h5", "conv")


def external_model(file):
    file["model_weights"] = h5py.ExternalLink("other.h5", "model_weights")


def unwritten(file):
    layer(file).create_dataset("k", (1 << 17, 1 << 17), "f4")


def compressed(file):
    layer(file).create_dataset("k", data=np.zeros((1 << 10, 1 << 10), "f4"), compression="gzip")


def text(file):
    layer(file)["k"] = "text"


def group(file):
    layer(file).create_group("k")


def no_list(file):
    file.attrs["layer_names"] = 5


@pytest.mark.parametrize(("make", "says"), [
    (external, "k is a link to elsewhere, which is not followed"), (soft, "k is a link to elsewhere"),
    (storage, "k has its values in another file, which is not followed"), (virtual, "k has its values in another file"),
    (external_layer, "conv is a link to elsewhere"), (external_model, "model_weights is a link to elsewhere"),
    (unwritten, "its weights take over 8 times its own size"), (compressed, "its weights take over 8 times its own"),
    (text, "k holds no numbers"), (group, "k holds no numbers"), (no_list, "its attribute layer_names is no list"),
])  # fmt: skip
def test_a_keras_file_that_leads_elsewhere_is_refused(make, says, tmp_path):
    with pytest.raises(rapbench.RapbenchError, match=says) as caught:
        read_layers(keras_file(tmp_path / "mine.h5", make))
    assert "\n" not in str(caught.value)


# MATLAB's file against SciPy's reader


@pytest.mark.parametrize("compress", [False, True])
def test_structures_are_read_as_scipy_reads_them(compress, tmp_path):
    layouts.devkit(tmp_path)
    theirs = loadmat(tmp_path / "meta.mat", squeeze_me=True)["synsets"]
    savemat(tmp_path / "again.mat", {"first": np.ones(3), "synsets": loadmat(tmp_path / "meta.mat")["synsets"],
                                     "last": "text"}, do_compression=compress)  # fmt: skip
    fields = ("ILSVRC2012_ID", "WNID", "num_children", "gloss")
    ours = read_structures((tmp_path / "again.mat").read_bytes(), "synsets", fields)
    assert len(ours) == len(theirs) == 1003
    for one, other in zip(ours, theirs, strict=True):
        assert one == {field: (str(other[field]) if field in ("WNID", "gloss") else float(other[field]))
                       for field in fields}  # fmt: skip


def nested_mat(depth: int) -> bytes:
    """A file of cells within cells, which ends SciPy's reader by the stack."""

    def element(kind: int, data: bytes) -> bytes:
        return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)

    inner = element(14, element(6, struct.pack("<II", 6, 0)) + element(5, bytes(8)) + element(1, b"") + element(9, b""))
    head = element(6, struct.pack("<II", 1, 0)) + element(5, struct.pack("<ii", 1, 1)) + element(1, b"synsets")
    parts, size = [], len(inner)
    for _ in range(depth):
        size += len(head)
        parts.append(struct.pack("<II", 14, size) + head)
        size += 8
    return b"MATLAB 5.0".ljust(124) + struct.pack("<H", 0x0100) + b"IM" + b"".join(reversed(parts)) + inner


# What unpacks to more than there is room for


def big_parquet(path: Path, image: bytes, rows: int, label: str | None = None) -> Path:
    """Write the same value in every row, once."""

    def repeated(value: object, kind: pa.DataType) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, "i4")), pa.array([value], kind))

    images = pa.StructArray.from_arrays([repeated(image, pa.binary()), repeated("a", pa.string())], ["bytes", "path"])
    labels = pa.array(np.zeros(rows, "i8")) if label is None else repeated(label, pa.string())
    pq.write_table(pa.table({"image": images, "label": labels}), path, compression="zstd", store_schema=False,
                   dictionary_pagesize_limit=1 << 30)  # fmt: skip
    return path


def bombs(folder: Path) -> dict[str, str]:
    """Write the files; return for each the expression that reads it."""
    found = {}
    with (folder / "pax.tar").open("wb") as file:
        header = tarfile.TarInfo("x")
        header.type, header.size = tarfile.XHDTYPE, 1 << 32
        file.write(header.tobuf(tarfile.USTAR_FORMAT))
        file.truncate(1 << 32)  # of nothing, on disk
    found["a tar with a header of 4 GB"] = "open_tar(folder / 'pax.tar')"
    zeros = gzip.compress(bytes(300 << 20), 1)
    for name, member in (("meta.mat", "meta.mat"), ("pax", "x" * 99), ("zeros", "other")):
        place = folder / name
        place.mkdir()
        info = tarfile.TarInfo(member)
        info.size = 300 << 20
        info.type = tarfile.XHDTYPE if name == "pax" else tarfile.REGTYPE
        (place / "kit.tar.gz").write_bytes(gzip.compress(info.tobuf(tarfile.USTAR_FORMAT)) + zeros)
        found[f"a devkit of 300 MB in {name}"] = f"read_devkit(folder / {name!r} / 'kit.tar.gz')"
    zeros = zlib.compress(bytes(200 << 20), 1)
    head = b"MATLAB 5.0".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    mat = folder / "mat"
    mat.mkdir()
    (mat / "meta.mat").write_bytes(head + struct.pack("<II", 15, len(zeros)) + zeros)
    (mat / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n")
    found["a meta.mat of 200 MB"] = "read_devkit(folder / 'mat' / 'ILSVRC2012_validation_ground_truth.txt')"
    deep = folder / "deep"
    deep.mkdir()
    (deep / "meta.mat").write_bytes(nested_mat(20_000))
    (deep / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n")
    found["a meta.mat of 20,000 levels"] = "read_devkit(folder / 'deep' / 'ILSVRC2012_validation_ground_truth.txt')"
    big_parquet(folder / "value.parquet", bytes(300 << 20), 1)
    big_parquet(folder / "repeated.parquet", bytes(4 << 20), 100)
    big_parquet(folder / "label.parquet", b"", 500, label="n" * (1 << 20))
    big_parquet(folder / "rows.parquet", b"", 1_600_000)
    for name in ("value", "repeated", "label", "rows"):
        read = f"open_parquet(folder, [folder / '{name}.parquet'], {name == 'label'})"
        found[f"a parquet file: {name}"] = f"(lambda d: d.read(d.samples[0].file))({read})"
    torch.save({"a": torch.zeros(1)}, folder / "small.pth")
    with zipfile.ZipFile(folder / "small.pth") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (data,) = (name for name in parts if name.endswith("data/0"))
    (pickled,) = (name for name in parts if name.endswith("data.pkl"))
    changes = {"deflated": {data: bytes(300 << 20)}, "reserving": {pickled: pickle.dumps({"a": Reserving()}, 2)}}
    for name, changed in changes.items():
        with zipfile.ZipFile(folder / f"{name}.pth", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for part, content in (parts | changed).items():
                archive.writestr(part, content)
        found[f"a checkpoint: {name}"] = f"read_tensors(folder / '{name}.pth')"
    torch.save({"a": torch.zeros(1).expand(1 << 20, 1 << 20)}, folder / "repeated.pth")
    found["a checkpoint of one number, repeated"] = "read_tensors(folder / 'repeated.pth')"
    (folder / "long.safetensors").write_bytes(struct.pack("<Q", 1 << 40) + b"{}")
    found["a safetensors header of a terabyte"] = "read_tensors(folder / 'long.safetensors')"
    return found


class Reserving:
    def __reduce__(self):
        return bytearray, (800 << 20,)


READ = """
import json, re, sys, time
from pathlib import Path
import rapbench
from rapbench.data.layouts.devkit import read_devkit
from rapbench.data.layouts.parquet import open_parquet
from rapbench.data.layouts.tar import open_tar
from rapbench.zoo.checkpoint import read_tensors
folder = Path(sys.argv[1])

def highest():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])

before, said = highest(), {}
for name, read in json.loads(sys.argv[2]).items():
    started = time.monotonic()
    try:
        eval(read)
        how = "nothing"
    except (rapbench.RapbenchError, OSError) as error:
        how = str(error)
    peak = (highest() - before) // 1024
    said[name] = [how, peak, round(time.monotonic() - started, 1)]
print(json.dumps(said))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux how much memory a process took")
def test_what_would_unpack_to_gigabytes_is_one_line(tmp_path):
    """All in one process, whose memory may not grow beyond what one sound image may take."""
    wanted = bombs(tmp_path)
    done = subprocess.run([sys.executable, "-c", READ, str(tmp_path), json.dumps(wanted)], capture_output=True,
                          text=True, cwd=ROOT, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said.keys() == wanted.keys()
    for name, (how, peak, seconds) in said.items():
        assert how != "nothing", name
        assert "\n" not in how, name
        assert peak < 400, (name, said)
        assert seconds < 60, name


def test_what_states_too_large_a_size_is_refused_before_it_is_read(tmp_path):
    (tmp_path / "meta.mat").write_bytes(nested_mat(20_000))
    truth = tmp_path / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("1\n")
    with pytest.raises(rapbench.RapbenchError, match=r"meta.mat is not the devkit's \(no array of structures called"):
        read_devkit(truth)
    info = tarfile.TarInfo("meta.mat")
    info.size = 1 << 31
    (tmp_path / "kit.tar").write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + bytes(1 << 20))
    with pytest.raises(rapbench.RapbenchError, match=r"its meta\.mat has 2,147,483,648 bytes|it unpacks to"):
        read_devkit(tmp_path / "kit.tar")
    found = open_parquet(tmp_path, [big_parquet(tmp_path / "p.parquet", bytes(70 << 20), 1)], False)
    with pytest.raises(OSError, match="unpack to 73,"):
        found.read(found.samples[0].file)
    big_parquet(tmp_path / "rows.parquet", b"", 1_500_001)
    with pytest.raises(rapbench.RapbenchError, match="over 1,500,000 rows"):
        open_parquet(tmp_path, [tmp_path / "rows.parquet"], False)


def test_what_a_sound_file_may_hold_still_reads(tmp_path):
    """Images that repeat, and a row group that is not kept whole."""
    image = np.random.default_rng(0).bytes(3 << 20)
    found = open_parquet(tmp_path, [big_parquet(tmp_path / "p.parquet", image, 16)], False)
    assert all(found.read(sample.file) == image for sample in found.samples)


# Headers that lead in circles


def test_a_member_of_negative_size_ends_the_archive(tmp_path):
    tar(tmp_path / "t.tar", [("a.jpg", b"x" * 600), ("b.jpg", b"y" * 600)], pax={"size": "-1536"})
    with pytest.raises(rapbench.RapbenchError, match="negative size"):
        open_tar(tmp_path / "t.tar")


# Modules


OWN = """
from pathlib import Path
from rapbench.zoo import load_model, models
Path("imported").touch()


@models.register("net")
def net():
    return load_model("efficientnet_lite0")
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder above the results of a run on ImageNet's layout."""
    place = tmp_path_factory.mktemp("finished")
    lay_out_imagenet(place / "imagenet")
    run = ["run", "model=efficientnet_lite0", "data=imagenet", f"data.root={place}/imagenet", "method=[random]"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main([*run, "protocol=[removal]", "k.positive=[0]", "k.negative=[0]", "subset.n=1"]) == 0
    return place


@pytest.fixture
def verified(finished, tmp_path, monkeypatch) -> Path:
    """A downloaded run that names a module, which lies where it would be found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(registry, "_named", set())
    shutil.copytree(finished / "results", "results")
    (tmp_path / "evil_nets.py").write_text(OWN)
    yield Path("results/run/efficientnet_lite0")
    sys.modules.pop("evil_nets", None)


def edit(path: Path, change) -> None:
    about = json.loads(path.read_text())
    change(about["config"])
    path.write_text(json.dumps(about))


@pytest.mark.parametrize("where", ["model", "required", "architecture", "data", "manifest"])
def test_a_module_that_only_a_file_names_is_not_imported(where, verified, capsys):
    manifest = verified / "manifest.csv"
    if where == "model":
        edit(
            verified / "provenance.json",
            lambda config: config["model"].update(name="evil_nets:net", path="efficientnet_lite0.x"),
        )
    elif where == "required":
        required = [{"name": "evil_nets:net", "path": "efficientnet_lite0.x"}]
        edit(verified / "provenance.json", lambda config: (config["model"].update(name="other"),
                                                           config["subset"].update(require=required)))  # fmt: skip
    elif where == "architecture":
        edit(verified / "provenance.json", lambda config: config.update(model={
            "name": "checkpoint", "architecture": "evil_nets:net", "path": "efficientnet_lite0.pth"}))  # fmt: skip
    elif where == "data":
        edit(verified / "provenance.json", lambda config: config["data"].update(name="evil_nets:net"))
    else:
        manifest.write_text(manifest.read_text().replace("efficientnet_lite0", "evil_nets:net"))
    assert main(["subset", "verify", str(manifest)]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"rapbench: {manifest if where == 'manifest' else verified / 'provenance.json'} names the ")
    assert "'evil_nets:net'" in said
    assert said.endswith("--allow-module evil_nets")
    assert not Path("imported").exists()
    assert "evil_nets" not in sys.modules


def test_a_module_that_the_command_line_names_is(verified, capsys):
    manifest = verified / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("efficientnet_lite0", "evil_nets:net"))
    main(["subset", "verify", str(manifest), "--allow-module", "evil_nets"])
    assert Path("imported").exists()
    assert "--allow-module" not in capsys.readouterr().err


def test_what_is_read_because_a_file_names_it_is_said(verified, finished, capsys):
    assert main(["subset", "verify", str(verified / "manifest.csv")]) == 0
    assert f"provenance.json names what is read: data.root={finished}/imagenet" in capsys.readouterr().err
    assert main(["subset", "verify", str(verified / "manifest.csv"), "--root", str(finished / "imagenet")]) == 0
    assert "names what is read" not in capsys.readouterr().err


def test_a_finished_run_imports_nothing_and_interpolates_nothing(verified, monkeypatch):
    from rapbench.app.finished_run import FinishedRun

    monkeypatch.setenv("SECRET", "hunter2")
    edit(verified / "provenance.json", lambda config: config["data"].update(root="/no/${oc.env:SECRET}/\\${x}"))
    with pytest.raises(rapbench.RapbenchError, match=r"/no/\$\{oc.env:SECRET\}/\\\\?\$\{x\} is not a folder"):
        FinishedRun(verified)
    edit(verified / "provenance.json", lambda config: config["data"].update(name="evil_nets:net"))
    with pytest.raises(rapbench.RapbenchError, match=r"provenance.json names the data set 'evil_nets:net'"):
        FinishedRun(verified)
    assert not Path("imported").exists()


def test_a_store_imports_nothing_of_what_its_results_name(verified, tmp_path, capsys):
    (tmp_path / "own_methods.py").write_text(
        textwrap.dedent("""
        from pathlib import Path
        from rapbench.methods import methods

        Path("imported").touch()

        @methods.register("own", signs=("positive",), passes=1)
        def own(model, inputs, targets):
            return inputs
    """)
    )
    run = [
        "run",
        "model=efficientnet_lite0",
        "protocol=[distance]",
        "k.positive=[0,5]",
        "k.negative=[0,5]",
        "subset.n=1",
    ]
    assert main([*run, "method=[own_methods:own]"]) == 0
    Path("imported").unlink()
    for name in ("own_methods", "evil_nets"):
        sys.modules.pop(name, None)
    REGISTRIES["method"]._entries.pop("own")
    assert main(["store", "gc", "--stale", "--dry-run"]) == 0
    assert "Nothing to remove" in capsys.readouterr().out
    assert not Path("imported").exists()
    assert "own_methods" not in sys.modules


# Any bytes: one line, whatever they are


KINDS = {
    "image": lambda path: picture(path.read_bytes(), True),
    "tar": open_tar,
    "devkit": read_devkit,
    "parquet": lambda path: [found.read(sample.file) for found in [open_parquet(path.parent, [path], True)]
                             for sample in found.samples],
    "h5": read_layers,
    "pth": read_tensors,
    "safetensors": read_tensors,
}  # fmt: skip


def sound(folder: Path) -> dict[str, list[bytes]]:
    """Return files of each kind, to be damaged."""
    folder.mkdir(exist_ok=True)
    tar(folder / "t.tar", [("a.jpg", encoded("JPEG")), ("b/" + "c" * 120 + ".png", encoded("PNG"))])
    layouts.devkit(folder / "kit")
    layouts.parquet(folder / "p.parquet", layouts.structs(layouts.IMAGES[:1]), [3])
    small = [{"bytes": encoded("PNG"), "path": f"{number}.png"} for number in range(3)]
    layouts.parquet(folder / "q.parquet", small, [1, 2, 3])
    keras_file(folder / "k.h5", lambda file: layer(file).create_dataset("k", data=np.ones((3, 3), "f4")))
    torch.save({"a": torch.ones(3), "b": torch.zeros(2, 2)}, folder / "c.pth")
    torch.save({"a": torch.ones(3)}, folder / "d.pth", _use_new_zipfile_serialization=False)
    from safetensors.torch import save

    return {
        "image": [encoded(kind) for kind in FORMATS],
        "tar": [(folder / "t.tar").read_bytes()],
        "devkit": [layouts.devkit_archive(folder / "packed").read_bytes()],
        "parquet": [(folder / "q.parquet").read_bytes()],
        "h5": [(folder / "k.h5").read_bytes()],
        "pth": [(folder / "c.pth").read_bytes(), (folder / "d.pth").read_bytes()],
        "safetensors": [save({"a": torch.ones(3)})],
    }


@functools.cache
def files() -> dict[str, list[bytes]]:
    with tempfile.TemporaryDirectory() as folder:
        return sound(Path(folder))


ENDINGS = {"tar": "tar", "devkit": "tar.gz", "parquet": "parquet", "h5": "h5", "pth": "pth", "image": "jpg",
           "safetensors": "safetensors"}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_bytes_are_one_line(kind, data, tmp_path):
    content = bytearray(files()[kind][data.draw(st.integers(0, len(files()[kind]) - 1))])
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        how = data.draw(st.sampled_from(["flip", "cut", "insert", "extreme"]))
        if how == "flip":
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        elif how == "cut" and place:
            del content[place:]
        elif how == "insert":
            content[place:place] = data.draw(st.binary(max_size=16))
        else:
            content[place : place + 4] = data.draw(st.sampled_from([b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4)]))
    path = tmp_path / f"x.{ENDINGS[kind]}"
    path.write_bytes(content)
    said = ""
    try:
        KINDS[kind](path)
    except (rapbench.RapbenchError, BrokenImage, OSError) as error:
        said = str(error)
    assert "\n" not in said


# Prints the bytes of a small parquet file with one byte of its footer changed so that pyarrow ends the process.
FATAL = """
import io, os, random, sys
import pyarrow.parquet as pq
data = open(sys.argv[1], "rb").read()
size = int.from_bytes(data[-8:-4], "little")
draws = random.Random(0)
for _ in range(20000):
    bad = bytearray(data)
    bad[len(data) - 8 - size + draws.randrange(size)] = draws.randrange(256)
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            with pq.ParquetFile(io.BytesIO(bytes(bad))) as file:
                for group in map(file.metadata.row_group, range(file.metadata.num_row_groups)):
                    for column in map(group.column, range(group.num_columns)):
                        column.to_dict()
        except Exception:
            pass
        os._exit(0)
    if os.WIFSIGNALED(os.waitpid(child, 0)[1]):
        open(sys.argv[1], "wb").write(bad)
        break
else:
    sys.exit("none found")
"""


def test_a_parquet_footer_that_ends_the_process_is_named(tmp_path):
    sound, fatal = (tmp_path / name for name in ("a.parquet", "b.parquet"))
    rows = [{"bytes": b"x", "path": f"{number}.jpg"} for number in (1, 2)]
    for path in (sound, fatal):
        layouts.parquet(path, rows, [1, 2])
    subprocess.run([sys.executable, "-c", FATAL, str(fatal)], check=True)
    with pytest.raises(rapbench.RapbenchError, match=rf"{fatal} cannot be read .*; download it again"):
        open_parquet(tmp_path, [sound, fatal], True)
    assert len(open_parquet(tmp_path, [sound], True).samples) == 2
