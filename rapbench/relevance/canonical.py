"""A model as a flat graph in which every operation is a module, so that a rule is found by the module's type."""

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from rapbench.errors import RapbenchError


class Add(nn.Module):
    """A residual addition: (a, b) -> a + b, broadcasting."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Add two tensors."""
        return a + b


class Cat(nn.Module):
    """A concatenation along `dim`."""

    def __init__(self, dim: int = 0):
        super().__init__()
        self.dim = dim

    def forward(self, *parts: Tensor) -> Tensor:
        """Concatenate the parts."""
        return torch.cat(parts, self.dim)


class Mean(nn.Module):
    """A mean over the dimensions `dim`: global average pooling when they are the spatial ones."""

    def __init__(self, dim: Any, keepdim: bool = False):
        super().__init__()
        self.dim = dim
        self.keepdim = keepdim

    def forward(self, x: Tensor) -> Tensor:
        """Average x, (N, ...)."""
        return x.mean(self.dim, self.keepdim)


# Operations that only rearrange one tensor's elements in order: relevance is reshaped back.
RESHAPES = {torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze} | {
    "flatten", "reshape", "view", "squeeze", "unsqueeze", "contiguous", "clone", "detach",
}  # fmt: skip
# Operations whose result is a shape or a number, not a tensor that could carry relevance.
SHAPES = {"size", "dim", "numel", "stride"}
SHAPE_ATTRIBUTES = {"shape", "ndim", "dtype", "device", "is_cuda", "requires_grad"}
_ARITHMETIC = {
    operator.getitem, operator.add, operator.sub, operator.mul, operator.floordiv, operator.truediv, operator.mod,
    operator.neg, operator.eq, operator.ne, operator.lt, operator.gt, operator.le, operator.ge, int, float, bool,
}  # fmt: skip


def _batch_norm(x: Any, mean: Tensor, var: Tensor, weight: Tensor | None = None, bias: Tensor | None = None,
                training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> nn.Module:  # fmt: skip
    if training or mean is None or var is None:
        raise ValueError("batch statistics")
    norm = nn.BatchNorm2d(len(mean), eps, affine=weight is not None)
    norm._check_input_dim = lambda input: None  # type: ignore[method-assign]  # any number of dimensions
    norm.running_mean, norm.running_var = mean, var
    if weight is not None and bias is not None:
        norm.weight, norm.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
    return norm.eval()


def _adds(a: Any, b: Any, *, alpha: float = 1, out: None = None) -> nn.Module:
    if not (isinstance(a, torch.fx.Node) and isinstance(b, torch.fx.Node)) or alpha != 1 or out is not None:
        raise TypeError("not a sum of two activations")
    return Add()


# Function or method -> the module that does the same. The parameters are those of the function, so Python binds them.
MODULES: dict[Any, Callable[..., nn.Module]] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, "relu", "relu_"), lambda input, inplace=False: nn.ReLU()),
    F.relu6: lambda input, inplace=False: nn.ReLU6(),
    F.dropout: lambda input, p=0.5, training=True, inplace=False: nn.Identity(),
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), _adds),
    **dict.fromkeys((torch.cat, torch.concat), lambda tensors, dim=0: Cat(dim)),
    **dict.fromkeys((torch.mean, "mean"), lambda input, dim, keepdim=False: Mean(dim, keepdim)),
    F.batch_norm: _batch_norm,
    **dict.fromkeys(
        (F.max_pool2d, torch.max_pool2d),
        lambda input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False:
            nn.MaxPool2d(kernel_size, stride, padding, dilation, return_indices, ceil_mode),
    ),
    F.avg_pool2d:
        lambda input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
        divisor_override=None:
            nn.AvgPool2d(kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override),
    F.adaptive_avg_pool2d: lambda input, output_size: nn.AdaptiveAvgPool2d(output_size),
}  # fmt: skip


class _Tracer(torch.fx.Tracer):
    def __init__(self, leaves: tuple[type[nn.Module], ...]):
        super().__init__()
        self.leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in self.leaves or super().is_leaf_module(m, module_qualified_name)


def canonical(model: nn.Module, leaves: tuple[type[nn.Module], ...] = ()) -> torch.fx.GraphModule:
    """Trace `model` into a graph of module calls; the model keeps its own modules and shares its parameters.

    leaves: further module types that stay one node. Functional calls become modules (`MODULES`); modules that work in
    place are replaced by copies that do not, since both directions need every activation as it was. Auxiliary heads
    and dropout of a model in eval mode do not appear. Operations it does not know stay as they are.
    Raises RapbenchError when the model cannot be traced.
    """
    try:
        graph = _Tracer(leaves).trace(model)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RapbenchError(
            f"{type(model).__name__} cannot be traced by torch.fx ({reason}); give it a forward without data-dependent "
            "control flow, or register a rule for the module that has it (rapbench.relevance.rule)"
        ) from error
    result = torch.fx.GraphModule(model, graph)
    for node in list(graph.nodes):
        if node.op in ("call_function", "call_method"):
            _to_module(result, node)
        elif node.op == "call_module":
            module: Any = result.get_submodule(node.target)
            if getattr(module, "inplace", False):
                module = copy.copy(module)
                module.inplace = False
                result.add_submodule(node.target, module)
    graph.eliminate_dead_code()
    graph.lint()
    result.recompile()
    return result


def own_modules(network: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Give each call in a canonical graph a module of its own, in place: hooks would mix the calls of a shared one.

    The further modules are shallow copies, which share the parameters.
    """
    seen: set[str] = set()
    for node in network.graph.nodes:
        if node.op == "call_module":
            if node.target in seen:
                copied = copy.copy(network.get_submodule(node.target))
                node.target = f"_again_{node.name}"
                network.add_submodule(node.target, copied)
            seen.add(node.target)
    network.recompile()
    return network


def shape_valued(graph: torch.fx.Graph) -> set[torch.fx.Node]:
    """Return the nodes that compute shapes or numbers, which carry no relevance."""
    found: set[torch.fx.Node] = set()
    for node in graph.nodes:
        asks = node.target in SHAPES or (node.target is getattr and node.args[1] in SHAPE_ATTRIBUTES)
        inputs = node.all_input_nodes
        if asks or (node.target in _ARITHMETIC and inputs and all(argument in found for argument in inputs)):
            found.add(node)
    return found


def place(node: torch.fx.Node) -> str:
    """Where a node stands in the user's model: the module that calls it, or the module itself."""
    if node.op == "call_module" and not str(node.target).startswith("_canonical_"):
        return str(node.target)
    stack = node.meta.get("nn_module_stack") or {}
    owner = next(reversed(stack.values()))[0] if stack else ""
    return f"{owner or 'the top level'} ({node.name})"


def _to_module(owner: torch.fx.GraphModule, node: torch.fx.Node) -> None:
    build = MODULES.get(node.target)
    if build is None:
        return
    arguments, keywords = node.args, node.kwargs
    if node.target is F.batch_norm:  # its module holds the tensors that the call was given
        arguments, keywords = torch.fx.node.map_arg((arguments, keywords), lambda n: _tensor(owner, n))
    try:
        module = build(*arguments, **keywords)
    except (TypeError, ValueError):
        return  # an unusual form: it stays, and is refused by whoever needs a rule for it
    inputs: Any
    if isinstance(module, Add):
        inputs = node.args
    elif isinstance(module, Cat):
        inputs = node.args[0] if node.args else node.kwargs["tensors"]
    else:
        inputs = (i for i in node.all_input_nodes if i.op != "get_attr")
    name = f"_canonical_{node.name}"
    owner.add_module(name, module)
    with owner.graph.inserting_before(node):
        call = owner.graph.call_module(name, tuple(inputs))
    call.meta.update(node.meta)
    node.replace_all_uses_with(call)
    owner.graph.erase_node(node)


def _tensor(owner: torch.fx.GraphModule, node: torch.fx.Node) -> Any:
    """The parameter or buffer that a get_attr node names; other nodes as they are."""
    if node.op != "get_attr":
        return node
    value: Any = owner
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value
