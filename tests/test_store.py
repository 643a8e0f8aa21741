"""The store: what is whole stays, what is damaged or foreign is found, and several processes fill it together."""

import errno
import fcntl
import io
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

import rapbench
from rapbench.app.cli import main
from rapbench.core.files import write_whole
from rapbench.store import claim
from rapbench.store.cell import Cell, Expected
from rapbench.store.claim import Claim
from rapbench.store.heatmaps import Heatmaps
from rapbench.store.sealed import Damaged, read_sealed, sealed_in, write_sealed

KEY = {"weights": "abc", "k": [0, 250, "all"], "options": {"epsilon": 0.1}}


def cell(store: Path, **more: object) -> Cell:
    about = dict.fromkeys(("model", "data", "images", "method", "protocol"), "x") | {"chunks": "3"}
    return Cell(store, KEY | more, 3, about)


def columns(chunk: int) -> dict[str, np.ndarray]:
    return {"row": np.arange(4) + 4 * chunk, "logit": np.linspace(0, chunk + 1, 4, dtype="f4")}


def filled(store: Path, *chunks: int, **more: object) -> Cell:
    made = cell(store, **more)
    for chunk in chunks:
        made.write(chunk, columns(chunk))
    return made


def files(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*.parquet")}


def test_a_cell_is_the_same_file_whatever_the_order_of_its_chunks(tmp_path):
    for name, order in (("a", (0, 1, 2)), ("b", (2, 0, 1))):
        made = filled(tmp_path / name, *order)
        assert made.table.column("row").to_pylist() == list(range(12))
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert len(files(tmp_path / "a")) == 1
    assert not list(tmp_path.rglob("*.parts"))
    again = cell(tmp_path / "a")
    again.refresh()
    assert again.table == made.table
    assert all(again.has(chunk) for chunk in range(3))
    other = cell(tmp_path / "a", weights="abd")
    other.refresh()
    assert not any(other.has(chunk) for chunk in range(3))


def test_chunks_outlive_the_process_that_made_them(tmp_path):
    filled(tmp_path, 0, 2)
    later = cell(tmp_path)
    later.refresh()
    assert [later.has(chunk) for chunk in range(3)] == [True, False, True]
    later.write(1, columns(1))
    assert later.table.num_rows == 12


DAMAGE = {
    "cut": lambda data: data[:-1],
    "empty": lambda data: b"",
    "one bit": lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
    "foreign": lambda data: b"PAR1" + bytes(50),
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("finished", [True, False])
def test_what_is_damaged_is_named_set_aside_and_missing(tmp_path, capsys, kind, finished):
    filled(tmp_path, *((0, 1, 2) if finished else (0, 1)))
    victim = max(tmp_path.rglob("*.parquet"))
    victim.write_bytes(DAMAGE[kind](victim.read_bytes()))
    later = cell(tmp_path)
    later.refresh()
    assert [later.has(chunk) for chunk in range(3)] == ([False] * 3 if finished else [True, False, False])
    assert f"{victim} is damaged: its checksum is wrong; moved to {tmp_path}/set-aside/" in capsys.readouterr().err
    assert not victim.exists()
    assert (tmp_path / "set-aside" / victim.name).exists()


@pytest.mark.parametrize("place", ["finished", "chunk"])
def test_a_sound_file_in_the_wrong_place_is_not_believed(tmp_path, capsys, place):
    chunks = (0, 1, 2) if place == "finished" else (0,)
    theirs, ours = filled(tmp_path / "theirs", *chunks, weights="other"), filled(tmp_path / "ours", *chunks)
    (foreign,), (mine,) = ((list((tmp_path / name).rglob("*.parquet"))) for name in ("theirs", "ours"))
    shutil.move(foreign, mine.with_name(mine.name.split("-")[0] + "-" + foreign.name.split("-")[1]))
    mine.unlink()
    later = cell(tmp_path / "ours")
    later.refresh()
    assert not later.has(0)
    assert "it holds the results of something else; moved to" in capsys.readouterr().err
    assert theirs.digest != ours.digest


def test_a_sealed_file_that_is_none_of_this_stores(tmp_path, capsys):
    made = cell(tmp_path)
    write_sealed(made.folder, made.digest, "parquet", b"something")
    made.refresh()
    assert not made.has(0)
    assert "it is not a file of this store; moved to" in capsys.readouterr().err


def rewritten(path: Path, change, **label: object) -> Path:
    """Put a file in another's place that was made of its rows, with a name that its bytes deserve."""
    table = pq.read_table(path)
    text = json.dumps(json.loads(table.schema.metadata[b"rapbench"]) | label)
    data = io.BytesIO()
    pq.write_table(change(table).replace_schema_metadata({b"rapbench": text}), data)
    path.unlink()
    return write_sealed(path.parent, path.name.rpartition("-")[0], "parquet", data.getvalue())


def renamed(path: Path, name: str, copy: bool = True) -> Path:
    place = path.with_name(f"{name}-{path.name.rpartition('-')[2]}")
    return Path((shutil.copy if copy else shutil.move)(path, place))


def swapped(path: Path) -> None:
    other = next(path.parent.glob("00001-*"))
    renamed(path, "00001", copy=False)
    renamed(other, "00000", copy=False)


DOUBLE = np.ones(4)
THIRD = "00002-0123456789abcdef.parquet"
# What may lie in a folder of chunks 0 and 1, and which of them are still believed.
FOREIGN = {
    "a copy under the name of a missing chunk": (lambda path: renamed(path, "00002"), [0, 1]),
    "a copy over another chunk": (
        lambda path: (next(path.parent.glob("00001-*")).unlink(), renamed(path, "00001")), [0],
    ),
    "two chunks swapped": (swapped, []),
    "a number that is no chunk's": (lambda path: renamed(path, "00003"), [0, 1]),
    "a number spelt otherwise": (lambda path: renamed(path, "2"), [0, 1]),
    "no number": (lambda path: renamed(path, "notes"), [0, 1]),
    "digits of another script": (lambda path: renamed(path, "0000\u0662"), [0, 1]),
    "another kind of file": (lambda path: write_sealed(path.parent, "00002", "json", b"[]"), [0, 1]),
    "a folder": (lambda path: path.with_name(THIRD).mkdir(), [0, 1]),
    "a pipe": (lambda path: os.mkfifo(path.with_name(THIRD)), [0, 1]),
    "a link to nowhere": (lambda path: path.with_name(THIRD).symlink_to("/no/where"), [0, 1]),
    "a device": (lambda path: path.with_name(THIRD).symlink_to("/dev/zero"), [0, 1]),
    "fewer rows": (lambda path: rewritten(path, lambda table: table.slice(1)), [1]),
    "more rows": (lambda path: rewritten(path, lambda table: pa.concat_tables([table, table.slice(3)])), [1]),
    "no rows": (lambda path: rewritten(path, lambda table: table.slice(0, 0)), [1]),
    "a column less": (lambda path: rewritten(path, lambda table: table.drop_columns(["logit"])), [1]),
    "a column more": (lambda path: rewritten(path, lambda table: table.append_column("x", table["logit"])), [1]),
    "a column of another name": (lambda path: rewritten(path, lambda table: table.rename_columns(["row", "x"])), [1]),
    "another type": (lambda path: rewritten(path, lambda table: pa.table({"row": table["row"], "logit": DOUBLE})), [1]),
    "a finished cell for a chunk": (lambda path: rewritten(path, lambda table: table, chunk=None), [1]),
    "no key": (lambda path: rewritten(path, lambda table: table, key=None), [1]),
    "another key": (lambda path: rewritten(path, lambda table: table, key=KEY | {"seed": 1}), [1]),
    "another version's label": (lambda path: rewritten(path, lambda table: table, columns=None), [1]),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_only_what_is_a_chunk_itself_is_believed(tmp_path, capsys, kind):
    place = tmp_path / "store"
    whole = filled(tmp_path / "whole", 0, 1, 2).table
    made = filled(place, 0, 1)
    change, believed = FOREIGN[kind]
    change(next(made.parts.glob("00000-*")))
    if kind != "a folder":  # which is no file
        assert store("verify", tmp_path) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"rapbench: {2 if kind == 'two chunks swapped' else 1} of ")
        assert "files are not as they should be: " in said
    later = cell(place)
    later.refresh()
    assert [chunk for chunk in range(3) if later.has(chunk)] == believed
    assert later.table is None
    for chunk in range(3):
        if not later.has(chunk):
            later.write(chunk, columns(chunk))
    assert later.table == whole
    assert store("verify", tmp_path) == 0


def test_a_finished_cell_under_another_cells_name_is_not_believed(tmp_path):
    first, second = filled(tmp_path / "store", 0, 1, 2), filled(tmp_path / "store", 0, 1, 2, weights="other")
    victim = second.file
    shutil.copy(first.file, victim.with_name(f"{second.digest}-{first.file.name.rpartition('-')[2]}"))
    assert store("verify", tmp_path) == 1
    victim.unlink()
    later = cell(tmp_path / "store", weights="other")
    later.refresh()
    assert not later.has(0)


def expected(chunk: int) -> Expected:
    return Expected(pa.table({"row": np.arange(4) + 4 * chunk}), {"logit": pa.float32()})


WRONG_ROWS = {
    "rows of other images": lambda rows: rows | {"row": rows["row"] + 1},
    "rows in another order": lambda rows: {name: values[::-1] for name, values in rows.items()},
    "a row twice": lambda rows: {name: values[[0, 0, 2, 3]] for name, values in rows.items()},
    "wide numbers": lambda rows: rows | {"logit": rows["logit"].astype("f8")},
    "narrow rows": lambda rows: rows | {"row": rows["row"].astype("i4")},
    "gaps": lambda rows: rows | {"logit": pa.array([1, None, 2, 3], pa.float32())},
}


@pytest.mark.parametrize("kind", WRONG_ROWS)
@pytest.mark.parametrize("finished", [True, False])
def test_rows_that_are_not_the_chunks_are_set_aside_whatever_the_file_says_of_itself(tmp_path, capsys, kind, finished):
    naive = cell(tmp_path)
    for chunk in range(3 if finished else 2):
        naive.write(chunk, WRONG_ROWS[kind](columns(chunk)) if chunk == 1 else columns(chunk))
    later = cell(tmp_path)
    later.expected = expected
    later.refresh()
    assert [later.has(chunk) for chunk in range(3)] == ([False] * 3 if finished else [True, False, False])
    assert "is damaged: it" in capsys.readouterr().err
    with pytest.raises(rapbench.RapbenchError, match="cannot be kept"):
        later.write(1, WRONG_ROWS[kind](columns(1)))


def test_chunks_of_different_types_are_all_computed_again(tmp_path):
    made = filled(tmp_path, 0, 1)
    made.write(2, columns(2) | {"logit": np.zeros(4)})
    assert made.table is None
    assert not any(made.has(chunk) for chunk in range(3))
    for chunk in range(3):
        made.write(chunk, columns(chunk))
    assert made.table.num_rows == 12


@pytest.mark.parametrize("error", [errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_what_this_process_cannot_read_now_is_not_set_aside(tmp_path, monkeypatch, error):
    made = filled(tmp_path, 0)

    def refused(path: object, *_: object) -> int:
        raise OSError(error, os.strerror(error), str(path))

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(rapbench.RapbenchError, match=rf"00000-.* cannot be read: {os.strerror(error)}"):
        cell(tmp_path).refresh()
    assert list(made.parts.glob("00000-*"))


def test_a_chunk_that_goes_bad_before_the_join_is_missing_again(tmp_path):
    made = filled(tmp_path, 0, 1)
    victim = next(made.parts.glob("00001-*"))
    victim.write_bytes(b"x")
    made.write(2, columns(2))
    assert [made.has(chunk) for chunk in range(3)] == [True, False, True]
    made.write(1, columns(1))
    assert made.table.num_rows == 12


def test_a_process_that_finds_the_chunks_joined_by_another_takes_the_finished_file(tmp_path):
    slow = filled(tmp_path, 0, 1)
    quick = cell(tmp_path)
    quick.refresh()
    quick.write(2, columns(2))
    slow.write(2, columns(2))  # its chunks are gone by now
    slow.refresh()
    assert slow.table == quick.table


def hold(path: Path, held: "multiprocessing.synchronize.Event") -> None:
    claim = Claim.of(path)
    assert claim
    held.set()
    os.kill(os.getpid(), 19)  # stopped, as a process that hangs is


def test_a_claim_is_one_process_at_a_time_and_ends_with_it(tmp_path):
    path = tmp_path / "a.lock"
    with Claim.of(path):
        code = f"from pathlib import Path; from rapbench.store.claim import Claim; print(Claim.of(Path({str(path)!r})))"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert other.stdout == "None\n"
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=hold, args=(path, held))
    process.start()
    held.wait()
    assert Claim.of(path) is None
    process.kill()
    process.join()
    assert path.exists()  # a stale file, whose claim is nobody's
    with Claim.of(path) as claim:
        assert claim


@pytest.mark.parametrize("make", [Claim.of, lambda path: write_whole(path, b"x")], ids=["claim", "file"])
def test_a_folder_that_is_removed_while_it_is_made_is_made_anew(make, tmp_path, monkeypatch):
    """It was there, and is gone when that is looked at."""
    folder, mkdir, seen = tmp_path / "a.parts", os.mkdir, []

    def removed_meanwhile(path, *mode):
        try:
            mkdir(path, *mode)
        except FileExistsError:
            if not seen:
                seen.append(path)
                os.rmdir(path)
            raise

    folder.mkdir()
    monkeypatch.setattr(os, "mkdir", removed_meanwhile)
    assert make(folder / "00000.lock") is not False
    assert seen
    assert (folder / "00000.lock").is_file()


def test_a_claim_holds_against_the_removal_of_its_folder(tmp_path):
    """As `gc` removes what nobody holds: who asks meanwhile makes it anew, and no two have the same."""
    path = tmp_path / "a.parts" / "00000.lock"
    for _ in range(200):
        thread = threading.Thread(target=shutil.rmtree, args=(path.parent,), kwargs={"ignore_errors": True})
        thread.start()
        with Claim.of(path):
            thread.join()
    with Claim.of(path) as first:
        path.unlink()  # by hand
        with Claim.of(path) as second:
            assert second
            assert not os.path.samestat(os.fstat(first.handle), os.fstat(second.handle))
        with Claim.of(path):
            assert Claim.of(path) is None


def test_a_file_that_is_removed_between_opening_and_locking_is_made_anew(tmp_path, monkeypatch):
    path = tmp_path / "a.parts" / "00000.lock"
    really, removed = claim.lock, []

    def lock(handle: int) -> bool:
        if not removed:  # as `gc` may, of a lock that nobody has yet
            shutil.rmtree(path.parent)
            removed.append(path)
        return really(handle)

    monkeypatch.setattr(claim, "lock", lock)
    with Claim.of(path) as held:
        assert os.path.samestat(os.fstat(held.handle), path.stat())
        assert Claim.of(path) is None


@pytest.mark.parametrize("error", [errno.EACCES, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM])
def test_a_disk_that_locks_nothing_is_not_waited_for(tmp_path, monkeypatch, error, capsys):
    def flock(handle: int, how: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(claim, "_without_locks", set())
    with Claim.of(tmp_path / "a.lock") as first, Claim.of(tmp_path / "b.lock") as second:
        assert first
        assert second
    assert capsys.readouterr().err.count(f"cannot be locked ({os.strerror(error)})") == 1
    filled(tmp_path / "store", 0, 1, 2)  # files are written all the same


@pytest.mark.parametrize("number", ["float32", "float16"])
def test_heatmaps_are_read_as_they_were_given_back(tmp_path, number):
    maps = torch.randn(3, 5, 7) * torch.tensor([1e-6, 1.0, 1e6]).view(3, 1, 1)
    maps[1, 0, 0] = 0
    kept = Heatmaps(tmp_path, KEY, number)
    assert kept.read(4) is None
    given = kept.write(4, maps)
    assert torch.equal(Heatmaps(tmp_path, KEY, number).read(4), given)
    assert kept.read(3) is None
    assert Heatmaps(tmp_path, KEY | {"weights": "other"}, number).read(4) is None
    if number == "float32":
        assert torch.equal(given, maps)
    else:
        assert ((given - maps).abs().amax((1, 2)) < 1e-3 * maps.abs().amax((1, 2))).all()
        assert torch.equal(given.sign(), maps.sign())
    assert torch.equal(kept.write(5, torch.zeros(1, 2, 2)), torch.zeros(1, 2, 2))
    victim = next(kept.folder.glob("00004-*"))
    victim.write_bytes(victim.read_bytes()[:-1])
    assert kept.read(4) is None
    assert not victim.exists()


def maps(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def resaved(path: Path, change) -> None:
    data = path.read_bytes()
    with safe_open(path, "pt") as file:
        tensors, about = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    path.unlink()
    assert data
    write_sealed(path.parent, path.name.rpartition("-")[0], "safetensors", save(change(tensors), about))


FOREIGN_MAPS = {
    "a copy": lambda path: (renamed(path, "00001"), path.unlink()),
    "another method's": lambda path: other_maps(path),
    "fewer maps": lambda path: resaved(path, lambda t: {name: values[1:].contiguous() for name, values in t.items()}),
    "another type": lambda path: resaved(path, lambda t: t | {"values": t["values"].double()}),
    "a tensor more": lambda path: resaved(path, lambda t: t | {"more": t["scale"].clone()}),
    "a tensor less": lambda path: resaved(path, lambda t: {"values": t["values"]}),
    "without a label": lambda path: (
        write_sealed(path.parent, "00000", "safetensors", save(load_file(path))), path.unlink(),
    ),
    "no tensors": lambda path: (write_sealed(path.parent, "00000", "safetensors", b"x" * 99), path.unlink()),
}  # fmt: skip


def other_maps(path: Path) -> Path:
    """Put the heatmaps of another method into a folder, and return where they are."""
    other = Heatmaps(path.parents[2], KEY | {"method": "other"}, "float32")
    other.write(0, maps(4, 5, 6))
    (found,) = other.folder.glob("00000-*")
    path.unlink()
    return Path(shutil.move(found, path.parent))


@pytest.mark.parametrize("kind", FOREIGN_MAPS)
def test_only_a_chunks_own_heatmaps_are_believed(tmp_path, kind, capsys):
    kept = Heatmaps(tmp_path / "store", KEY, "float32")
    kept.write(0, maps(4, 5, 6))
    assert store("verify", tmp_path) == 0
    FOREIGN_MAPS[kind](next(kept.folder.glob("00000-*")))
    assert store("verify", tmp_path) == 1
    assert [kept.read(chunk, (4, 5, 6)) for chunk in range(2)] == [None, None]
    assert "is damaged: it" in capsys.readouterr().err
    assert store("verify", tmp_path) == 0


@pytest.mark.parametrize("shape", [(3, 5, 6), (4, 5, 7), (4,), (5,)])
def test_heatmaps_of_another_shape_are_not_believed(tmp_path, shape):
    kept = Heatmaps(tmp_path, KEY, "float32")
    kept.write(0, maps(4, 5, 6))
    assert (kept.read(0, shape) is None) == (shape != (4,))


@pytest.mark.parametrize("shape", [(2, 7), (2, 3, 4), (2, 3, 4, 5)])
@pytest.mark.parametrize("number", ["float32", "float16"])
def test_heatmaps_have_any_number_of_dimensions(tmp_path, shape, number):
    kept = Heatmaps(tmp_path, KEY, number)
    assert torch.equal(kept.write(0, maps(*shape)), kept.read(0, shape))


def test_sealed_names_are_read_back(tmp_path):
    path = write_sealed(tmp_path, "a-b", "json", b"{}")
    assert list(sealed_in(tmp_path)) == [("a-b", path)]
    assert list(sealed_in(tmp_path / "none")) == []
    assert read_sealed(path) == b"{}"
    with pytest.raises(Damaged, match="checksum"):
        read_sealed(path.rename(path.with_name("a-b-0123456789abcdef.json")))


def store(verb: str, results: Path, *options: str) -> int:
    return main(["store", verb, "--results", str(results), *options])


def test_store_ls_verify_gc(tmp_path, capsys):
    place = tmp_path / "store"
    assert store("ls", tmp_path) == 2
    assert "is not there; name the folder" in capsys.readouterr().err
    filled(place, 0, 1, 2)
    begun = filled(place, 0, weights="begun")
    with begun.claim(1):
        pass
    assert store("ls", tmp_path) == 0
    said = capsys.readouterr().out
    assert "finished" in said
    assert "1 of 3 chunks" in said
    assert "2 cells, " in said
    assert store("verify", tmp_path) == 0
    assert "is sound: 2 files." in capsys.readouterr().out
    assert store("gc", tmp_path) == 0
    assert "Nothing to remove" in capsys.readouterr().out

    (place / "cells" / "notes.txt").write_text("hello")
    victim = next(begun.parts.glob("00000-*"))
    victim.write_bytes(b"x")
    assert store("verify", tmp_path) == 1
    said = capsys.readouterr().err
    assert said.startswith("rapbench: 2 of 3 files are not as they should be: ")
    assert f"{victim}: its checksum is wrong" in said
    assert "notes.txt: it is not a file of this store" in said
    (place / "cells" / "notes.txt").unlink()

    cell(place, weights="begun").refresh()
    leftover = begun.folder / ".00000-abc.parquet.tmp"
    fresh = begun.folder / ".00001-abc.parquet.tmp"
    for path in (leftover, fresh):
        path.write_bytes(b"y" * 2000)
    os.utime(leftover, (1e9, 1e9))
    before = len(list(place.rglob("*")))
    assert store("gc", tmp_path, "--dry-run") == 0
    assert len(list(place.rglob("*"))) == before
    assert store("gc", tmp_path) == 0
    said = capsys.readouterr().out
    assert "set aside: 1 files, 1 bytes" in said
    assert "leftovers of killed runs: 1 files, 2 kB" in said
    assert fresh.exists()
    assert not leftover.exists()
    assert len(files(place)) == 1
    assert store("gc", tmp_path, "--stale") == 0  # KEY names no versions at all
    assert "results of other versions: 1 files" in capsys.readouterr().out
    assert files(place) == {}


def test_two_results_of_one_key_are_found(tmp_path, capsys):
    made = filled(tmp_path / "store", 0, 1, 2)
    other = Cell(tmp_path / "store", KEY, 1, {})
    other.write(0, columns(7))
    assert made.digest == other.digest
    assert store("verify", tmp_path) == 1
    assert "holds other results of the same" in capsys.readouterr().err


def test_what_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "cells").write_text("in the way")
    with pytest.raises(rapbench.RapbenchError, match=r"cannot write .*cells"):
        filled(tmp_path, 0)
    with pytest.raises(rapbench.RapbenchError, match=r"cannot write .*cells"):
        cell(tmp_path).claim(0)


def test_labels_in_the_store_are_json(tmp_path):
    (path,) = filled(tmp_path, 0, 1, 2).folder.glob("*.parquet")
    from rapbench.store.cell import open_table

    label, _ = open_table(path)
    assert label["key"] == json.loads(json.dumps(KEY))


@pytest.fixture
def computing(tmp_path):
    """A process that computes chunk 1 of three of a cell in `tmp_path`'s store; it is stopped, and holds its claim."""
    made = cell(tmp_path / "store")
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=hold, args=(made.parts / "00001.lock", held))
    process.start()
    held.wait()
    yield made, process
    process.kill()
    process.join()


@pytest.mark.parametrize("begun", [0, 1])
def test_gc_leaves_a_folder_in_which_somebody_computes(tmp_path, computing, begun, capsys):
    """Before the first chunk, and beside chunks of another version."""
    made, process = computing
    for chunk in range(begun):
        made.write(chunk, columns(chunk))
    before = sorted(path.name for path in made.parts.iterdir())
    assert store("gc", tmp_path, "--stale") == 0
    assert "Nothing to remove" in capsys.readouterr().out
    assert sorted(path.name for path in made.parts.iterdir()) == before
    assert made.claim(1) is None
    process.kill()
    process.join()
    assert store("gc", tmp_path, "--stale") == 0
    assert not made.parts.exists()
    assert ("results of other versions: 1 files" in capsys.readouterr().out) == bool(begun)


def test_gc_leaves_a_finished_cells_chunks_to_who_computes_there(tmp_path):
    made = filled(tmp_path / "store", 0, 1, 2)
    write_sealed(made.parts, "00000", "parquet", made._parquet(pa.table(columns(0)), 0))
    with made.claim(1):
        assert store("gc", tmp_path) == 0
        assert len(list(made.parts.iterdir())) == 2
    assert store("gc", tmp_path) == 0
    assert not made.parts.exists()
    assert files(tmp_path).keys() == {str(made.file.relative_to(tmp_path))}


def test_gc_leaves_what_is_being_written_and_the_notes_of_sweeps_that_run(tmp_path):
    place = tmp_path / "store"
    filled(place, 0, 1, 2)
    names = [place / "cells" / ".a.parquet.12345678", place / "sweeps" / "one" / "00000.json"]
    for path in names:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    lock = names[1].with_name("sweep.lock")
    with names[0].open("r+b") as being, Claim.of(lock):
        fcntl.flock(being, fcntl.LOCK_EX)
        for path in (*names, lock):
            os.utime(path, (1e9, 1e9))
        assert store("gc", tmp_path) == 0
        assert all(path.exists() for path in names)
        assert store("verify", tmp_path) == 0
    assert store("gc", tmp_path) == 0
    assert not any(path.exists() for path in names)


@pytest.mark.parametrize("what", ["pipe", "link to nowhere", "folder", "device"])
def test_a_store_with_odd_entries_is_listed_checked_and_cleaned(tmp_path, what, capsys):
    made = filled(tmp_path / "store", 0, 1, 2)
    for place in (made.folder, tmp_path / "store" / "cells", tmp_path / "store" / "set-aside"):
        for name in (f"{'0' * 32}-{'1' * 16}.parquet", "notes.txt", ".hidden"):
            path = place / name
            place.mkdir(exist_ok=True)
            if what == "pipe":
                os.mkfifo(path)
            elif what == "folder":
                path.mkdir()
            else:
                path.symlink_to("/dev/zero" if what == "device" else "/no/where")
    assert store("ls", tmp_path) == 0
    assert "cells, " in capsys.readouterr().out
    assert store("verify", tmp_path) == (what != "folder")
    assert store("gc", tmp_path, "--stale", "--heatmaps") == 0
    made = filled(tmp_path / "store", 0, 1, 2)
    assert made.table.num_rows == 12


@pytest.mark.slow
def test_a_store_of_ten_thousand_files_is_looked_after_in_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    for number in range(5000):
        filled(tmp_path / "store", 0, 1, 2, number=number)
    for number in range(2500):
        filled(tmp_path / "store", 0, 1, number=-1 - number)
    for verb in (["ls"], ["verify"], ["gc", "--stale", "--dry-run"]):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "rapbench.app.cli", "store", *verb, "--results", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 5, verb
