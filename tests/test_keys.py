"""Keys that cannot lie: whatever moves a result is in its key, and what cannot move one is not."""

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.models import VisionTransformer

import rapbench
from rapbench.app.cli import main
from rapbench.core.memory_format import placed
from rapbench.core.precision import Precision
from rapbench.data.labelled.dataset import UNLABELLED, Sample
from rapbench.data.samples import samples
from rapbench.data.subset.images import load_images
from rapbench.data.subset.manifest import Row, Subset
from rapbench.data.subset.select import select
from rapbench.evaluation.answers import forward_of
from rapbench.evaluation.choice import Choice
from rapbench.evaluation.chunk import Chunk
from rapbench.evaluation.identity import draw_key, evaluation_key, model_key
from rapbench.fingerprint import code_of
from rapbench.fingerprint.code import is_stale
from rapbench.fingerprint.modules import closure
from rapbench.methods import methods
from rapbench.model import Facts, Model
from rapbench.model.preprocessing import Preprocess
from rapbench.protocols import protocols
from rapbench.store.cell import digest_of
from tests.conftest import calibrated, vgg
from tests.options import FOR_TRANSFORMERS, QUICK_METHODS, mostly_quick, small_options
from tests.own import Own

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
# What only writes down, asks or shows.
SHOWS = ("app", "api", "report", "drift", "store", "fingerprint", "evaluation.job", "evaluation.fill_cells",
         "evaluation.gallery", "evaluation.identity", "evaluation.selection", "data.subset.select")  # fmt: skip
COMPUTES = ("methods", "protocols", "relevance")


@pytest.fixture
def own(tmp_path, monkeypatch) -> Own:
    """Modules of a user's own, in the working directory."""
    return Own(tmp_path, monkeypatch)


def small(network: nn.Module | None = None) -> Model:
    torch.manual_seed(0)
    network = network or calibrated(vgg(), 32).float()
    transform = Preprocess((127.0,) * 3, (64.0,) * 3, resize=32, crop=32)
    return Model(network, transform=transform, facts=Facts("small", "", "", "", classes=10))


def transformer() -> nn.Module:
    torch.manual_seed(0)
    network = VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=10).eval()
    nn.init.normal_(network.heads.head.weight)  # torchvision starts it at 0
    return network


def among(module: str, rooms: tuple[str, ...]) -> bool:
    return any(f"{module}.".startswith(f"rapbench.{room}.") for room in rooms)


def modules_of(code: dict) -> set[str]:
    return set(closure(code["roots"]).modules)


def everything() -> list[str]:
    files = (ROOT / "rapbench").rglob("*.py")
    names = (".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files)
    return sorted(name.removesuffix(".__init__") for name in names)


# What is executed, against what is imported


def executed(call) -> set[str]:
    """The modules of the package whose functions run during a call."""
    found: set[str] = set()

    def profile(frame, event, _):
        name = str(frame.f_globals.get("__name__"))
        if event == "call" and name.startswith("rapbench."):
            found.add(name)

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return found


@pytest.mark.parametrize("name", mostly_quick(methods))
def test_what_runs_while_a_chunk_is_computed_is_in_its_key(name, tmp_path, monkeypatch):
    monkeypatch.setenv("RAPBENCH_CACHE", str(tmp_path))
    network = transformer() if name in FOR_TRANSFORMERS else None
    model, dataset = placed(small(network), CPU), samples()
    if methods[name].facts.files:
        from rapbench.patterns.estimator import estimate
        from rapbench.patterns.file import save

        save(estimate(model, [torch.randn(8, 3, 32, 32)]), model)
    hashes = {sample.file: hashlib.sha256(dataset.read(sample.file)).hexdigest() for sample in dataset.samples[:2]}
    rows = [Row(file, 3, sha256, 0.0, "", "") for file, sha256 in hashes.items()]
    ks = {sign: [0, 5, "all"] for sign in ("positive", "negative")}
    options = small_options(steps=2)
    wanted = [Choice(p, protocols[p], options.get(p, {"k": ks} if "k" in protocols[p].options else {}))
              for p in protocols]  # fmt: skip

    def compute() -> None:
        (pixels,) = load_images(Subset(rows), dataset, model.transform, [slice(0, 2)])
        forward = forward_of(model, Precision.bf16)
        chunk = Chunk.of(model, forward, 0, 2, rows, pixels, CPU, 0, 3)
        found = [*chunk.evaluate(Choice(name, methods[name], QUICK_METHODS.get(name, {})), wanted, None)]
        assert len(found) == len(wanted)

    compute()  # registries load at the first call
    ran = executed(compute)
    codes = list(evaluation_key(model, CPU)["code"].values())
    codes += [code_of(entry.function).key for entry in (methods[name], *(protocols[p] for p in protocols))]
    assert ran <= set().union(*map(modules_of, codes))
    assert {"rapbench.evaluation.chunk", "rapbench.data.decoding.picture", "rapbench.model", "rapbench.core.random",
            "rapbench.protocols.shuffling", methods[name].function.__module__} <= ran  # fmt: skip


def test_what_runs_while_a_subset_is_drawn_is_in_its_key(tmp_path):
    model, dataset = small(), samples()
    dataset = replace(dataset, samples=[Sample(sample.file, UNLABELLED) for sample in dataset.samples[:5]])
    ran = executed(lambda: select([model], dataset, 5, 0, CPU))
    inside = set().union(*(modules_of(code) for code in draw_key(model, CPU)["code"].values()))
    choosing = {"rapbench.data.subset.select", "rapbench.data.subset.manifest"}  # of verdicts that are known
    assert ran - choosing <= inside
    assert "rapbench.data.subset.predictions" in ran


def test_no_key_depends_on_what_only_shows():
    model = small()
    codes = [*evaluation_key(model, CPU)["code"].values(), *draw_key(model, CPU)["code"].values()]
    codes += [code_of(registry[name].function).key for registry in (methods, protocols) for name in registry]
    codes += [code_of(methods[name].function).key for name in ("captum:KernelShap", "zennit:EpsilonPlus")]
    inside = set().union(*map(modules_of, codes))
    assert not {name for name in inside if among(name, SHOWS)}
    assert {name for name in everything() if among(name, COMPUTES)} <= inside
    assert modules_of(code_of(methods["rap"].function).key) & {f"rapbench.methods.{name}" for name in methods} == {
        "rapbench.methods.rap"}  # fmt: skip


# One line in each module

SCRIPT = """
import json, os, sys
from pathlib import Path
import torch
import rapbench
from rapbench.fingerprint.code import digest_of, is_stale
from rapbench.fingerprint.modules import closure
from rapbench.fingerprint.packages import versions
from rapbench.methods import methods
from rapbench.protocols import protocols
from rapbench.evaluation.identity import code_of, draw_key, evaluation_key, model_key

assert Path(rapbench.__file__).is_relative_to(Path.cwd())
model = rapbench.load_model("own_pack.network:mine" if sys.argv[1] == "apart" else "efficientnet_lite0")
CPU = torch.device("cpu")
keys = [evaluation_key(model, CPU), draw_key(model, CPU)]
codes = {f"{place} {part}": (code, key["versions"])
         for place, key in enumerate(keys) for part, code in key["code"].items()}
for name in sys.argv[2:]:
    registry = protocols if name in protocols else methods
    found = code_of(registry[name].function)
    codes[name] = (found.key, found.versions)

if sys.argv[1] == "together":  # quicker
    roots = sorted({root for code, _ in codes.values() for root in code["roots"]})
    codes = {"all": ({"roots": roots, "sha256": digest_of(closure(roots))}, versions(closure(roots).packages))}

def stale():
    return {name for name, (code, then) in codes.items() if is_stale(code["roots"], code["sha256"], (*then.items(),))}

assert not stale()
inside = {name: closure(code["roots"]).modules for name, (code, _) in codes.items()}
every = {module: file for modules in inside.values() for module, file in modules.items()}
wrong = []
for module, file in sorted(every.items()):
    path = Path(file)
    before = path.read_bytes()
    users = {name for name, modules in inside.items() if module in modules}
    path.write_bytes(before + b"\\n_EDITED = 1\\n")
    if stale() != users:
        wrong.append(f"{module}: a line")
    words = before.replace(b'\"\"\"', b'\"\"\"Said otherwise. ', 1) if before.startswith(b'\"\"\"') else before
    path.write_bytes(b"# a comment\\n" + words.replace(b"\\n\\n", b"\\n\\n\\n") + b"\\n# another\\n")
if stale():
    wrong.append("words")
others = [path for path in Path("rapbench").rglob("*.py") if str(path.absolute()) not in every.values()]
for path in others:
    path.write_bytes(path.read_bytes() + b"\\n_EDITED = 1\\n")
if stale():
    wrong.append("something that computes nothing")
print(json.dumps({"wrong": wrong, "edited": sorted(every), "kept": [str(path) for path in others]}))
"""
PACKAGE = {
    "__init__": "",
    "network": """
        from torch import nn
        from rapbench.zoo import models
        from rapbench.model import Facts, Model
        from rapbench.model.preprocessing import Preprocess
        from . import layers
        from .settings import *

        @models.register("mine")
        def mine(*, slope: float = 0.01):
            __import__("torch").manual_seed(0)
            network = nn.Sequential(layers.Layer(slope), nn.Flatten(), nn.LazyLinear(CLASSES))
            network(__import__("torch").ones(1, 3, 32, 32))
            transform = Preprocess((127.0,) * 3, (64.0,) * 3, resize=32, crop=32)
            return Model(network, transform=transform, facts=Facts("mine", "", "", "", classes=CLASSES))
    """,
    "layers": """
        from torch import nn
        from torch.nn.functional import leaky_relu

        class Layer(nn.Module):
            def __init__(self, slope):
                super().__init__()
                self.slope = slope

            def forward(self, x):
                return leaky_relu(x, self.slope)
    """,
    "settings": "CLASSES = 10\n",
    "method": """
        from rapbench.methods import methods

        @methods.register("own", signs=("positive", "negative"), passes=1)
        def own(model, inputs, targets):
            from .deeper.helper import power
            return inputs ** power()
    """,
    "deeper/__init__": "",
    "deeper/helper": "from ..settings import CLASSES\n\ndef power():\n    return CLASSES - 9\n",
}


def copy_to(tree: Path) -> Path:
    for part in ("rapbench", "configs", "baselines/published"):
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    write_package(tree)
    return tree


def write_package(tree: Path) -> None:
    for name, text in PACKAGE.items():
        path = tree / "own_pack" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


def python(tree: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *arguments], cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize(("how", "names"), [
    ("together", ["rap", "shuffling"]),
    pytest.param("apart", [*methods, *protocols, "own_pack.method:own"], marks=pytest.mark.slow),
])  # fmt: skip
def test_a_line_in_any_module_counts_and_words_do_not(how, names, tmp_path):
    """In a copy of the package, and in a user's package beside it, module by module."""
    tree = copy_to(tmp_path)
    (tree / "edit.py").write_text(SCRIPT)
    said = json.loads(python(tree, "edit.py", how, *names))
    assert said["wrong"] == []
    assert {"rapbench.evaluation.chunk", "rapbench.model", "rapbench.data.decoding.picture",
            "rapbench.protocols.base.ranking", "rapbench.relevance.rules", "rapbench.core.random",
            "rapbench"} <= set(said["edited"])  # fmt: skip
    assert "rapbench/report/table1.py" in said["kept"]
    if how == "apart":
        assert {"own_pack.deeper.helper", "own_pack.layers", "own_pack.settings", "own_pack",
                "rapbench.methods.deeplift"} <= set(said["edited"])  # fmt: skip


def pictures(folder: Path, count: int = 3) -> None:
    folder.mkdir()
    for number in range(count):
        Image.effect_mandelbrot((40, 40), (-2, -1, 1 - number / 9, 1), 90).convert("RGB").save(folder / f"{number}.png")


RUN = ["run", "model=own_pack.network:mine", "data=folder", "data.root=pictures", "data.labels=predicted",
       "subset.n=3", "chunk=2", "k.positive=[0,9]", "k.negative=[0,9]", "gallery=0"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("file", "edit", "anew"), [
    ("rapbench/evaluation/chunk.py", "\n_EDITED = 1\n", True),
    ("rapbench/data/decoding/picture.py", "\n_EDITED = 1\n", True),
    ("own_pack/deeper/helper.py", "\n_EDITED = 1\n", True),
    ("own_pack/layers.py", "\n_EDITED = 1\n", True),
    ("rapbench/evaluation/chunk.py", "\n# words\n", False),
    ("rapbench/report/table1.py", "\n_EDITED = 1\n", False),
    ("rapbench/store/cell.py", "\n_EDITED = 1\n", False),
])  # fmt: skip
def test_a_run_is_computed_anew_after_an_edit(file, edit, anew, tmp_path):
    tree = copy_to(tmp_path)
    pictures(tree / "pictures")
    command = ["-m", "rapbench.app.cli", *RUN, "method=[own_pack.method:own]", "protocol=[removal]", "heatmaps=float32"]
    python(tree, *command)
    before = set((tree / "results/store").rglob("*.*"))
    (tree / file).write_text((tree / file).read_text() + edit)
    python(tree, *command)
    after = set((tree / "results/store").rglob("*.*"))
    assert bool(after - before) is anew
    for room in ("cells", "heatmaps"):
        assert any(room in path.parts for path in after - before) is anew


# Models


def test_one_state_dict_in_two_architectures_is_two_models(tmp_path):
    """The same names and shapes, but other padding and eps."""
    import timm

    torch.manual_seed(0)
    names = ("timm/efficientnet_b0", "timm/tf_efficientnet_b0")
    save_file(timm.create_model("efficientnet_b0", num_classes=10).state_dict(), tmp_path / "a.safetensors")
    shutil.copy(tmp_path / "a.safetensors", tmp_path / "b.safetensors")

    def key(name: str, file: str) -> dict:
        model = rapbench.load_model("checkpoint", architecture=name, path=str(tmp_path / file))
        return model_key(model)

    one, other = (key(name, "a.safetensors") for name in names)
    assert one["model"]["weights"] == other["model"]["weights"]
    assert one["code"]["model"]["objects"] != other["code"]["model"]["objects"]
    assert key(names[0], "b.safetensors") == one  # wherever the file lies


def test_settings_of_an_own_model_are_seen_whoever_makes_them(own):
    write_package(own.folder)
    own.load("own_pack.network")
    keys = {slope: digest_of(model_key(_loaded("own_pack.network:mine", slope=slope))) for slope in (0.01, 0.9)}
    assert keys[0.01] != keys[0.9]
    assert digest_of(model_key(_loaded("own_pack.network:mine"))) != keys[0.9]
    text = (own.folder / "own_pack/layers.py").read_text()
    own.write("own_pack/layers.py", text.replace("leaky_relu(x, self.slope)", "leaky_relu(x, self.slope) * 2"))
    rapbench.zoo.models._entries.pop("mine")
    own.load("own_pack.network")
    assert digest_of(model_key(_loaded("own_pack.network:mine", slope=0.01))) not in keys.values()


def _loaded(name: str, **options: object) -> Model:
    torch.manual_seed(0)
    return rapbench.load_model(name, **options)


def test_a_file_that_an_option_of_an_own_model_names_counts_by_its_content(own):
    write_package(own.folder)
    text = (own.folder / "own_pack/network.py").read_text().replace("slope: float = 0.01", 'table: str = ""')
    own.write("own_pack/network.py", text.replace("Layer(slope)", "Layer(1.0)"))
    own.load("own_pack.network")
    for name, data in (("a.txt", "1"), ("b.txt", "1"), ("c.txt", "2")):
        own.write(name, data)
    keys = [digest_of(model_key(_loaded("own_pack.network:mine", table=f"{name}.txt"))) for name in "abc"]
    assert keys[0] == keys[1] != keys[2]


def test_preprocessing_counts_whatever_it_is_made_of():
    def key(transform):
        model = small()
        model.transform = transform
        return digest_of(model_key(model))

    class Own:
        def __init__(self, size: int):
            self.size = size
            self.normalisation = torch.zeros(3), torch.ones(3)

        def __call__(self, image):
            return torch.zeros(3, self.size, self.size)

    plain = Preprocess((127.0,) * 3, (64.0,) * 3, resize=32, crop=32)
    keys = [key(transform) for transform in (plain, Preprocess((127.0,) * 3, (64.0,) * 3, resize=33, crop=32),
                                             Own(32), Own(33), functools.partial(Own, 3))]  # fmt: skip
    assert len(set(keys)) == 5
    assert key(Own(32)) == keys[2]


def test_weights_that_an_own_model_changes_after_it_was_made_are_hashed_again(own):
    write_package(own.folder)
    text = (own.folder / "own_pack/network.py").read_text()
    changed = (
        text.replace("return Model(", "made = Model(")
        + "    made.network[2].weight.data.mul_(slope)\n    return made\n"
    )
    own.write("own_pack/network.py", changed)
    own.load("own_pack.network")
    one, other = (model_key(_loaded("own_pack.network:mine", slope=slope))["model"]["weights"] for slope in (1.0, 2.0))
    assert one != other


def test_two_models_of_the_same_weights_are_both_asked(own, capsys):
    """subset.require takes the one for the other no more."""
    write_package(own.folder)
    pictures(own.folder / "pictures")
    network = own.folder / "own_pack/network.py"
    seeded = '    __import__("torch").manual_seed(0)\n    network(__import__'
    network.write_text(network.read_text().replace("    network(__import__", seeded))
    require = "subset.require=[{name: 'own_pack.network:mine', slope: 0.9}]"
    assert main([*RUN, "method=[random]", "protocol=[distance]", "model.slope=0.01", require]) == 0
    manifest = pd.read_csv("results/run/own_pack.network:mine/manifest.csv")
    assert manifest["also"].str.startswith("mine@").all()


# The subset's draw


def test_a_draws_key_holds_the_machine_the_code_and_the_versions(monkeypatch, tmp_path):
    model = small()
    before = draw_key(model, CPU)
    assert before["machine"]["threads"] == torch.get_num_threads()
    assert {"torch", "pillow", "numpy", "python"} <= before["versions"].keys()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert draw_key(model, CPU) != before
    monkeypatch.undo()
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert draw_key(model, CPU) != before


# store gc --stale


def kinds(store: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for path in store.rglob("*-*.*"):
        room = path.relative_to(store).parts[0]
        found[room] = found.get(room, 0) + 1
    return found


def test_gc_removes_all_that_this_version_would_not_use(own, capsys, monkeypatch):
    write_package(own.folder)
    pictures(own.folder / "pictures")
    store = own.folder / "results/store"

    def gc(*options: str) -> str:
        capsys.readouterr()
        assert main(["store", "gc", "--stale", *options]) == 0
        return capsys.readouterr().out

    wanted = [*RUN[:-1], "gallery=1", "heatmaps=float32", "protocol=[removal,distance]"]
    assert main([*wanted, "method=[own_pack.method:own,random]"]) == 0
    whole = {"cells": 4, "heatmaps": 4, "gallery": 2, "draws": 1}
    assert kinds(store) == whole
    assert "Nothing to remove" in gc()

    helper = own.folder / "own_pack/deeper/helper.py"
    text = helper.read_text()
    helper.write_text("# words\n" + text)
    assert "Nothing to remove" in gc()
    helper.write_text(text + "\nEDITED = 1\n")
    own.forget()
    assert "results of other versions: 5 files" in gc("--dry-run")
    assert kinds(store) == whole
    shutil.move("own_pack", "elsewhere")
    monkeypatch.chdir(own.folder)
    said = gc()
    assert "Nothing to remove" in said
    assert "Kept, as their own code is not found from here: 11 files" in said
    shutil.move("elsewhere", "own_pack")
    assert "results of other versions: 5 files" in gc()
    assert kinds(store) == {"cells": 2, "heatmaps": 2, "gallery": 1, "draws": 1}

    from rapbench.fingerprint import packages

    monkeypatch.setattr(packages, "_version", lambda name: "0")
    assert "results of other versions: 6 files" in gc()
    assert kinds(store) == {}


def test_gc_runs_nothing_that_a_store_names(own):
    own.write("own_evil.py", "raise SystemExit('run')\n")
    assert is_stale(("own_evil", "own_evil.deeper"), "0", ()) is None
    assert is_stale(("own_evil",), "0", ()) is True
    assert "own_evil" not in sys.modules


def test_what_is_of_an_old_format_is_stale(tmp_path, capsys):
    from rapbench.store.sealed import write_sealed

    store = tmp_path / "store"
    write_sealed(store / "draws/0", "00000", "json", b"[]")
    write_sealed(store / "heatmaps/0", "00000", "safetensors", b"\xff" * 9)
    write_sealed(store / "cells/00", "00", "parquet", b"PAR1")
    assert main(["store", "gc", "--stale", "--results", str(tmp_path)]) == 0
    assert "results of other versions: 3 files" in capsys.readouterr().out
    assert kinds(store) == {}
