"""Sweeps: shards, several processes on one store, jobs that fail, and memory that runs out."""

import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hydra
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

import rapbench
from rapbench.app import job_folders
from rapbench.app.cli import main
from rapbench.core.limits import out_of_memory
from rapbench.core.paths import resource
from rapbench.evaluation.shard import Shard
from rapbench.methods import methods
from tests.pages import ROOT
from tests.small import SMALL

REAL = "efficientnet_lite0"
COMMON = ["subset.n=7", "chunk=2", "method=[random,sensitivity]",
          "protocol=[removal,distance]", "k.positive=[0,250,all]", "k.negative=[0,2000]"]  # fmt: skip
TABLES = ("results.parquet", "table1.csv", "distance.csv", "manifest.csv")


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*overrides: str, model: str = SMALL, results: str = "results", code: int = 0) -> dict[str, bytes]:
    assert main(["run", f"model={model}", *COMMON, *overrides, f"results={results}"]) == code
    folder = Path(results, "run", model)
    return {name: (folder / name).read_bytes() for name in TABLES if (folder / name).exists()}


def parts(results: str = "results") -> list[Path]:
    return sorted(Path(results).rglob("*.parts/*.parquet"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """What one uninterrupted run writes."""
    found = run(results=str(tmp_path_factory.mktemp("whole")))
    assert found.keys() == set(TABLES)
    return found


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> dict[str, bytes]:
    """What one uninterrupted run of a real model writes: it takes long enough to be stopped."""
    found = run(results=str(tmp_path_factory.mktemp("real")), model=REAL)
    assert found.keys() == set(TABLES)
    return found


def test_shards_in_any_order_give_the_bytes_of_one_run(whole, capsys):
    assert run("shard=3/3") == {}
    assert "Shard 3/3 is done. Chunks that other shards still have to compute: 3;" in capsys.readouterr().out
    assert run("shard=1/3") == {}
    assert len(parts()) == 3 * 4  # chunks, cells
    assert run("shard=2/3") == whole
    assert not parts()
    run("shard=1/2", results="again")
    assert run(results="again") == whole  # the whole does what is left


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_every_chunk_is_of_one_shard(count):
    owned = [number for i in range(count) for number in Shard.called(f"{i + 1}/{count}").of(17)]
    assert sorted(owned) == list(range(17))
    assert list(Shard.called(None).of(3)) == [0, 1, 2]


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_a_shard_that_is_none_is_named(text, capsys):
    assert main(["run", f"model={SMALL}", *COMMON, f"shard='{text}'"]) == 2
    assert re.search(
        rf"rapbench: shard must be i/n with 1 <= i <= n, such as 1/4, got '{text}'", capsys.readouterr().err
    )


ASKED: list[int] = []


def test_kept_heatmaps_spare_the_attribution(whole, monkeypatch):
    asked = ASKED
    asked.clear()

    @methods.register("watched", signs=("positive", "negative"), passes=1)
    def watched(model, inputs, targets):
        ASKED.append(len(inputs))  # of the module: what a function encloses is a part of its results' key
        return inputs

    wanted = ["method=[random]", "+method.watched.name=watched", "subset.n=4"]
    plain = run(*wanted, results="plain")
    assert run(*wanted, "protocol=[removal]", "heatmaps=float32") | plain == plain
    assert asked == [2] * 4
    assert run(*wanted, "heatmaps=float32") == plain
    assert asked == [2] * 4
    rounded = run(*wanted, "heatmaps=float16", results="rounded")
    again = run(*wanted, "heatmaps=float16", "protocol=[distance]", results="rounded")
    assert asked == [2] * 6
    kept, anew = (pd.read_parquet(io.BytesIO(files["results.parquet"])).astype(str) for files in (rounded, again))
    assert anew.equals(kept[kept["protocol"] == "distance"].reset_index(drop=True))


def process(*overrides: str, results: str = "results", model: str = REAL) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "rapbench.app.cli",
        "run",
        f"model={model}",
        *COMMON,
        *overrides,
        f"results={results}",
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip


def test_two_processes_share_the_work(real):
    running = [process(), process()]
    for one in running:
        out, error = one.communicate(timeout=300)
        assert one.returncode == 0, error
        assert "Written to results/run/efficientnet_lite0/" in out
    folder = Path("results/run", REAL)
    assert {name: (folder / name).read_bytes() for name in TABLES} == real
    assert not parts()
    assert main(["store", "verify"]) == 0


def test_a_stopped_process_is_waited_for_and_its_death_hands_its_chunk_on(real):
    first = process()
    deadline = time.monotonic() + 120
    while len(parts()) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)
    second = process()
    seen = ""
    while "waiting for them" not in seen and second.poll() is None:
        seen += second.stderr.read(1)
    first.kill()
    first.communicate()
    _, error = second.communicate(timeout=120)
    assert second.returncode == 0, error
    folder = Path("results/run", REAL)
    assert {name: (folder / name).read_bytes() for name in TABLES} == real


def test_sigterm_ends_a_run_in_good_order():
    running = process()
    deadline = time.monotonic() + 120
    while not parts() and time.monotonic() < deadline:
        time.sleep(0.01)
    running.terminate()
    _, error = running.communicate(timeout=60)
    assert running.returncode == 143
    assert error.rstrip().endswith("rapbench: stopped; finished chunks are kept, the same command goes on from there")
    assert "Traceback" not in error
    assert not list(Path("results").rglob(".*.parquet.*"))


def test_a_multirun_goes_on_after_a_job_that_fails_and_says_which(capsys):
    code = main(["run", "-m", f"model={SMALL}", "method=random,pattern_net,sensitivity", "subset.n=2",
                 "protocol=distance"])  # fmt: skip
    assert code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("rapbench: 1 of 3 jobs failed (what is finished is kept, and the same command goes on from ")
    assert "method=pattern_net" in last
    found = sorted(path.parent.name for path in Path("results/run/sweep").glob("*/results.parquet"))
    assert len(found) == 2
    assert not list(Path("results/store/sweeps").iterdir())
    assert main(["run", "-m", f"model={SMALL}", "method=random,sensitivity", "subset.n=2",
                 "protocol=distance"]) == 0  # fmt: skip
    assert capsys.readouterr().out.endswith("All 2 jobs are done.\n")


def test_a_job_that_dies_is_counted(monkeypatch, capsys):
    from rapbench.app import sweep

    sweep.begin()
    sweep._counted.update(jobs=3, results=Path("results"))
    with sweep.noted(Path("results"), 0, "method=a"):
        pass
    pid = os.fork()
    if not pid:
        with sweep.noted(Path("results"), 1, "method=b"):
            os._exit(9)
    os.waitpid(pid, 0)
    says = (
        r"^2 of 3 jobs failed .*method=b: ended without a word: killed, .* \| 1 never began \| the launcher: it says$"
    )
    with pytest.raises(rapbench.RapbenchError, match=says):
        sweep.summary(lost="it says")


@pytest.mark.parametrize("error", [
    MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried to"),
])  # fmt: skip
def test_out_of_memory_halves_the_chunk_and_says_so_once(error, capsys):
    most = []

    @methods.register("hungry", signs=("positive",), passes=1)
    def hungry(model, inputs, targets):
        most.append(len(inputs))
        if len(inputs) > 1:
            raise error
        return inputs

    wanted = ["method=[random]", "+method.hungry.name=hungry", "subset.n=4", "protocol=[distance]"]
    found = run(*wanted, "chunk=4")
    said = capsys.readouterr().err
    assert most == [4, 2, 1, 1, 1, 1]
    assert said.count("Out of memory with chunk=4 batch=8; going on with smaller ones.") == 1
    assert "Everything was computed with chunk=1 batch=2; ask for these next time." in said
    assert found["results.parquet"] == run(*wanted, "chunk=1", "batch=2", results="small")["results.parquet"]

    most.clear()
    methods._entries.pop("hungry")

    @methods.register("hungry", signs=("positive",), passes=1)
    def starving(model, inputs, targets):
        raise error

    run(*wanted, "chunk=1", "batch=1", results="starved", code=2)
    assert "rapbench: memory runs out even with one image at a time" in capsys.readouterr().err


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(("error", "ours"), [
    (RuntimeError("could not create a primitive"), True),
    (RuntimeError("could not create a primitive descriptor for a convolution"), False),
    (RuntimeError("bad allocation"), True), (RuntimeError("std::bad_alloc"), True),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
    (RuntimeError("MPS backend out of memory"), True),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), True), (pa.ArrowMemoryError("malloc of size 8 failed"), True),
    (caused(rapbench.RapbenchError("the graph cannot be traced"), MemoryError()), True),
    (RuntimeError("shape mismatch"), False), (ValueError("memory format"), False), (KeyboardInterrupt(), False),
    (caused(ValueError("no"), KeyError("memory")), False),
])  # fmt: skip
def test_what_is_taken_for_memory_that_runs_out(error, ours):
    assert out_of_memory(error) == ours


@pytest.fixture
def disk() -> Iterator[Callable[[str], Path]]:
    """A small disk of its own: call it with mount options, again to change them."""
    place = Path("disk")

    def mounted(options: str) -> Path:
        again = "remount," if place.exists() else ""
        place.mkdir(exist_ok=True)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", again + options, "tmpfs", str(place)]).returncode:
            pytest.skip("mounting needs root's rights")
        return place

    yield mounted
    if place.is_mount():
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_one_line_and_costs_nothing_that_was_finished(whole, disk, capsys):
    results = str(disk("size=80k") / "results")
    run("gallery=0", results=results, code=2)  # whose heatmaps alone would fill it
    error = capsys.readouterr().err
    says = r"\nrapbench: cannot write .*: No space left on device; free some space and run again; what is finished is k"
    assert re.search(says, error)
    assert "Traceback" not in error
    kept = {path: path.stat().st_ino for path in parts(results)}
    assert kept
    assert main(["store", "verify", "--results", results]) == 0
    disk("size=50m")
    run("shard=1/4", results=results)  # goes on from what is kept
    assert {path: path.stat().st_ino for path in parts(results) if path in kept} == kept
    assert run(results=results) == whole


def test_a_read_only_store_is_one_line_and_serves_what_it_has(whole, disk, capsys):
    results = str(disk("size=50m") / "results")
    run(results=results)
    disk("ro")
    for wanted in ("method=[random,edge]", "method=[random]"):
        capsys.readouterr()
        run(wanted, results=results, code=2)
        error = capsys.readouterr().err
        says = r"\nrapbench: cannot write .*: Read-only file system; name another place \(.*results=FOLDER\)\n$"
        assert re.search(says, "\n" + error)
        assert "Traceback" not in error
    assert main(["run", f"model={SMALL}", *COMMON, f"results={results}", "hydra.run.dir=elsewhere"]) == 0
    assert {name: (Path("elsewhere") / name).read_bytes() for name in TABLES} == whole


def test_files_from_the_future_change_nothing(whole):
    """As after the machine's clock was set back."""
    run("shard=1/2")
    for path in Path("results").rglob("*"):
        os.utime(path, (4e9, 4e9))
    assert run() == whole


@pytest.mark.slow
def test_twenty_kills_at_random_moments(real):
    import random

    draw = random.Random(5)
    for attempt in range(20):
        running = process()
        time.sleep(draw.uniform(0.5, 14))
        running.send_signal(draw.choice([signal.SIGTERM, signal.SIGKILL]))
        running.communicate()
        if attempt % 3 == 2 and parts():
            victim = draw.choice(parts())
            victim.write_bytes(victim.read_bytes()[: draw.randrange(100)])
    assert run(model=REAL) == real
    assert main(["store", "verify"]) == 0


def test_the_images_of_the_whole_are_as_many_as_asked(whole):
    import io

    assert pd.read_parquet(io.BytesIO(whole["results.parquet"])).input.nunique() == 7


@pytest.mark.parametrize(("words", "says"), [
    ("method=rap,random method.rap.residul=absolute,proportional", "no setting 'method.rap.residul' (did you mean 're"),
    ("method=rap,random method.rap.residul=absolute", "there is no setting 'method.rap.residul' (did you mean 'residu"),
    ("method=edge,random method.rap.residual=absolute,proportional", "setting 'method.rap.residual' has no meaning he"),
    ("method=edge,random method.rap.residual=absolute", "'method.rap.residual' has no meaning here: rap is not among"),
    ("method=edge,random method.rip.residual=absolute", "there is no setting 'method.rip.residual'"),
    ("method=rap,random method.rap.residual=absolut", "'rap': option residual='absolut'"),
    ("method=rap,random method.rap.residual=absolute,absolut", "'rap': option residual='absolut'"),
    ("method=rap,random method.rap.residual=absolute,absolute", "jobs 0 and 1 of the sweep are the same (model=effic"),
    ("protocol=regions,distance protocol.regions.stps=5", "there is no setting 'protocol.regions.stps' (did you mean"),
])  # fmt: skip
def test_an_option_that_no_job_has_is_refused_before_the_first(words, says, capsys):
    assert main(["run", "-m", "model=efficientnet_lite0", *words.split()]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not Path("results/store").exists()


@pytest.mark.parametrize("override", ["k.positive=[0,500,250]", "method.rap.flow=up", "chunk=0", "shard=9", "modle=x"])
def test_a_sweep_that_makes_no_sense_is_refused_before_its_first_job(override, capsys):
    assert main(["run", "-m", "model=efficientnet_lite0", "seed=0,1", override]) == 2
    error = capsys.readouterr().err
    assert error.startswith("rapbench: ")
    assert error.count("\n") == 1
    assert not Path("results/store").exists()


@pytest.mark.parametrize(("line", "words"), [
    ("rapbench ", "compare drift figure list patterns report run store subset train"),
    ("rapbench run model=eff", "model=efficientnet_lite0"),
    ("rapbench run model=efficientnet_lite0 protocol=sh", "protocol=shuffling"),
])  # fmt: skip
def test_the_shell_completes(line, words, monkeypatch, capsys):
    monkeypatch.setenv("COMP_LINE", line)
    assert main(["-sc", "query=bash"]) == 0
    assert capsys.readouterr().out.strip() == words


@pytest.mark.slow
def test_gc_beside_live_runs_harms_neither(real):
    running = [process(), process()]
    while any(one.poll() is None for one in running):
        assert main(["store", "gc", "--stale"]) in (0, 2)  # 2 before there is a store
        time.sleep(0.02)
    for one in running:
        out, error = one.communicate()
        assert one.returncode == 0, error
        assert "damaged" not in error
        assert "Written to results/run/efficientnet_lite0/" in out
    folder = Path("results/run", REAL)
    assert {name: (folder / name).read_bytes() for name in TABLES} == real


def jobs_and_folders(*words: str) -> tuple[list[list[str]], list[str]]:
    """Return what each job of a multirun is run with, and where it would write, as it is checked before the first."""
    given = job_folders.for_some(list(words))
    with hydra.initialize_config_dir(str(resource("configs")), version_base="1.3"):
        parsed = OverridesParser.create().parse_overrides(given)
        config, loader = hydra.compose("run", return_hydra_config=True), GlobalHydra.instance().config_loader()
        jobs = job_folders.split(parsed, config, loader)
        told = f"++hydra.job.env_set.{job_folders.SWEPT}='{job_folders.swept(parsed, jobs)}'"
        config.hydra.overrides.hydra = [told]
        return jobs, [str(path) for path in job_folders.check_folders(config, loader, jobs)]


def folders(*words: str) -> list[str]:
    return jobs_and_folders(*words)[1]


SWEPT = {
    "data.root=A,B": ["data.root=A", "data.root=B"],
    "device=cpu,cuda": ["device=cpu", "device=cuda"],
    "batch=1,2": ["batch=1", "batch=2"],
    "heatmaps=null,float32,float16": ["heatmaps=float16", "heatmaps=float32", "heatmaps=null"],
    "gallery=0,1": ["gallery=0", "gallery=1"],
    "experiment=table1,figure7": None,
    "seed=0,1 gallery=2": ["seed=0", "seed=1"],
    "method=rap,[random,edge] seed=1,2": [
        "method=[random,edge],seed=1", "method=[random,edge],seed=2", "method=rap,seed=1", "method=rap,seed=2",
    ],
    "+method.other.name=edge,random": ["+method.other.name=edge", "+method.other.name=random"],
    "subset.n=range(1,4)": ["subset.n=1", "subset.n=2", "subset.n=3"],
    "shard=1/2,2/2": ["resnet50_keras"],
    "seed=0,1 shard=1/2,2/2 gallery=0,1": [
        "gallery=0,seed=0", "gallery=0,seed=1", "gallery=1,seed=0", "gallery=1,seed=1",
    ],
}  # fmt: skip


@pytest.mark.parametrize("words", SWEPT)
def test_each_job_has_a_folder_named_by_what_is_swept(words):
    given = ["data=imagenet", *words.split()] if "data" in words else words.split()
    jobs, found = jobs_and_folders(*given)
    shards = 2 if "shard" in words else 1
    assert len(found) == len(jobs) // shards
    if SWEPT[words]:
        assert sorted(found) == [f"results/run/sweep/{name}" for name in SWEPT[words]]
    assert folders(*given) == found  # when the sweep is started again


FOR_SOME = {
    "method=rap,random method.rap.residual=proportional,absolute": [
        "method=rap method.rap.residual=proportional", "method=rap method.rap.residual=absolute", "method=random"],
    "method.rap.residual=absolute,proportional method=random,rap": [  # in the order of all combinations
        "method=random", "method.rap.residual=absolute method=rap", "method.rap.residual=proportional method=rap"],
    "method=smoothgrad,random method.smoothgrad.samples=3": [
        "method=smoothgrad method.smoothgrad.samples=3", "method=random"],
    "method=[rap,random],edge method.rap.flow=normal,inversion seed=1,2": [
        *(f"method=[rap,random] method.rap.flow={flow} seed={seed}" for flow in ("normal", "inversion")
          for seed in (1, 2)), "method=edge seed=1", "method=edge seed=2"],
    "method=rap,smoothgrad method.rap.residual=absolute,proportional method.smoothgrad.samples=2,3": [
        "method=rap method.rap.residual=absolute", "method=rap method.rap.residual=proportional",
        "method=smoothgrad method.smoothgrad.samples=2", "method=smoothgrad method.smoothgrad.samples=3"],
    "protocol=regions,distance protocol.regions.steps=5,7": [
        "protocol=regions protocol.regions.steps=5", "protocol=regions protocol.regions.steps=7", "protocol=distance"],
    "method=[rap/normal],random method.rap_normal.residual=absolute,proportional": [
        "method=[rap/normal] method.rap_normal.residual=absolute",
        "method=[rap/normal] method.rap_normal.residual=proportional", "method=random"],
    "method=rap,random method.rap.residual=absolute,proportional shard=1/2,2/2": [
        f"{job} shard={shard}/2" for job in ("method=rap method.rap.residual=absolute",
                                             "method=rap method.rap.residual=proportional", "method=random")
        for shard in (1, 2)],
}  # fmt: skip


@pytest.mark.parametrize("words", FOR_SOME)
def test_an_option_is_for_the_jobs_that_have_its_method_or_protocol(words):
    jobs, found = jobs_and_folders(*words.split())
    assert [" ".join(job) for job in jobs] == FOR_SOME[words]
    assert len(set(found)) == len(jobs) // (2 if "shard" in words else 1)


HARD = ["/data/a", "/data/b", "//data/a", "../x", "a b", "a;b", "a\tb", "data", "x" * 99, "x" * 100, "x" * 300,
        "ä" * 60, "[1,2]", "'q'", '"q"', "$(x)", "..", ".", "a/", "a"]  # fmt: skip


def test_names_of_folders_are_short_safe_and_never_the_same():
    names = [job_folders.job_folder(number, ["model=a", f"data.root={value}"], "1 data.root", "x")
             for number, value in enumerate(HARD)]  # fmt: skip
    assert len({name.casefold() for name in names}) == len(HARD)
    for name in names:
        assert len(name.encode()) <= 110
        assert not re.search(r"[/\\\0\n\t$;'\"*?<>|]", name)
        assert name not in (".", "..")
    long = [name for name, value in zip(names, HARD, strict=True) if len(f"data.root={value}".encode()) > 100]
    assert all(re.fullmatch(r"\d{4}-[0-9a-f]{8}", name) for name in long)


@pytest.mark.parametrize(("shards", "first"), [(1, False), (3, False), (3, True)])
def test_the_number_in_a_long_name_does_not_depend_on_shards(shards, first):
    """Whether shards are swept before the other keys, after or between them."""
    long = ["x" * 120, "y" * 120]
    part = ["shard=" + ",".join(f"{i + 1}/{shards}" for i in range(shards))]
    swept = [f"name={','.join(long)}", *([] if first else part), "seed=0,1,2"]
    given = [*part, *swept] if first else swept
    jobs, _ = jobs_and_folders(*given)
    told = job_folders.swept(OverridesParser.create().parse_overrides(given), jobs)
    found = [job_folders.job_folder(number, job, told, "x") for number, job in enumerate(jobs)]
    by_job = {}
    for job, name in zip(jobs, found, strict=True):
        assert by_job.setdefault(tuple(line for line in job if not line.startswith("shard")), name) == name
    assert len(set(found)) == len(by_job) == 6
    assert sorted(int(name[:4]) for name in set(found)) == list(range(6))


@pytest.mark.parametrize(("words", "says"), [
    (["seed=0,0"], "jobs 0 and 1 of the sweep are the same ("),
    (["shard=1/2,1/2"], "jobs 0 and 1 of the sweep are the same ("),
    (["seed=0,1", "hydra.sweep.subdir=x"], "jobs 0 and 1 of the sweep differ (seed=1), but would both write to"),
    (["seed=0,1", "output=somewhere"], "jobs 0 and 1 of the sweep differ (seed=1), but would both write to somewhere;"),
    (["seed=0,1", "gallery=1,2", "output=to/${seed}"], "jobs 0 and 1 of the sweep differ (gallery=2), but would both"),
    (["seed=0,1", "output=a,a/"], "jobs 0 and 1 of the sweep differ (output=a/), but would both write to a;"),
])  # fmt: skip
def test_jobs_that_would_write_into_one_folder_are_refused_before_the_first(words, says, capsys):
    assert main(["run", "-m", f"model={SMALL}", "method=random", "protocol=distance", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"rapbench: {says}")
    assert error.count("\n") == 1
    assert not Path("results").exists()


def test_a_sweep_over_anything_keeps_every_job_and_tells_of_each(capsys):
    long = f"[{','.join(str(k) for k in range(1100))}]"  # more than the longest path, 4,096 bytes
    words = ["-m", f"model={SMALL}", "method=random", "protocol=distance", "subset.n=2", "gallery=0,1"]
    assert main(["run", *words, f"k.negative=[0],{long}", "results=a,b"]) == 0
    assert capsys.readouterr().out.endswith("All 8 jobs are done.\n")
    for results in ("a", "b"):
        found = sorted(path.parent for path in Path(results).glob("run/sweep/*/results.parquet"))
        index = json.loads((Path(results) / "run/sweep/index.json").read_text())
        assert len(found) == 4
        assert index.keys() == {folder.name for folder in found}
        for folder in found:
            config = json.loads((folder / "provenance.json").read_text())["config"]
            assert f"gallery={config['gallery']}" in index[folder.name]
            assert len(config["k"]["negative"]) == (1100 if folder.name[:4].isdigit() else 1)
    before = {path: path.stat().st_ino for path in Path().rglob("*.parquet")}
    assert main(["run", *words, f"k.negative=[0],{long}", "results=a,b"]) == 0  # finds its folders again
    assert {path: path.stat().st_ino for path in Path().rglob("*.parquet")} == before


FEW = [f"model={SMALL}", "subset.n=4", "protocol=[distance]", "protocol.distance.k.positive=[10,250]",
       "protocol.distance.k.negative=[10]"]  # fmt: skip
JUDGED = [f"model={SMALL}", "subset.n=4", "protocol=[removal]", "k.positive=[0,250]", "k.negative=[0]"]
SWEEP_FOLDER = Path("results/run/sweep")
ANSWER = ("compare.csv", "compare.md", "compare.tex", "compare.png", "compare.pdf", "compare.html", "ranks.csv",
          "verdict.csv", "tests.csv")  # fmt: skip
# Of three methods by two metrics.
RANKING = ("ranks.png", "ranks.pdf", "metric_agreement.csv", "metric_agreement.png", "metric_agreement.pdf",
           "concordance.csv", "informative.csv")  # fmt: skip


def answer(folder: Path = SWEEP_FOLDER) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "index.json"}


def test_a_sweep_has_one_answer_and_the_command_line_gives_it_again(capsys):
    """An option of one of the methods makes no copies of the other, and all are one table, figure and page."""
    words = ["method=rap,random", "method.rap.residual=proportional,absolute"]
    assert main(["run", "-m", *JUDGED, *words]) == 0
    out = capsys.readouterr().out
    assert out.endswith("\nThe comparison is written to results/run/sweep/\nAll 3 jobs are done.\n")
    assert out.count("Comparison of 3 runs: small.\n") == 1
    assert {path.name for path in SWEEP_FOLDER.iterdir() if path.is_dir()} == {
        "method.rap.residual=proportional,method=rap", "method.rap.residual=absolute,method=rap",
        "method=random"}  # fmt: skip
    first = answer()
    assert first.keys() == {*ANSWER, *RANKING}
    table = pd.read_csv(SWEEP_FOLDER / "compare.csv", keep_default_na=False)
    assert set(zip(table["method"], table["options"], strict=True)) == {
        ("rap", ""), ("rap", "residual=absolute"), ("random", "")}  # fmt: skip
    assert "RAP (residual absolute)" in first["compare.html"].decode()

    assert main(["compare", str(SWEEP_FOLDER)]) == 0
    assert capsys.readouterr().out.endswith("\nThe comparison is written to results/run/sweep/\n")
    assert {name: table.split() for name, table in _tables(answer()).items()} == {
        name: table.split() for name, table in _tables(first).items()}  # fmt: skip
    assert main(["run", "-m", *JUDGED, *words]) == 0  # nothing is computed, and the answer is the same
    assert answer() == first

    # The same methods in one run, and those of the sweep: the same tests.
    assert main(["run", *JUDGED, "method=[rap,random]", "name=one"]) == 0
    one = rapbench.load_results("results/one").compare()
    two = rapbench.load_results(*(SWEEP_FOLDER / name for name in ("method.rap.residual=proportional,method=rap",
                                                                   "method=random"))).compare()  # fmt: skip
    pd.testing.assert_frame_equal(two, one)


def _tables(files: dict[str, bytes]) -> dict[str, str]:
    """Return each table's rows, in whatever order the runs were named."""
    return {name: "\n".join(sorted(content.decode().splitlines())) for name, content in files.items()
            if name == "compare.csv"}  # fmt: skip


def test_the_answer_is_of_the_jobs_that_are_done_and_names_the_others(capsys):
    words = ["method=random,pattern_net,sensitivity", "gallery=0"]
    assert main(["run", "-m", *FEW, *words]) == 2
    said = capsys.readouterr()
    assert "Comparison of 2 runs: small." in said.out
    missing = "Missing, because they are not finished: results/run/sweep/method=pattern_net."
    assert missing in said.out
    assert missing in (SWEEP_FOLDER / "compare.html").read_text()
    assert said.err.splitlines()[-1].startswith("rapbench: 1 of 3 jobs failed")
    assert set(pd.read_csv(SWEEP_FOLDER / "compare.csv")["method"]) == {"random", "sensitivity"}


def test_a_method_that_cannot_be_used_leaves_the_others_in_the_answer(capsys):

    @methods.register("broken", signs=("positive",), passes=1)
    def broken(model, inputs, targets):
        raise ValueError("no")

    assert main(["run", "-m", *FEW, "method=[random]", "+method.broken.name=broken", "gallery=0", "seed=0,1"]) == 2
    said = capsys.readouterr()
    assert "Comparison of 2 runs" in said.out
    assert "Could not be used on small: broken." in said.out
    assert "Missing" not in said.out
    table = pd.read_csv(SWEEP_FOLDER / "compare.csv")
    assert set(zip(table["method"], table["options"], strict=True)) == {("random", "seed=0"), ("random", "seed=1")}


def test_what_an_earlier_sweep_left_in_a_failed_jobs_folder_is_no_answer(monkeypatch, capsys):
    """Nor what lies in the folder of shards that are not all done."""
    assert main(["run", "-m", *FEW, "method=random,edge,sensitivity", "gallery=0"]) == 0
    monkeypatch.setitem(methods._entries, "edge", methods["pattern_net"])
    assert main(["run", "-m", *FEW, "method=random,edge,sensitivity", "gallery=0", "chunk=3"]) == 2
    assert (SWEEP_FOLDER / "method=edge/results.parquet").exists()
    assert set(pd.read_csv(SWEEP_FOLDER / "compare.csv")["method"]) == {"random", "sensitivity"}
    monkeypatch.undo()


def test_shards_of_one_run_are_one_run(capsys, tmp_path):
    assert main(["run", "-m", *FEW, "method=random", "gallery=0", "chunk=2", "shard=1/2,2/2"]) == 0
    assert "Comparison" not in capsys.readouterr().out
    assert main(["run", "-m", *FEW, "method=random,edge", "gallery=0", "chunk=2", "shard=1/2,2/2"]) == 0
    assert "Comparison of 2 runs: small." in capsys.readouterr().out
    kept = answer()
    assert main(["run", "-m", *FEW, "method=random,edge", "gallery=0", "chunk=2", "shard=1/2", "seed=3"]) == 0
    assert "Comparison" not in capsys.readouterr().out  # other shards owe chunks of both
    assert answer() == kept


def test_a_sweep_of_one_job_or_of_the_same_results_has_no_comparison(capsys):
    assert main(["run", "-m", *FEW, "method=random", "gallery=0"]) == 0
    said = capsys.readouterr()
    assert "omparison" not in said.out + said.err
    assert main(["run", "-m", *FEW, "method=random", "gallery=0,1"]) == 0
    said = capsys.readouterr()
    assert said.out.endswith("All 2 jobs are done.\n")
    assert "No comparison of the jobs: two runs have the same results of small on " in said.err
    assert "(random by distance, in results/run/sweep/gallery=0 and results/run/sweep/gallery=1)" in said.err
    assert not answer()


def test_the_comparison_of_jobs_in_several_folders_lies_in_the_sweeps_own(capsys):
    assert main(["run", "-m", *FEW, "method=random,edge", "gallery=0", "name=a,b"]) == 0
    said = capsys.readouterr()
    assert "No comparison of the jobs: two runs have the same results" in said.err  # of a and of b
    assert main(["run", "-m", *FEW, "method=random", "gallery=0", "seed=1,2", "output=here/${seed}/x"]) == 0
    assert capsys.readouterr().out.endswith("\nThe comparison is written to results/run/sweep/\nAll 2 jobs are done.\n")
    assert main(["run", "-m", *FEW, "method=random", "gallery=0", "seed=1,2", "output=here/${seed}"]) == 0
    assert capsys.readouterr().out.endswith("\nThe comparison is written to here/\nAll 2 jobs are done.\n")


@pytest.fixture(scope="module")
def one_run(tmp_path_factory):
    results = tmp_path_factory.mktemp("one")
    assert main(["run", *FEW, "method=random", "name=a", "gallery=0", f"results={results}"]) == 0
    return results / "a"


@pytest.mark.parametrize(("words", "says"), [
    (["nowhere"], "nowhere holds no results.parquet; name the folder that a run wrote, or one above it"),
    (["results/a"], "a comparison takes two runs at least, and results/a holds one; name more folders"),
    (["results/a", "results/a"], "a comparison takes two runs at least, and results/a, results/a holds one; name more"),
    (["results", "--output", f"results/a/{SMALL}"], f"results/a/{SMALL} is a run's own folder; na"),
    ([f"results/a/{SMALL}", f"results/a/{SMALL}/copy"], "is a run's own folder; name another for"),
    (["results/a", "/"], "the folders have no common parent; name a folder for the comparison with --output"),
    (["results/a", "results/copy"], "two runs have the same results of small on "),
    ([], "the following arguments are required: folder; see rapbench compare --help"),
])  # fmt: skip
def test_runs_that_cannot_be_compared_are_refused_in_one_line(words, says, one_run, capsys):
    for name in ("a", "copy"):
        shutil.copytree(one_run, f"results/{name}")
    assert main(["compare", *words]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_compare_writes_where_it_is_told(capsys):
    for name in ("random", "edge"):
        assert main(["run", *FEW, f"method={name}", f"name={name}", "gallery=0"]) == 0
    assert main(["compare", "results/random", "results/edge", "--output", "to/here"]) == 0
    assert capsys.readouterr().out.endswith("\nThe comparison is written to to/here/\n")
    assert answer(Path("to/here")).keys() == set(ANSWER) - {"verdict.csv"}  # these two are controls
    assert main(["compare", "results/random", "results/edge"]) == 0
    assert answer(Path("results")).keys() == set(ANSWER) - {"verdict.csv"}


def test_a_launcher_that_is_not_installed_is_named_with_its_extra(capsys):
    assert main(["run", "-m", "launch=ray", "seed=0,1"]) == 2
    assert capsys.readouterr().err == "rapbench: launcher 'ray' is not installed: pip install 'rapbench[ray]'\n"


@pytest.mark.parametrize("launch", ["joblib", pytest.param("ray", marks=pytest.mark.slow)])
def test_jobs_side_by_side_on_the_cores(launch, capfd):
    if launch == "ray":
        pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="needs pip install 'rapbench[ray]'")
    assert main(["run", "-m", f"launch={launch}", f"model={SMALL}", "method=random,edge", "subset.n=2",
                 "protocol=distance"]) == 0  # fmt: skip
    assert len(list(Path("results/run/sweep").glob("*/results.parquet"))) == 2
    out = capfd.readouterr().out
    assert "Comparison of 2 runs: small." in out
    assert out.endswith("The comparison is written to results/run/sweep/\nAll 2 jobs are done.\n")
