"""Heatmaps that others computed: the results of the method that made them, and one line for whatever is wrong."""

import hashlib
import io
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

import rapbench
from rapbench.app.cli import main
from rapbench.core.memory_format import channels_last
from rapbench.data import load_data
from rapbench.data.subset.manifest import load_manifest
from rapbench.heatmaps import Heatmaps
from tests.results import distances as of_distances
from tests.results import images as of_images
from tests.small import SMALL, small

SPACES = {"1-D": (6,), "2-D": (4, 5), "3-D": (2, 3, 4)}


@dataclass(frozen=True)
class Row:
    file: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.file.encode()).hexdigest()


ROWS = [Row("a/one.png"), Row("a/two.tar.png"), Row("three.JPEG")]


def relevance(space: tuple[int, ...], channels: int | None = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    shape = (len(ROWS), *([] if channels is None else [channels]), *space)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def summed(maps: Tensor, space: tuple[int, ...]) -> Tensor:
    return (maps.sum(1) if maps.dim() > len(space) + 1 else maps).float()


def npy(maps: Tensor, at: Path, name: Callable[[Row], str]) -> Path:
    for row, one in zip(ROWS, maps, strict=True):
        path = at / "maps" / f"{name(row)}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, one.numpy())
    return at / "maps"


def one_tensor_each(maps: Tensor, at: Path) -> Path:
    (at / "maps").mkdir()
    for row, one in zip(ROWS, maps, strict=True):
        save_file({"relevance": one.contiguous()}, at / "maps" / f"{row.sha256}.safetensors")
    return at / "maps"


def saved(write: Callable[[Path], None], path: Path) -> Path:
    write(path)
    return path


def named(maps: Tensor) -> dict[str, Tensor]:
    return {row.file: one.contiguous() for row, one in zip(ROWS, maps, strict=True)}


FORMS: dict[str, Callable[[Tensor, Path], object]] = {
    "folder, whole names": lambda maps, at: npy(maps, at, lambda row: row.file),
    "folder, without endings": lambda maps, at: npy(maps, at, lambda row: str(Path(row.file).with_suffix(""))),
    "folder, base names": lambda maps, at: npy(maps, at, lambda row: Path(row.file).name),
    "folder, stems": lambda maps, at: npy(maps, at, lambda row: Path(row.file).stem),
    "folder, hashes": lambda maps, at: npy(maps, at, lambda row: row.sha256),
    "folder of safetensors": one_tensor_each,
    "npy": lambda maps, at: saved(lambda path: np.save(path, maps.numpy()), at / "maps.npy"),
    "big-endian npy": lambda maps, at: saved(
        lambda path: np.save(path, maps.numpy().astype(maps.numpy().dtype.newbyteorder(">"))), at / "maps.npy"
    ),
    "pt": lambda maps, at: saved(lambda path: torch.save(maps, path), at / "maps.pt"),
    "pt by name": lambda maps, at: saved(lambda path: torch.save(named(maps), path), at / "maps.pt"),
    "safetensors": lambda maps, at: saved(lambda path: save_file({"x": maps}, path), at / "maps.safetensors"),
    "safetensors by name": lambda maps, at: saved(lambda path: save_file(named(maps), path), at / "maps.safetensors"),
    "tensor": lambda maps, at: maps,
    "gradient's tensor": lambda maps, at: maps.clone().requires_grad_() * 1,
    "array": lambda maps, at: maps.numpy(),
    "tensors by name": lambda maps, at: named(maps),
}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_maps(form, channels, space, tmp_path):
    maps = relevance(space, channels)
    matched = Heatmaps(FORMS[form](maps, tmp_path)).match(ROWS, space)
    assert torch.equal(matched.of(ROWS), summed(maps, space))
    assert torch.equal(matched.of(ROWS[1:]), summed(maps, space)[1:])
    assert matched.of(ROWS).dtype == torch.float32
    assert matched.signs == ("positive", "negative")
    assert matched.sha256 == Heatmaps(summed(maps, space)).match(ROWS, space).sha256


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_precision_is_summed_in_its_own(dtype, tmp_path):
    maps = relevance((4, 5), dtype=dtype)
    save_file({"x": maps}, tmp_path / "x.safetensors")
    matched = Heatmaps(tmp_path / "x.safetensors").match(ROWS, (4, 5))
    assert torch.equal(matched.of(ROWS), maps.sum(1).float())


def test_a_map_in_fortran_order_is_read_as_it_is_meant(tmp_path):
    maps = relevance((4, 5))
    for row, one in zip(ROWS, maps, strict=True):
        np.save(tmp_path / f"{row.sha256}.npy", np.asfortranarray(one.numpy()))
    assert torch.equal(Heatmaps(tmp_path).match(ROWS, (4, 5)).of(ROWS), maps.sum(1))


@pytest.mark.parametrize(("change", "stated", "signs"), [
    (lambda maps: maps, None, ("positive", "negative")),
    (lambda maps: maps.abs(), None, ("positive",)),
    (lambda maps: -maps.abs(), None, ("negative",)),
    (lambda maps: maps * 0, None, ("positive",)),
    (lambda maps: maps, ["positive"], ("positive",)),
    (lambda maps: maps, ["negative", "positive"], ("positive", "negative")),
])  # fmt: skip
def test_signs_are_those_that_any_map_has_or_those_stated(change, stated, signs):
    assert Heatmaps(change(relevance((4, 5))), signs=stated).match(ROWS, (4, 5)).signs == signs


def test_the_hash_is_of_each_number_and_its_place():
    maps = relevance((4, 5))
    other = maps.clone()
    other[1, 0, 2, 2] = torch.nextafter(other[1, 0, 2, 2], torch.tensor(9.0))
    other[1, 1:, 2, 2] = 0
    maps[1, 1:, 2, 2] = 0
    hashes = [Heatmaps(values).match(ROWS, (4, 5)).sha256 for values in (maps, maps * 1, other, maps.flip(0))]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def cut(at: Path, name: str) -> Path:
    path = at / name
    path.write_bytes(path.read_bytes()[:-5])
    return path


def with_nan(maps: Tensor) -> Tensor:
    maps[1, 0, 2, 2] = float("nan")
    return maps


def claiming(at: Path, shape: str) -> Path:
    """Write a .npy file that says it is huge."""
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    (at / "x.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode())
    return at / "x.npy"


class Code:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def without(maps: Tensor, at: Path) -> Path:
    folder = npy(maps, at, lambda row: row.file)
    (folder / "a/one.png.npy").unlink()
    return folder


def twice(maps: Tensor, at: Path) -> Path:
    folder = npy(maps, at, lambda row: row.file)
    shutil.copy(folder / "a/one.png.npy", folder / "one.npy")
    return folder


def several(maps: Tensor, at: Path) -> Path:
    save_file({"x": maps[0].clone(), "y": maps[1].clone()}, at / f"{ROWS[0].sha256}.safetensors")
    for row in ROWS[1:]:
        np.save(at / f"{row.sha256}.npy", maps[0].numpy())
    return at


def pipe(at: Path) -> Path:
    os.mkfifo(at / "x.npy")
    return at / "x.npy"


def long_head(at: Path) -> Path:
    (at / "x.npy").write_bytes(b"\x93NUMPY\x02\x00" + (1 << 30).to_bytes(4, "little") + b" " * (1 << 20))
    return at / "x.npy"


WRONG: dict[str, tuple[Callable[[Tensor, Path], object], str]] = {
    "no such path": (lambda maps, at: at / "nowhere", "nowhere is neither a folder nor a file"),
    "nothing": (lambda maps, at: "", "name a folder or a file after the colon"),
    "another kind": (lambda maps, at: saved(Path.touch, at / "x.csv"), r"x\.csv must be a folder, or a \.npy, "),
    "pipe": (lambda maps, at: pipe(at), "x.npy is neither a folder nor a file"),
    "no number": (lambda maps, at: 3, "heatmaps must be a tensor, got int"),
    "empty folder": (lambda maps, at: at, r"no heatmap for 3 of 3 images \(a/one.png, a/two.tar.png, three.JPEG\); "),
    "one missing": (without, r"has no heatmap for 1 of 3 images \(a/one.png\); name each by"),
    "one name missing": (
        lambda maps, at: {row.file: maps[0] for row in ROWS[:2]},
        r"has no heatmap for 1 of 3 images \(three.JPEG\)",
    ),
    "two files": (twice, r"has several heatmaps for a/one.png: .*one.png.npy, .*one.npy; leave one"),
    "two tensors": (several, r"safetensors holds 2 tensors; a heatmap is one"),
    "fewer": (lambda maps, at: maps[:2], r"shape \(2, 3, 4, 5\): 2 heatmaps, and the run has 3 images; a stack"),
    "more": (lambda maps, at: maps.repeat(2, 1, 1, 1), r"6 heatmaps, and the run has 3 images"),
    "scalar": (lambda maps, at: torch.tensor(3.0), r"shape \(\): 0 heatmaps"),
    "transposed": (lambda maps, at: maps.mT, r"number 1, has shape \(3, 5, 4\); the heatmap of a/one.png must"),
    "channels last": (lambda maps, at: maps.movedim(1, -1), r"has shape \(4, 5, 3\); the heatmap of a/one.png must"),
    "no channels": (lambda maps, at: maps[:, :0], r"has shape \(0, 4, 5\)"),
    "integers": (lambda maps, at: maps.int(), "heatmaps is of type torch.int32; save floating-point numbers"),
    "complex": (lambda maps, at: maps * 1j, "heatmaps is of type torch.complex64; save"),
    "sparse": (lambda maps, at: maps.to_sparse(), "heatmaps is no dense tensor"),
    "meta": (lambda maps, at: maps.to("meta"), "heatmaps is no dense tensor"),
    "bytes": (lambda maps, at: saved(lambda path: np.save(path, np.zeros((3, 4, 5), "u1")), at / "x.npy"),
              "x.npy is of type uint8; save floating-point numbers"),
    "NaN": (lambda maps, at: with_nan(maps), "number 2, has NaN or infinity, in the heatmap of a/two.tar.png"),
    "too large": (lambda maps, at: maps.double() * 1e300, "has NaN or infinity, in the heatmap of a/one.png"),
    "broken npy": (lambda maps, at: saved(lambda path: path.write_bytes(b"nothing"), at / "x.npy"),
                   "x.npy is not a .npy file of numbers, or is cut short"),
    "cut npy": (lambda maps, at: (np.save(at / "x.npy", maps.numpy()), cut(at, "x.npy"))[1],
                r"holds 715 bytes for shape \(3, 3, 4, 5\) of float32; it is cut short"),
    "huge npy": (lambda maps, at: claiming(at, "(3, 1000000000, 4, 5)"), r"x.npy holds 0 bytes for shape \(3, 10+,"),
    "negative npy": (lambda maps, at: claiming(at, "(3, -3, 4, 5)"), "x.npy holds 0 bytes for shape"),
    "long head": (lambda maps, at: long_head(at), "x.npy is not a .npy file of numbers, or is cut short"),
    "pickled npy": (lambda maps, at: saved(lambda path: np.save(path, np.array([Code()] * 3)), at / "x.npy"),
                    "x.npy is of type object; save floating-point numbers"),
    "pickled pt": (lambda maps, at: saved(lambda path: torch.save(Code(), path), at / "x.pt"),
                   "x.pt is no file of tensors alone, or is cut short"),
    "list in a pt": (lambda maps, at: saved(lambda path: torch.save([1, 2, 3], path), at / "x.pt"),
                     "x.pt must be a tensor, got list"),
    "repeated pt": (lambda maps, at: saved(lambda path: torch.save(torch.zeros(1).expand(3, 1 << 30, 4, 5), path),
                                           at / "x.pt"), "a heatmap of more than 256 MB is not read"),
    "cut safetensors": (lambda maps, at: (save_file({"x": maps}, at / "x.safetensors"), cut(at, "x.safetensors"))[1],
                        "x.safetensors is not a safetensors file, or is cut short"),
    "whole numbers": (lambda maps, at: saved(lambda path: save_file({"x": maps.int()}, path), at / "x.safetensors"),
                      "x.safetensors: x is of type I32; save"),
    "Fortran stack": (lambda maps, at: saved(lambda path: np.save(path, np.asfortranarray(maps.numpy())), at / "x.npy"),
                      "x.npy is in Fortran order; save numpy.ascontiguousarray of it"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    build, says = WRONG[name]
    source = build(relevance((4, 5)), tmp_path)
    with pytest.raises(rapbench.RapbenchError, match=says) as caught:
        Heatmaps(source).match(ROWS, (4, 5))
    assert "\n" not in str(caught.value)
    assert not Path("ran").exists(), "a file of data ran code"


def test_one_file_for_two_images_is_refused_unless_they_are_one_picture(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((4, 5), np.float32))
    with pytest.raises(
        rapbench.RapbenchError, match=r"x.npy would be the heatmap of both a/x.png and b/x.png; name each"
    ):
        Heatmaps(tmp_path).match([Row("a/x.png"), Row("b/x.png")], (4, 5))

    class Same(Row):
        sha256 = "0" * 64

    assert Heatmaps(tmp_path).match([Same("a/x.png"), Same("b/x.png")], (4, 5)).of([Same("b/x.png")]).sum() == 20


@pytest.mark.parametrize("signs", [[], ["up"], "positive"])
def test_wrong_signs_are_one_line(signs):
    with pytest.raises(rapbench.RapbenchError, match="heatmaps: signs must be among positive, negative, got "):
        Heatmaps("maps", signs=signs)


def test_a_heatmap_that_changes_during_a_run_is_noticed(tmp_path):
    folder = npy(relevance((4, 5)), tmp_path, lambda row: row.file)
    matched = Heatmaps(folder).match(ROWS, (4, 5))
    np.save(folder / "three.JPEG.npy", np.ones((3, 4, 5), np.float32))
    assert len(matched.of(ROWS[:2])) == 2
    with pytest.raises(rapbench.RapbenchError, match=r"three.JPEG.npy was changed since the run began; run again"):
        matched.of(ROWS[2:])


@pytest.mark.parametrize(("path", "label"), [
    ("maps", "maps"), ("x/maps/", "maps"), ("theirs.v2", "theirs_v2"), ("a b.npy", "a_b"), ("maps.safetensors", "maps"),
])  # fmt: skip
def test_the_label_is_the_folder_s_or_file_s_name(path, label):
    assert Heatmaps(path).label == label


RUN = ["run", f"model={SMALL}", "subset.n=4", "chunk=2", "k.positive=[0,250,all]", "k.negative=[0,2000,all]"]
METHODS = ["gradient_x_input", "sensitivity", "random"]


@pytest.fixture
def real(tmp_path, monkeypatch) -> Path:
    """A folder with a run of real methods, and their maps of its images."""
    monkeypatch.chdir(tmp_path)
    assert main([*RUN, f"method=[{','.join(METHODS)}]"]) == 0
    folder = Path("results/run", SMALL)
    rows = load_manifest(folder / "manifest.csv").rows
    model, data = small(), load_data("samples")
    pictures = [model.transform(Image.open(io.BytesIO(data.read(row.file)))) for row in rows]
    for method in METHODS:
        found = []
        for at in (0, 2):
            images, ids = channels_last(torch.stack(pictures[at : at + 2])), [row.sha256 for row in rows[at : at + 2]]
            found.append(
                rapbench.attribute(model, images, [row.label for row in rows[at : at + 2]], method, image_ids=ids)
            )
        Path("maps", method).mkdir(parents=True)
        for row, one in zip(rows, torch.cat(found), strict=True):
            np.save(f"maps/{method}/{row.sha256}.npy", one.numpy())
    return folder


def frames(folder: Path, method: str) -> list[pd.DataFrame]:
    both = [of(folder) for of in (of_images, of_distances)]
    return [frame[frame.method == method].drop(columns="method").reset_index(drop=True) for frame in both]


def test_saved_heatmaps_give_exactly_the_results_of_their_method(real, capsys):
    chosen = [f"+method.their_{method}={{name: heatmaps:maps/{method}}}" for method in METHODS]
    protocols = "protocol=[removal,shuffling,distance]"
    assert main([*RUN, "name=own", f"method=[{','.join(METHODS)}]", protocols]) == 0
    assert main([*RUN, "name=theirs", "method=[random,edge]", *chosen, protocols]) == 0
    assert re.search(r"no difference shown.*their_gradient_x_input", capsys.readouterr().out)
    own, theirs = (real.parents[1] / name / SMALL for name in ("own", "theirs"))
    for method in METHODS:
        for one, other in zip(frames(own, method), frames(theirs, f"their_{method}"), strict=True):
            assert len(one)
            pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_results_are_kept_by_the_heatmaps_content(real, capsys):
    def cells() -> set[Path]:
        return {path for path in Path("results/store").rglob("*") if path.is_file()}

    shutil.copytree("maps/random", "theirs")
    assert main([*RUN, "method=[heatmaps:theirs]", "protocol=[removal]"]) == 0
    before = cells()
    assert main([*RUN, "method=[random]", "+method.x={name: heatmaps:theirs}", "protocol=[removal]"]) == 0
    assert cells() == before  # what it was called does not count
    shutil.move("theirs", "elsewhere")
    assert main([*RUN, "method=[heatmaps:elsewhere]", "protocol=[removal]"]) == 0
    assert cells() == before
    path = next(Path("elsewhere").iterdir())
    np.save(path, np.load(path) + np.float32(0.5))
    assert main([*RUN, "method=[heatmaps:elsewhere]", "protocol=[removal]"]) == 0
    assert cells() > before


def test_signs_and_labels_are_set_as_any_option(real, capsys):
    assert main([*RUN, "method=[heatmaps:maps/random]", "method.random.signs=[positive]", "protocol=[removal]"]) == 2
    assert "method 'random' is set to heatmaps:maps/random" in capsys.readouterr().err
    wanted = ["method=[heatmaps:maps/gradient_x_input]", "method.gradient_x_input.signs=[up]"]
    assert main([*RUN, *wanted]) == 2
    assert "option signs=['up']" in capsys.readouterr().err
    assert main([*RUN, "+method.x={name: heatmaps:maps/random, signs: [negative]}", "protocol=[removal]"]) == 0
    assert set(of_images(Path("results/run", SMALL)).query("method == 'x'").sign) == {"negative"}


def test_two_of_one_name_and_one_that_is_not_there_are_refused(real, capsys):
    shutil.copytree("maps/random", "other/random")
    shutil.copytree("maps/random", "first/maps")
    shutil.copytree("maps/random", "second/maps")
    assert main([*RUN, "method=[heatmaps:first/maps,heatmaps:second/maps]"]) == 2
    says = (
        "methods heatmaps:first/maps and heatmaps:second/maps would both be called 'maps'; give one a label of its own"
    )
    assert says in capsys.readouterr().err
    assert main([*RUN, "method=[heatmaps:nowhere]"]) == 2
    assert "rapbench: method 'nowhere': heatmaps: nowhere is neither a folder" in capsys.readouterr().err
    next(Path("first/maps").iterdir()).unlink()
    assert main([*RUN, "method=[heatmaps:first/maps]"]) == 2
    assert re.search(
        r"method 'maps': first/maps has no heatmap for 1 of 4 images \(\S+\.jpg\)", capsys.readouterr().err
    )


def test_from_python_a_name_without_a_run_is_one_line():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4))
    with pytest.raises(rapbench.RapbenchError, match="ready-made heatmaps belong to the images of a run"):
        rapbench.attribute(network, torch.rand(2, 3, 2, 2), 1, "heatmaps:maps")
