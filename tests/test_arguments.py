"""What `attribute` is given, by every method: the value where what is meant is plain, else one line."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import rapbench
from rapbench.methods import methods
from rapbench.patterns import estimate, save
from tests.options import FOR_TRANSFORMERS, QUICK_METHODS, mostly_quick

IDS = ["a", "b", "c"]
every_method = pytest.mark.parametrize("method", mostly_quick(name for name in methods if name not in FOR_TRANSFORMERS))


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4 * 3 * 3, 5)
    ).to(dtype).eval()  # fmt: skip


@pytest.fixture
def x():
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def attributed(tmp_path, x):
    """Attribute; patterns are made where the method needs them."""

    def run(method, inputs, targets, net=None, **more):
        net = network() if net is None else net
        options = dict(QUICK_METHODS.get(method, {}))
        if "patterns" in methods[method].facts.files:
            dtype = next(net.parameters()).dtype
            options["patterns"] = str(save(estimate(net, [x.to(dtype)]), net, tmp_path / f"patterns{dtype}"))
        return rapbench.attribute(net, inputs, targets, method, **{"image_ids": IDS} | options | more)

    return run


TARGETS = {
    "int": lambda: 2,
    "NumPy int": lambda: np.int64(2),
    "NumPy small int": lambda: np.uint8(2),
    "0-d array": lambda: np.array(2),
    "0-d tensor": lambda: torch.tensor(2),
    "list": lambda: [2, 2, 2],
    "tuple": lambda: (2, 2, 2),
    "range": lambda: [2] * 3,
    "list of NumPy ints": lambda: [np.int32(2)] * 3,
    "list of tensors": lambda: [torch.tensor(2)] * 3,
    "array": lambda: np.array([2, 2, 2]),
    "turned array": lambda: np.array([2, 2, 2])[::-1],
    "unsigned array": lambda: np.array([2, 2, 2], dtype=np.uint64),
    "big-endian array": lambda: np.array([2, 2, 2], dtype=">i4"),
    "tensor": lambda: torch.tensor([2, 2, 2]),
    "int32 tensor": lambda: torch.tensor([2, 2, 2], dtype=torch.int32),
    "uint8 tensor": lambda: torch.tensor([2, 2, 2], dtype=torch.uint8),
}
BAD_TARGETS = {
    "None": (None, "targets is None: say which class"),
    "string": ("2", "targets must be 3 class indices, or one for all, got '2'"),
    "strings": (["a", "b", "c"], "targets must be 3 class indices, or one for all, got a list"),
    "float": (2.0, "targets must be 3 class indices.*float64"),
    "NumPy float": (np.float32(2), "targets must be 3 class indices.*float32"),
    "float list": ([0.0, 1.0, 2.0], "targets must be 3 class indices.*float64"),
    "float tensor": (torch.zeros(3), "targets must be 3 class indices.*float32"),
    "NaN": (float("nan"), "targets must be 3 class indices"),
    "bool": (True, "targets must be 3 class indices.*bool"),
    "bools": ([True, False, True], "targets must be 3 class indices.*bool"),
    "bool tensor": (torch.ones(3, dtype=torch.bool), "targets must be 3 class indices.*bool"),
    "complex": (2j, "targets must be 3 class indices"),
    "too few": ([0, 1], r"targets must be 3 class indices.* shape \(2,\)"),
    "too many": ([0, 1, 2, 3], r"targets must be 3 class indices.* shape \(4,\)"),
    "none": ([], r"targets must be 3 class indices.* shape \(0,\)"),
    "a column": ([[0], [1], [2]], r"targets must be 3 class indices.* shape \(3, 1\)"),
    "one-hot": (torch.eye(5)[:3].long(), r"targets must be 3 class indices.* shape \(3, 5\)"),
    "ragged": ([[0], [1, 2], 3], "targets must be 3 class indices"),
    "with None": ([0, None, 1], "targets must be 3 class indices"),
    "dict": ({0: 1}, "targets must be 3 class indices.* a dict"),
    "set": ({0, 1, 2}, "targets must be 3 class indices.* a set"),
    "object": (object(), "targets must be 3 class indices.* a object"),
    "huge": (10**30, "targets must be 3 class indices"),
    "huge unsigned": (np.array([2**63, 0, 0], dtype=np.uint64), "targets must be 3 class indices"),
    "negative": (-1, "target -1 is out of range: class indices start at 0"),
    "negative among": ([0, -2, 1], "target -2 is out of range"),
}


@every_method
def test_class_indices_may_come_in_any_form(method, x, attributed):
    want = attributed(method, x, torch.tensor([2, 2, 2]))
    for form, make in TARGETS.items():
        assert torch.equal(attributed(method, x, make()), want), form


@every_method
def test_what_is_no_class_index_is_said_in_one_line(method, x, attributed):
    for given, says in BAD_TARGETS.values():
        with pytest.raises(rapbench.RapbenchError, match=says) as raised:
            attributed(method, x, given)
        assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("method", mostly_quick(name for name in methods if methods[name].facts.looks_at_model))
@pytest.mark.parametrize("given", [5, [0, 1, 5], 10**12])
def test_a_class_that_the_model_does_not_have(method, given, x, attributed):
    with pytest.raises(rapbench.RapbenchError, match="is out of range: the model has 5 classes"):
        attributed(method, x, given)


INPUTS = {
    "array": lambda x: x.numpy(),
    "turned array": lambda x: x.flip(3).numpy()[..., ::-1],
    "big-endian array": lambda x: x.numpy().astype(">f4"),
    "read-only array": lambda x: np.broadcast_to(x.numpy(), x.shape),
    "float64 array": lambda x: x.numpy().astype(np.float64),
    "list of tensors": lambda x: list(x),
    "tuple of tensors": lambda x: tuple(x),
    "list of arrays": lambda x: list(x.numpy()),
    "nested lists": lambda x: x.tolist(),
    "float64": lambda x: x.double(),
    "requires_grad": lambda x: x.clone().requires_grad_(),
    "not contiguous": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
}


@every_method
def test_images_may_come_in_any_form(method, x, attributed):
    want = attributed(method, x, 1)
    for form, make in INPUTS.items():
        given = make(x)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            got = attributed(method, given, 1)
        assert got.dtype == torch.float32
        assert not got.requires_grad
        assert (got - want).abs().max() <= 1e-5 * want.abs().max(), form
        if isinstance(given, torch.Tensor):
            assert given.grad is None


@every_method
def test_draws_by_content_do_not_depend_on_the_form(method, x, attributed):
    want = attributed(method, x, 1, image_ids=None)
    for form in ("array", "float64", "list of tensors"):
        got = attributed(method, INPUTS[form](x), 1, image_ids=None)
        assert (got - want).abs().max() <= 1e-5 * want.abs().max()


def spoilt(x, value):
    return x.index_put((torch.tensor(1), torch.tensor(0), torch.tensor(2), torch.tensor(3)), torch.tensor(value))


BAD_INPUTS = {
    "None": (lambda x: None, "inputs must be a tensor or an array of preprocessed images"),
    "string": (lambda x: "cat.jpg", "inputs must be a tensor or an array .* got 'cat.jpg'"),
    "dict": (lambda x: {"x": x}, "inputs must be .* got a dict"),
    "number": (lambda x: 3.0, r"non-empty floating-point batch \(N, ...\).* shape \(\)"),
    "vector": (lambda x: x.flatten(), r"non-empty floating-point batch \(N, ...\)"),
    "uint8": (lambda x: x.byte(), "non-empty floating-point batch .*uint8"),
    "uint8 array": (lambda x: x.byte().numpy(), "non-empty floating-point batch .*uint8"),
    "int": (lambda x: x.long(), "non-empty floating-point batch .*int64"),
    "bool": (lambda x: x > 0, "non-empty floating-point batch .*bool"),
    "complex": (lambda x: x + 0j, "non-empty floating-point batch .*complex64"),
    "empty": (lambda x: x[:0], r"non-empty floating-point batch .* \(0, 3, 8, 8\)"),
    "no pixels": (lambda x: x[..., :0], r"non-empty floating-point batch .* \(3, 3, 8, 0\)"),
    "sparse": (lambda x: x.to_sparse(), "inputs must be .* got sparse torch.float32"),
    "meta": (lambda x: x.to("meta"), "inputs must be .* without data"),
    "unequal": (lambda x: [x[0], x[0, :2]], "inputs must be .* got a list"),
    "objects": (lambda x: np.array([None, 1]), "inputs must be .* got an array of object"),
    "masked": (lambda x: np.ma.masked_array(x.numpy()), "inputs must be .* got an array"),
    "NaN": (lambda x: spoilt(x, float("nan")), "inputs hold NaN or infinite values, first in image 1"),
    "inf": (lambda x: spoilt(x, float("inf")), "inputs hold NaN or infinite values, first in image 1"),
    "too large for float32": (lambda x: x.double() * 1e300, "inputs hold NaN or infinite values, first in image 0"),
    "one image": (lambda x: x[0], r"one image needs a batch axis, inputs\[None\]"),
}


@every_method
def test_what_is_no_batch_is_said_in_one_line(method, x, attributed):
    for make, says in BAD_INPUTS.values():
        with pytest.raises(rapbench.RapbenchError, match=says) as raised:
            attributed(method, make(x), 1)
        assert len(str(raised.value).splitlines()) == 1


@every_method
def test_the_model_decides_the_precision(method, x, attributed):
    """Inputs follow the model's type; what float16 and bfloat16 hold is computed with in float32."""
    double = attributed(method, x.double(), 1, network(torch.float64))
    got = attributed(method, x, 1, network(torch.float64))
    assert got.dtype == torch.float64
    assert (got - double).abs().max() <= 1e-6 * double.abs().max()
    for dtype in (torch.float16, torch.bfloat16):
        rounded, net = x.to(dtype), network(dtype)
        want = attributed(method, rounded.float(), 1, network(dtype).float())
        for inputs, model in ((rounded, net), (rounded.float(), net), (rounded, network(dtype).float())):
            if "patterns" in methods[method].facts.files:
                model = model.float()  # the file is for weights of its type
            got = attributed(method, inputs, 1, model)
            assert got.dtype == torch.float32
            assert (got - want).abs().max() <= 1e-4 * want.abs().max()
        assert net[0].weight.dtype == dtype or "patterns" in methods[method].facts.files


@every_method
def test_autocast_outside_does_not_reach_in(method, x, attributed):
    want = attributed(method, x, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(attributed(method, x, 1), want)


@every_method
def test_what_is_no_module_is_said_in_one_line(method, x, attributed):
    for model, says in ((lambda x: x, "must be a torch.nn.Module, got a function"), (nn.Linear, "got a class"),
                        ("vgg16", "got a str"), (None, "got a NoneType")):  # fmt: skip
        with pytest.raises(rapbench.RapbenchError, match=says):
            rapbench.attribute(model, x, 1, method)
