"""Patterns that a run estimates from images it does not evaluate, and methods that it can do without."""

import csv
import hashlib
import json
import multiprocessing
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import rapbench
from rapbench.app.cli import main
from rapbench.data import load_data
from rapbench.evaluation import held_out as module
from rapbench.evaluation.held_out import held_out
from rapbench.patterns import estimate
from rapbench.patterns.file import images_of
from tests.test_patterns import cache, pictures, zoo  # noqa: F401  fixtures

CPU = torch.device("cpu")
SMALL = ["protocol=[removal]", "k.positive=[0,10]", "k.negative=[0,10]"]


def run(*overrides: str, code: int = 0) -> None:
    assert main(["run", *SMALL, *overrides]) == code


def of_pictures(zoo: str, pictures: Path, n: int) -> list[str]:  # noqa: F811
    return [f"model={zoo}", "data=imagenet", f"data.root={pictures}", "data.labels=predicted", f"subset.n={n}",
            "method=[pattern_attribution,random]", "pattern_images=60"]  # fmt: skip


def evaluated(folder: Path) -> set[str]:
    return {row["sha256"] for row in csv.DictReader((folder / "manifest.csv").open())}


def test_a_run_estimates_patterns_from_images_that_it_does_not_evaluate(zoo, pictures, cache, capsys):  # noqa: F811
    run(*of_pictures(zoo, pictures, 4))
    (path,) = cache.iterdir()  # nothing is left of the lock
    assert images_of(path) == 60
    _, progress = capsys.readouterr()
    assert "tiny_vgg · patterns: 100%" in progress
    folder = next(Path("results").rglob("provenance.json")).parent
    said = "Pattern Attribution: patterns estimated from 60 images of "
    assert said in (folder / "table1.md").read_text()
    assert said in " ".join((folder / "table1.tex").read_text().split())
    by_hash = {hashlib.sha256(file.read_bytes()).hexdigest(): file for file in pictures.rglob("*.*")}
    model = rapbench.load_model(zoo)
    # which these are: the end of the draw
    order = module.draw_order(load_data("imagenet", root=str(pictures), labels="predicted").samples, 0)
    chosen = [pictures / sample.file for sample in order[:-61:-1]]
    assert not evaluated(folder) & {hashlib.sha256(file.read_bytes()).hexdigest() for file in chosen}
    assert evaluated(folder) <= by_hash.keys()
    want = estimate(model.network, [torch.stack([model.transform(Image.open(file)) for file in chosen])])
    for name, pattern in load_file(path).items():
        torch.testing.assert_close(pattern, want[name], rtol=1e-2, atol=1e-3 * float(pattern.abs().max()))
    # A larger subset leaves the same images, and finds the same file; no path of this machine is in the results.
    before, digest = path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()
    run(*of_pictures(zoo, pictures, 6), "name=larger")
    assert [(file, file.stat().st_mtime_ns) for file in cache.iterdir()] == [(path, before)]
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["methods"]["pattern_attribution"]["options"] == {"patterns": digest}
    assert str(cache) not in json.dumps({key: provenance[key] for key in ("methods", "header", "caption")})


def test_a_file_of_the_users_comes_first_and_is_said(zoo, pictures, cache, capsys):  # noqa: F811
    assert main(["patterns", "--model", zoo]) == 0
    run(*of_pictures(zoo, pictures, 4))
    assert len(list(cache.iterdir())) == 1
    assert "patterns from a file of the user's, estimated from 20 images." in capsys.readouterr().out


def test_of_several_processes_one_estimates(zoo, pictures, cache, monkeypatch, tmp_path):  # noqa: F811
    calls = tmp_path / "calls"
    whole = module.estimated

    def counted(*arguments):
        with calls.open("a") as file:
            file.write("1")
        return whole(*arguments)

    monkeypatch.setattr(module, "estimated", counted)
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    dataset = load_data("imagenet", root=str(pictures), labels="predicted")
    models = [rapbench.load_model(zoo) for _ in range(3)]
    receiver, sender = multiprocessing.Pipe(duplex=False)
    fork = multiprocessing.get_context("fork")

    def send(model):
        torch.set_num_threads(1)  # a fork has none of its parent's threads, and waits for them
        sender.send(held_out(model, dataset, {}, 55, 0, CPU))

    processes = [fork.Process(target=send, args=(model,)) for model in models]
    for process in processes:
        process.start()
    paths = {receiver.recv() for _ in processes if receiver.poll(120)}
    for process in processes:
        process.join()
    assert calls.read_text() == "1"
    assert len(paths) == 1
    assert set(cache.iterdir()) == paths


def test_a_stopped_run_leaves_no_patterns_and_holds_no_claim(zoo, pictures, cache, monkeypatch):  # noqa: F811
    def stop(*_):
        raise KeyboardInterrupt

    model, dataset = rapbench.load_model(zoo), load_data("imagenet", root=str(pictures), labels="predicted")
    with monkeypatch.context() as patched:
        patched.setattr(module, "estimated", stop)
        with pytest.raises(KeyboardInterrupt):
            held_out(model, dataset, {}, 55, 0, CPU)
    assert not list(cache.glob("*.safetensors*"))
    assert held_out(model, dataset, {}, 55, 0, CPU).is_file()


def test_other_images_are_other_patterns(zoo, pictures, cache):  # noqa: F811
    model, dataset = rapbench.load_model(zoo), load_data("imagenet", root=str(pictures), labels="predicted")
    first = held_out(model, dataset, {}, 55, 0, CPU)
    assert held_out(model, dataset, {}, 55, 0, CPU) == first
    last = module.draw_order(dataset.samples, 0)[-1].file
    assert held_out(model, dataset, {last}, 55, 0, CPU) != first


LEFT = "patterns take at least 50 images that are not evaluated, 20 embedded ImageNet images"
CHAIN = "PatternNet's patterns are defined here for VGG-type networks"


@pytest.mark.parametrize(("network", "says"), [("tiny_vgg", LEFT), ("efficientnet_lite0", CHAIN)])
def test_a_row_says_why_an_optional_method_has_no_values(network, says, zoo, cache, capsys):  # noqa: F811
    rows = load_data("samples").samples[:2]
    lines = [f"{row.file},{row.label},{load_data('samples').sha256(row.file)},0.0,m,{'0' * 64}" for row in rows]
    Path("mine.csv").write_text("\n".join(["file,label,sha256,logit,model,weights_sha256", *lines]))
    given = [
        f"model={network}",
        "method=[pattern_attribution,random]",
        "pattern_images=100",
        "subset.manifest=mine.csv",
    ]
    run(*given, code=2)
    printed = capsys.readouterr()
    assert says in printed.err.splitlines()[-1]
    assert not list(Path("results").rglob("table1.md"))
    run(*given, "optional=[pattern_attribution]")
    (table,) = Path("results").rglob("table1.md")
    text = table.read_text()
    assert "| Pattern Attribution" in text
    assert f"Pattern Attribution has no values: {says}" in text.replace("\\", "")
    (row,) = [line for line in text.splitlines() if line.startswith("| Pattern Attribution")][:1]
    assert set(row.split("|")[2].strip()) == {"–"}  # noqa: RUF001
    assert not list(cache.glob("*"))
    run(f"model={network}", "method=[pattern_attribution]", "pattern_images=100", "optional=[pattern_attribution]",
        "subset.manifest=mine.csv", "name=alone", code=2)  # fmt: skip
    assert says in capsys.readouterr().err.splitlines()[-1]
