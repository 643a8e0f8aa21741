"""What waits for the device, and what is computed beside it, seen without one.

A fake tensor (`torch._subclasses`) has a device, a shape and no values: an operation that mixes devices fails on it as
it would on a GPU, and so does whatever needs a value on the host. `Remote` is a tensor with values that counts who
reads them: what `cpu()` returns is on the host and free to read.
"""

import contextlib
import itertools
import json
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision.models import VisionTransformer

from rapbench.app.cli import main
from rapbench.core.device import default_batch, default_chunk
from rapbench.data.subset.manifest import Row
from rapbench.evaluation.choice import Choice, variants
from rapbench.evaluation.chunk import Chunk
from rapbench.methods import methods
from rapbench.model import Facts, Model
from rapbench.model.preprocessing import Preprocess
from rapbench.protocols import protocols
from rapbench.protocols.base import imputation
from rapbench.protocols.base.batch import Batch
from tests.options import FOR_TRANSFORMERS, PROPAGATED, QUICK_METHODS, mostly_quick, small_options
from tests.small import SMALL

SIZE, COUNT = 12, 3
ON_THE_HOST = "parameter_randomisation"  # draws the weights of its networks there, once while a model lives
# For images so small, and in little time.
FEW = small_options(size=3, steps=4)
SIGNS = ("positive", "negative")


# Protocols that solve a system in each pass: whether it is solved is read once in several steps of the solver.
ITERATES = {"road"}


def settings() -> list[tuple[str, dict[str, Any]]]:
    """Return every registered protocol with its defaults, and with each other value of each of its options."""
    found = []
    for name in protocols:
        made = protocols[name].function
        found.append((name, FEW.get(name, {})))
        for option, annotation in get_type_hints(made).items():
            if option in made.__dataclass_fields__:
                values = get_args(annotation) if get_origin(annotation) is Literal else ()
                default = made.__dataclass_fields__[option].default
                found += [(name, FEW.get(name, {}) | {option: value}) for value in values if value != default]
    return found


# Memory as drivers report it, in GiB: of cards sold with 6 to 192 GB.
CARDS = {5.8: (8, 64), 7.8: (8, 64), 9.8: (16, 64), 11.7: (16, 64), 14.6: (16, 64), 15.9: (16, 64), 22.0: (32, 128),
         23.7: (32, 128), 31.4: (32, 128), 39.4: (64, 256), 44.4: (64, 256), 47.5: (64, 256), 79.2: (64, 256),
         139.8: (64, 256), 178.4: (64, 256)}  # fmt: skip


@pytest.mark.parametrize("memory", CARDS)
def test_chunk_and_batch_follow_from_the_card(memory, monkeypatch):
    """Not from what is free on it; and what a driver keeps for itself, here up to 200 MB more, changes neither."""
    for kept in (0, 200 * 2**20):
        properties = SimpleNamespace(total_memory=int(memory * 2**30) - kept)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, found=properties: found)
        device = torch.device("cuda", 0)
        assert (default_chunk(device), default_batch(device)) == CARDS[memory]


@pytest.mark.parametrize(("device", "size"), [("cpu", (8, 8)), ("mps", (8, 64)), ("xpu", (8, 64))])
def test_chunk_and_batch_elsewhere(device, size):
    place = torch.device(device)
    assert (default_chunk(place), default_batch(place)) == size


@pytest.mark.parametrize(("words", "size"), [
    ([], {"chunk": 8, "batch": 8}), (["chunk=null", "batch=null"], {"chunk": 8, "batch": 8}),
    (["chunk=3"], {"chunk": 3, "batch": 8}), (["batch=5"], {"chunk": 8, "batch": 5}),
])  # fmt: skip
def test_what_is_chosen_is_what_is_recorded(words, size, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["run", f"model={SMALL}", "method=[random]", "protocol=[distance]", "subset.n=2", "gallery=0",
                 "paper=off", "device=cpu", *words]) == 0  # fmt: skip
    (found,) = tmp_path.rglob("provenance.json")
    config = json.loads(found.read_text())["config"]
    assert {name: config[name] for name in size} == size


class Crossings(TorchDispatchMode):
    """Counts copies from one device to another, and fails where an operation waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        found = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        made = [one for one in tree_leaves(found) if isinstance(one, Tensor)]
        self.copies += len({one.device for one in (*given, *made)}) > 1
        if name.startswith(("index", "_index", "_unsafe_index")):
            indices = [one for one in given[1:] if one.dtype in (torch.bool, torch.uint8)]
            assert not indices, f"{func} with a mask counts its elements: the host waits for them"
        return found


@contextlib.contextmanager
def fake_gpu():
    with FakeTensorMode() as mode, Crossings() as crossings:
        yield mode, crossings


def fake_batch(shared: dict[Any, Any]) -> Batch:
    images = torch.randn(COUNT, 3, SIZE, SIZE, device="cuda")
    weight = torch.randn(7, 3 * SIZE**2, device="cuda")

    def forward(inputs: Tensor) -> Tensor:
        return inputs.flatten(1) @ weight.T

    labels = torch.zeros(COUNT, dtype=torch.int64, device="cuda")
    maps = torch.randn(COUNT, SIZE, SIZE, device="cuda")
    moments = torch.randn(3, device="cuda"), torch.randn(3, device="cuda")
    given = Batch(images, labels, maps, forward, lambda: forward(images), list("abc"), 0, moments, 4, shared)
    given.again = lambda inputs, labels, ids, model: inputs.sum(1)
    return given


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(name, options, marks=[pytest.mark.slow] if name in ITERATES and options != FEW[name] else [])
        for name, options in settings()
        if name != ON_THE_HOST
    ],
    ids=str,
)
def test_a_protocol_computes_on_the_device_alone_and_waits_for_nothing(name, options, monkeypatch):
    """From the second method of a chunk on not even an index goes there."""
    # A fake tensor cannot tell whether a system is solved, which is waited for (ITERATES).
    monkeypatch.setattr(imputation, "all_solved", lambda residual, bound: True)
    monkeypatch.setattr(imputation, "STEPS", 2)  # quicker: a first and a last step
    protocol = protocols[name].function(**options)
    with fake_gpu() as (_, crossings), torch.inference_mode():
        shared: dict[Any, Any] = {}
        for _ in ("first method", "second"):
            batch = fake_batch(shared)
            before = crossings.copies
            for variant, steps in protocol.variants(SIGNS).items():
                for column, values in protocol.evaluate(batch, variant, steps).items():
                    assert values.device.type == "cuda", column
            assert batch.finite.device.type == "cuda"
        assert crossings.copies == before


MISTAKES = {
    "reads a number": lambda batch: batch.heatmaps.max().item(),
    "reads a list": lambda batch: batch.heatmaps.tolist(),
    "branches on a value": lambda batch: bool((batch.heatmaps > 0).any()),
    "picks by a mask": lambda batch: batch.heatmaps[batch.heatmaps > 0],
    "counts": lambda batch: batch.heatmaps.nonzero(),
    "indexes by a list": lambda batch: batch.inputs[[0, 2]],
    "mixes devices": lambda batch: batch.heatmaps + torch.zeros(SIZE),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_fake_gpu_notices(mistake):
    with fake_gpu() as (_, crossings), torch.inference_mode():
        batch = fake_batch({})
        try:
            MISTAKES[mistake](batch)
        except Exception:  # each of its own kind
            return
        assert crossings.copies


def test_the_fake_gpu_counts_copies():
    with fake_gpu() as (_, crossings):
        torch.tensor([1, 2], device="cuda")
        assert crossings.copies == 1
        torch.zeros(2, device="cuda").cpu()
        assert crossings.copies == 2


class Remote(Tensor):
    """A tensor as on a device: what is made of it is there too, until it is copied back."""

    reads: ClassVar[Counter[str]] = Counter()

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", str(func))
        found = super().__torch_function__(func, types, args, kwargs or {})
        if name in READS:
            cls.reads[name] += 1
            return tuple(map(local, found)) if isinstance(found, tuple) else local(found)
        return found


READS = {"cpu", "numpy", "__array__", "tolist", "item", "__bool__", "__int__", "__float__", "__index__", "__format__",
         "nonzero", "argwhere", "masked_select", "unique", "equal", "allclose", "is_nonzero"}  # fmt: skip


def local(found: Any) -> Any:
    return found.as_subclass(Tensor) if isinstance(found, Tensor) else found


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1),
        nn.BatchNorm2d(8), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * (SIZE // 2) ** 2, 7),
    )  # fmt: skip


def transformer() -> nn.Module:
    network = VisionTransformer(SIZE, SIZE // 3, 2, 2, 16, 32, num_classes=7)
    nn.init.normal_(network.heads.head.weight)  # torchvision starts it at 0
    return network


def chunk_of(made: Callable[[], nn.Module]) -> Chunk:
    torch.manual_seed(0)
    network = made().eval()
    model = Model(network, transform=Preprocess((0.0,) * 3, (1.0,) * 3), facts=Facts("small", "", "", ""))
    images = torch.randn(COUNT, 3, SIZE, SIZE).as_subclass(Remote)
    rows = [Row(f"{number}.jpg", number, f"sha of {number}", 0.0, "small", "") for number in range(COUNT)]
    return Chunk(model, model, 0, 0, rows, images, seed=5, batch=4)


@pytest.fixture
def chunk() -> Chunk:
    return chunk_of(convolutional)


def reads(chunk: Chunk, method: str, wanted: list[str]) -> Counter[str]:
    """Return what the second of two calls reads: the first one gets to know the model."""
    asked = [Choice(name, protocols[name], FEW.get(name, {})) for name in wanted]
    chosen = Choice(method, methods[method], QUICK_METHODS.get(method, {}))
    asked = [protocol for protocol in asked if variants(chosen, protocol)]
    assert asked
    for _ in range(2):
        Remote.reads = Counter()
        for _, columns in chunk.evaluate(chosen, asked, None):
            assert len(columns["row"])
    return Remote.reads


PASSES = 4  # two orders of two shares, four images a pass


@pytest.mark.parametrize("name", list(protocols))
def test_a_chunk_waits_once_for_the_arguments_and_once_for_each_table(name, chunk):
    """Of a method and a protocol: `attribute` reads whether its arguments are sound, `table_of` copies the numbers."""
    found = reads(chunk, "gradient_x_input", [name])
    rounds = found.pop("__bool__", 0)
    assert found == {"tolist": 1 + again(name), "cpu": 1}
    assert PASSES <= rounds <= 3 * PASSES if name in ITERATES else rounds == 0


def test_several_protocols_wait_once_each(chunk):
    wanted = [name for name in protocols if name not in ITERATES]
    calls = 1 + sum(map(again, wanted))
    assert reads(chunk, "gradient_x_input", wanted) == {"tolist": calls, "cpu": len(wanted)}


def again(name: str) -> int:
    """Return how many heatmaps a protocol computes anew."""
    asked: int = protocols[name].function(**FEW.get(name, {})).recomputed()
    return asked


# Beside the arguments and the table: what a method has to see on the host.
BESIDE = {
    "edge": {"cpu": 1},  # its filter is SciPy's
    "rap": {"__bool__": 1},  # of each convolution before a batch norm: whether a difference is exact enough
    "lrp_gamma": {"__bool__": 3},  # of each layer: whether an output with relevance is negative
    "lrp_epsilon_gamma_box": {"__bool__": 1},
    "captum_lrp": {"__float__": 2},  # the batch's sums that tell whether relevance is conserved
    # What Captum reads of each image, here of boxes: superpixels are scikit-image's and need the image as well.
    "feature_ablation": {"unique": COUNT},
    "kernel_shap": {"cpu": COUNT, "item": 4 * COUNT},
    "lime": {"cpu": COUNT, "item": 2 * COUNT, "__float__": COUNT * QUICK_METHODS["lime"]["samples"]},
    "shapley_sampling": {"item": COUNT * (3 + 2 * 3 * SIZE**2)},  # the region of every element
}


@pytest.mark.parametrize("method", mostly_quick(name for name in methods if not name.startswith("pattern_")))
def test_a_method_waits_for_nothing_more(method):
    """Those of patterns need a file of a real network."""
    chunk = chunk_of(transformer if method in FOR_TRANSFORMERS else convolutional)
    beside = Counter(BESIDE.get(method, {}))
    if method in PROPAGATED:
        beside["__bool__"] += 1  # whether relevance grows beyond what its precision resolves
    assert reads(chunk, method, ["distance"]) == Counter({"tolist": 1, "cpu": 1}) + beside


NAN = {"first": [0], "last": [2], "two": [1, 2]}


@pytest.mark.parametrize("broken", NAN)
@pytest.mark.parametrize("name", list(protocols))
def test_relevance_that_is_not_finite_is_refused_by_the_images_name_before_a_table(name, broken, chunk):
    @methods.register("breaks", signs=SIGNS, passes=1)
    def breaks(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        relevance = inputs.clone()
        relevance[NAN[broken], 0, 1, 2] = torch.nan
        return relevance

    choice = Choice("breaks", methods["breaks"], {})
    found = chunk.evaluate(choice, [Choice(name, protocols[name], FEW.get(name, {}))], None)
    with pytest.raises(Exception, match=f"NaN or infinite relevance for image {NAN[broken][0]}.jpg") as raised:
        next(found)
    assert type(raised.value).__name__ == "MethodError"
    with pytest.raises(Exception, match=f"image {NAN[broken][0]}.jpg"):
        chunk.heatmaps(choice, None)


def test_seeds_and_indices_are_made_once_for_all_methods(chunk, monkeypatch):
    calls = itertools.count()
    from rapbench.protocols.base import batch

    drawn = batch.seed_of
    monkeypatch.setattr(batch, "seed_of", lambda *parts: (next(calls), drawn(*parts))[1])
    for method in ("gradient_x_input", "sensitivity", "random"):
        reads(chunk, method, ["removal", "shuffling"])
    assert next(calls) == COUNT
