"""Decoding: every kind of image file, broken ones, and the processes that decode ahead of the model."""

import dataclasses
import errno
import faulthandler
import io
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, PngImagePlugin
from torchvision.transforms.functional import pil_to_tensor

import rapbench
from rapbench.app.cli import ended
from rapbench.data.decoding import decode as decoding
from rapbench.data.decoding import workers
from rapbench.data.decoding.decode import Decoded, decode, decode_ahead, in_batches
from rapbench.data.labelled.dataset import Dataset, Sample
from rapbench.data.samples import samples
from rapbench.model.preprocessing import Preprocess

SMALL = Preprocess((0.0, 0.0, 0.0), (255.0, 255.0, 255.0), resize=40, crop=32)
PHOTO = Image.open(samples().root / samples().samples[0].file).convert("RGB").resize((90, 60))


def encoded(image: Image.Image, kind: str = "PNG", **more: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **more)
    return data.getvalue()


def dataset_of(folder: Path, upright: bool = False, **files: bytes) -> Dataset:
    for name, data in files.items():
        (folder / f"{name}.JPEG").write_bytes(data)
    return Dataset("test", folder, [Sample(f"{name}.JPEG", 0) for name in files], "", upright=upright)


def decoded(folder: Path, data: bytes, upright: bool = False) -> Decoded:
    dataset = dataset_of(folder, upright, a=data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing may reach the terminal
        return decode(dataset, dataset.samples[0], pil_to_tensor)


def deep_grey() -> Image.Image:
    return Image.fromarray((np.asarray(PHOTO.convert("L")).astype(np.uint16) << 8) + 77)


def transparent_palette() -> bytes:
    return encoded(PHOTO.quantize(16), transparency=bytes(range(0, 160, 10)))


FILES = {
    "RGB PNG named JPEG": (encoded(PHOTO), PHOTO),
    "grey": (encoded(PHOTO.convert("L")), PHOTO.convert("L").convert("RGB")),
    "grey JPEG": (encoded(PHOTO.convert("L"), "JPEG", quality=100), None),
    "one bit": (encoded(PHOTO.convert("1")), PHOTO.convert("1").convert("RGB")),
    "16 bits of grey": (encoded(deep_grey()), PHOTO.convert("L").convert("RGB")),
    "CMYK": (encoded(PHOTO.convert("CMYK"), "JPEG", quality=100), None),
    "palette": (encoded(PHOTO.quantize(16)), PHOTO.quantize(16).convert("RGB")),
    "transparent palette": (transparent_palette(), PHOTO.quantize(16).convert("RGB")),
    "RGBA": (encoded(PHOTO.convert("RGBA")), PHOTO),
    "half transparent": (encoded(Image.merge("RGBA", (*PHOTO.split(), PHOTO.convert("L")))), PHOTO),
    "WebP": (encoded(PHOTO, "WEBP", lossless=True), PHOTO),
    "BMP": (encoded(PHOTO, "BMP"), PHOTO),
}


@pytest.mark.parametrize("kind", FILES)
def test_every_kind_of_file_is_decoded(tmp_path, kind):
    data, want = FILES[kind]
    got = decoded(tmp_path, data)
    assert got.error == ""
    assert got.pixels.shape == (3, 60, 90)
    if want is not None:
        assert torch.equal(got.pixels, pil_to_tensor(want))
    else:  # a lossy file, about the same picture
        of = PHOTO.convert("L").convert("RGB") if "grey" in kind else PHOTO
        assert (got.pixels.float() - pil_to_tensor(of).float()).abs().mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_where_asked(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(PHOTO, "JPEG", exif=exif.tobytes())
    stored = Image.open(io.BytesIO(data))
    assert torch.equal(decoded(tmp_path, data).pixels, pil_to_tensor(stored.convert("RGB")))
    want = pil_to_tensor(ImageOps.exif_transpose(stored).convert("RGB"))
    assert torch.equal(decoded(tmp_path, data, upright=True).pixels, want)
    assert want.shape == ((3, 60, 90) if orientation < 5 else (3, 90, 60))


@pytest.mark.parametrize("exif", [
    b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
    b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\xff\xff\0\0\0\0\0\x01", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12",
])  # fmt: skip
def test_damaged_exif_breaks_nothing_and_says_nothing(tmp_path, exif):
    data = encoded(PHOTO, "JPEG", exif=exif)
    want = pil_to_tensor(Image.open(io.BytesIO(encoded(PHOTO, "JPEG"))))
    for upright in (False, True):
        assert torch.equal(decoded(tmp_path, data, upright).pixels, want)


def test_an_odd_orientation_is_none(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 77
    assert decoded(tmp_path, encoded(PHOTO, "JPEG", exif=exif.tobytes()), upright=True).error == ""


def bomb() -> bytes:
    data = encoded(Image.new("1", (8, 8)))
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + data[24:29]
    return data[:12] + header + PngImagePlugin.zlib.crc32(header).to_bytes(4, "big") + data[33:]


BROKEN = {
    "empty": (b"", "the file is empty"),
    "a web page": (b"<html>not found</html>", "not an image"),
    "truncated JPEG": (encoded(PHOTO, "JPEG")[:-400], "image file is truncated"),
    "truncated PNG": (encoded(PHOTO)[:2000], "truncated"),
    "cut in the header": (encoded(PHOTO, "JPEG")[:10], ""),
    "bomb": (bomb(), "more than 50 million"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_comes_back_with_its_reason(tmp_path, kind):
    data, says = BROKEN[kind]
    first, again = decoded(tmp_path, data), decoded(tmp_path, data)
    assert first.pixels is None
    assert first.sha256
    assert says in first.error
    assert first.error
    assert "0x" not in first.error
    assert first == again  # the reason is kept between runs


def test_a_file_that_cannot_be_read_has_no_hash(tmp_path):
    got = decode(Dataset("test", tmp_path, [], ""), Sample("none.JPEG", 0), SMALL)
    assert got.pixels is None
    assert got.sha256 == ""
    assert "No such file" in got.error


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_regular_file_is_not_waited_for(tmp_path, kind):
    path = tmp_path / "a.JPEG"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    got = decode(Dataset("test", tmp_path, [], ""), Sample("a.JPEG", 0), SMALL)
    assert (got.pixels, got.sha256) == (None, "")
    assert "not a regular file" in got.error


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_what_this_process_lacks_is_not_taken_for_a_broken_image(tmp_path, number):
    class Short(Dataset):
        def read(self, file: str) -> bytes:
            raise OSError(number, os.strerror(number))

    with pytest.raises(OSError, match=os.strerror(number)):
        decode(Short("test", tmp_path, [], ""), Sample("a.JPEG", 0), SMALL)


def test_memory_that_runs_out_is_not_taken_for_a_broken_image(tmp_path, monkeypatch):
    def load(*_: object, **__: object) -> None:
        raise MemoryError

    dataset = dataset_of(tmp_path, a=encoded(PHOTO))
    monkeypatch.setattr(Image, "open", load)
    with pytest.raises(MemoryError):
        decode(dataset, dataset.samples[0], SMALL)


def test_a_transform_that_fails_is_not_taken_for_a_broken_image(tmp_path):
    def transform(image: Image.Image) -> torch.Tensor:
        raise ValueError("a bug")

    dataset = dataset_of(tmp_path, a=encoded(PHOTO))
    with pytest.raises(ValueError, match="a bug"):
        decode(dataset, dataset.samples[0], transform)


@pytest.fixture
def mixed(tmp_path) -> Dataset:
    """Forty images of all kinds, two of them broken."""
    kinds = [data for data, _ in FILES.values()]
    files = {f"{i:02d}": BROKEN["truncated JPEG"][0] if i in (5, 31) else kinds[i % len(kinds)] for i in range(40)}
    return dataset_of(tmp_path, **files)


def same(found: list[Decoded], want: list[Decoded]) -> bool:
    return [dataclasses.replace(image, pixels=None) for image in found] == [
        dataclasses.replace(image, pixels=None) for image in want
    ] and all(
        a.pixels is b.pixels is None or (a.pixels.dtype == b.pixels.dtype and torch.equal(a.pixels, b.pixels))
        for a, b in zip(found, want, strict=True)
    )


@pytest.mark.parametrize("workers", [0, 1, 3, None])
@pytest.mark.parametrize("ahead", [1, 2, 32])
def test_the_pixels_and_the_order_do_not_depend_on_the_processes(mixed, workers, ahead):
    want = [decode(mixed, sample, SMALL) for sample in mixed.samples]
    assert sum(image.pixels is None for image in want) == 2
    state = torch.get_rng_state()
    assert same(list(decode_ahead(mixed, mixed.samples, SMALL, ahead, workers)), want)
    assert torch.equal(torch.get_rng_state(), state)
    assert not multiprocessing.active_children()


def test_processes_decode_as_many_as_pay(mixed, monkeypatch):
    """Seen from the processes that the images come from."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(2), raising=False)

    def where(image: Image.Image) -> torch.Tensor:
        return torch.tensor([os.getpid(), torch.get_num_threads()])

    def places(images: int) -> set[int]:
        found = decode_ahead(mixed, [mixed.samples[0]] * images, where)
        return {int(image.pixels[0]) for image in found}

    assert places(15) == {os.getpid()}
    assert len(places(31) - {os.getpid()}) == 1
    assert len(places(100) - {os.getpid()}) == 2
    assert len(places(100) & {os.getpid()}) == 0


def test_no_more_is_decoded_than_asked_for(mixed, tmp_path):
    seen = tmp_path / "seen"
    seen.mkdir()

    def note(image: Image.Image) -> torch.Tensor:
        (seen / str(time.monotonic_ns())).touch()
        return torch.zeros(1)

    stream = decode_ahead(mixed, mixed.samples, note, ahead=4, workers=2)
    next(stream)
    time.sleep(0.5)
    assert 1 <= len(list(seen.iterdir())) <= 5
    stream.close()


@pytest.mark.parametrize("interrupt", [GeneratorExit, KeyboardInterrupt])
def test_an_early_end_ends_the_processes(mixed, interrupt):
    stream = decode_ahead(mixed, mixed.samples, SMALL, workers=2)
    next(stream)
    assert len(multiprocessing.active_children()) == 2
    if interrupt is GeneratorExit:
        stream.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            stream.throw(KeyboardInterrupt())
    assert not multiprocessing.active_children()


def large(image: Image.Image) -> torch.Tensor:
    time.sleep(0.005)
    return torch.full((3, 200, 200), float(np.asarray(image).mean()))  # more than a pipe holds


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("every", [False, True], ids=["one process", "all processes"])
@pytest.mark.parametrize("tries", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_the_rest_goes_on_without_processes_that_are_ended(mixed, number, every, tries, capsys):
    """At any moment, in the middle of an image's way through the pipe too."""
    want = [decode(mixed, sample, large) for sample in mixed.samples]
    draw = random.Random(7)
    for _ in range(tries):
        started, at = time.monotonic(), draw.randrange(len(want))
        found = []
        for place, image in enumerate(decode_ahead(mixed, mixed.samples, large, ahead=6, workers=3)):
            found.append(image)
            if place == at:
                for process in multiprocessing.active_children()[: None if every else 1]:
                    os.kill(process.pid, number)
            time.sleep(draw.choice([0, 0.002]))
        assert same(found, want)
        assert time.monotonic() - started < 10
        assert not multiprocessing.active_children()
    assert f"was ended from outside (signal {number.value})" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_is_ended_while_it_is_waited_for(mixed, number):
    def slow(image: Image.Image) -> torch.Tensor:
        time.sleep(0.05)
        return SMALL(image)

    want = [decode(mixed, sample, SMALL) for sample in mixed.samples]
    stream = decode_ahead(mixed, mixed.samples, slow, workers=2)
    found = [next(stream)]
    victim = multiprocessing.active_children()[0].pid
    code = f"import os, time; time.sleep(.3); os.kill({victim}, {number.value})"
    with subprocess.Popen([sys.executable, "-c", code]):
        found += stream
    assert same(found, want)


DEADLY = {
    "memory": (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed, as when memory runs out"),
    "crash": (lambda: (faulthandler.disable(), os.kill(os.getpid(), signal.SIGSEGV)), "exit code -11"),
    "exit": (lambda: os._exit(3), "exit code 3"),
}


@pytest.mark.parametrize("kind", DEADLY)
def test_an_image_that_processes_die_of_is_named(mixed, kind):
    die, says = DEADLY[kind]
    main = os.getpid()

    def deadly(image: Image.Image) -> torch.Tensor:
        if image.size == (11, 13) and os.getpid() != main:
            die()
        return SMALL(image)

    (mixed.root / mixed.samples[17].file).write_bytes(encoded(Image.new("RGB", (11, 13))))
    with pytest.raises(rapbench.RapbenchError, match=rf"^processes die of decoding {mixed.samples[17].file} \({says}"):
        list(decode_ahead(mixed, mixed.samples, deadly, workers=3))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("most", [0, 1])
def test_where_no_processes_can_be_started_fewer_decode(mixed, monkeypatch, most):
    started = []

    def start(self: object, *arguments: object) -> None:
        if len(started) == most:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        started.append(self)
        begin(self, *arguments)

    begin = workers.Worker.__init__
    monkeypatch.setattr(workers.Worker, "__init__", start)
    want = [decode(mixed, sample, SMALL) for sample in mixed.samples]
    assert same(list(decode_ahead(mixed, mixed.samples, SMALL, workers=3)), want)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("tries", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_a_signal_at_any_moment_of_decoding_ends_this_process_and_its_helpers(mixed, number, tries):
    draw = random.Random(3)
    for _ in range(tries):
        read, write = os.pipe()
        child = os.fork()
        if not child:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
            multiprocessing.process._children.clear()  # pytest's own, not this one's

            def action(write: int = write) -> str:
                stream = decode_ahead(mixed, mixed.samples * 50, large, workers=2)
                next(stream)
                os.write(write, " ".join(str(process.pid) for process in multiprocessing.active_children()).encode())
                return str(list(stream))

            os._exit(ended(action))
        helpers = [int(pid) for pid in os.read(read, 100).split()]
        time.sleep(draw.uniform(0, 0.1))
        os.kill(child, number)
        started = time.monotonic()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 128 + number
        while [pid for pid in helpers if alive(pid)]:
            time.sleep(0.02)
            assert time.monotonic() - started < 10
        os.close(read)
        os.close(write)


KILLED = """
import multiprocessing, time, torch
from rapbench.data.decoding.decode import decode_ahead
from rapbench.data.samples import samples
data = samples()
stream = decode_ahead(data, data.samples * 5, lambda image: torch.zeros(3, 400, 400), workers=2)
next(stream)
print(*(process.pid for process in multiprocessing.active_children()), flush=True)
time.sleep(60)
"""


def test_processes_end_with_the_one_that_they_decode_for():
    """Killed, it can tell them nothing; more than a pipe holds is waiting to be handed over."""
    main = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True)
    workers = [int(pid) for pid in main.stdout.readline().split()]
    assert len(workers) == 2
    time.sleep(1)
    main.kill()
    main.wait()
    main.stdout.close()
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in workers if alive(pid)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_failing_transform_is_raised_from_the_processes(mixed):
    def transform(image: Image.Image) -> torch.Tensor:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        list(decode_ahead(mixed, mixed.samples, transform, workers=2))
    assert not multiprocessing.active_children()


def test_two_streams_at_once(mixed):
    want = [decode(mixed, sample, SMALL) for sample in mixed.samples]
    pairs = list(zip(*(decode_ahead(mixed, mixed.samples, SMALL, workers=1) for _ in range(2)), strict=True))
    assert same([a for a, _ in pairs], want)
    assert same([b for _, b in pairs], want)


def test_processes_that_are_spawned_decode_the_same(mixed, monkeypatch):
    monkeypatch.setattr(decoding, "_start_method", lambda: "spawn")
    monkeypatch.setattr(decoding, "SPAWN_PAYS", 40)
    want = [decode(mixed, sample, SMALL) for sample in mixed.samples]
    stream = decode_ahead(mixed, mixed.samples, SMALL)
    images = [next(stream)]
    assert len(multiprocessing.active_children()) == 1
    assert same([*images, *stream], want)
    unpicklable = decode_ahead(mixed, mixed.samples, lambda image: SMALL(image))
    images = [next(unpicklable)]
    assert not multiprocessing.active_children()
    assert same([*images, *unpicklable], want)


def test_batches_are_whole_but_the_last():
    images = [Decoded(Sample(str(i), i), "", None) for i in range(7)]
    assert [len(batch) for batch in in_batches(images, 3)] == [3, 3, 1]
    assert [image for batch in in_batches(images, 3) for image in batch] == images


def test_a_daemon_decodes_alone(mixed, monkeypatch):
    monkeypatch.setattr(multiprocessing.current_process(), "_config", {"daemon": True})
    assert decoding._workers(1000, SMALL) == 0
