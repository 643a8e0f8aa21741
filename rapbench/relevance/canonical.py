"""A model as a flat graph in which every operation is a module, so that a rule is found by the module's type."""

import copy
import operator
from typing import Any

import torch
import torch.fx
from timm.layers import Conv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from rapbench.errors import RapbenchError
from rapbench.relevance.operations import (
    BOUNDED,
    MODULES,
    NONNEGATIVE,
    POOLS,
    RESHAPES,
    SPLITS,
    TRANSPARENT,
    Add,
    Cat,
    Constant,
    Gate,
    Mean,
    Pad,
    Part,
)

# Operations whose result is a shape or a number, not a tensor that could carry relevance.
SHAPES = {"size", "dim", "numel", "stride"}
SHAPE_ATTRIBUTES = {"shape", "ndim", "dtype", "device", "is_cuda", "requires_grad"}
_ARITHMETIC = {
    operator.getitem, operator.add, operator.sub, operator.mul, operator.floordiv, operator.truediv, operator.mod,
    operator.neg, operator.eq, operator.ne, operator.lt, operator.gt, operator.le, operator.ge, int, float, bool,
}  # fmt: skip
# Library modules that stay one node, as torch's own do: their padding looks at the input's size.
LEAVES = (Conv2dSame, MaxPool2dSame, AvgPool2dSame)


class _Tracer(torch.fx.Tracer):
    def __init__(self, leaves: tuple[type[nn.Module], ...]):
        super().__init__()
        self.leaves = leaves + LEAVES

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in self.leaves or super().is_leaf_module(m, module_qualified_name)


class _Shaped(torch.fx.Proxy):
    """A proxy that knows its tensor's shape, so that a model may branch on it."""

    fake: Any = None

    def __getattr__(self, name: str) -> Any:
        if self.fake is not None and name in SHAPE_ATTRIBUTES:
            return getattr(self.fake, name)
        return super().__getattr__(name)

    def size(self, *dim: int) -> Any:
        return self.fake.size(*dim)

    def dim(self) -> int:
        return self.fake.dim()


class _ShapeTracer(_Tracer):
    """Follows each operation with a tensor that has a shape and no data, at one input's size."""

    def __init__(self, leaves: tuple[type[nn.Module], ...], inputs: Tensor):
        super().__init__(leaves)
        self.fakes = FakeTensorMode(allow_non_fake_inputs=True)
        self.inputs: Tensor | None = self.fakes.from_tensor(inputs)
        self.following = False

    def proxy(self, node: torch.fx.Node) -> torch.fx.Proxy:
        return _Shaped(node, self)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self.following else super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *more: Any, **others: Any) -> torch.fx.Proxy:
        proxy: Any = super().create_proxy(kind, target, args, kwargs, *more, **others)
        if kind == "placeholder":
            proxy.fake, self.inputs = self.inputs, None
            return proxy
        a, k = torch.fx.node.map_aggregate((args, kwargs), lambda x: x.fake if isinstance(x, _Shaped) else x)
        self.following = True  # modules show their tensors, not proxies of them
        try:
            with self.fakes, torch.no_grad():
                if kind == "call_module":
                    proxy.fake = self.root.get_submodule(target).forward(*a, **k)
                elif kind == "call_function":
                    proxy.fake = target(*a, **k)
                elif kind == "call_method":
                    proxy.fake = getattr(a[0], target)(*a[1:], **k)
                elif kind == "get_attr":
                    proxy.fake = _attribute(self.root, target)
        finally:
            self.following = False
        return proxy


def canonical(
    model: nn.Module, inputs: Tensor | None = None, leaves: tuple[type[nn.Module], ...] = ()
) -> torch.fx.GraphModule:
    """Trace `model` into a graph of module calls; the model keeps its own modules and shares its parameters.

    inputs: of the size that the graph is for, needed only by models that branch on it. leaves: further module types
    that stay one node. Functional calls become modules (`operations.MODULES`); modules that work in place are replaced
    by copies that do not, since both directions need every activation as it was. Auxiliary heads of a model in eval
    mode do not appear. Operations it does not know stay as they are.
    `meta["shaped"]` says whether it holds for inputs of this shape only.
    Raises RapbenchError when the model cannot be traced.
    """
    shaped = False
    try:
        graph = _Tracer(leaves).trace(model)
    except Exception as error:
        try:
            if inputs is None:
                raise
            graph = _ShapeTracer(leaves, inputs).trace(model)
            shaped = True
        except Exception:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise RapbenchError(
                f"{type(model).__name__} cannot be traced by torch.fx ({reason}); give it a forward without "
                "data-dependent control flow, or register a rule for the module that has it (rapbench.relevance.rule)"
            ) from error
    result = torch.fx.GraphModule(model, graph)
    result.meta["shaped"] = shaped
    shapes = shape_valued(graph)
    order = {node: number for number, node in enumerate(graph.nodes)}
    # all of them first: a module called twice stops working in place with its first call
    changing = {node for node in order if _changes_its_input(result, node)}
    for node in list(order):
        if node in changing:  # whoever reads the changed tensor later, reads the result
            for user in [user for user in node.args[0].users if order[user] > order[node]]:
                user.replace_input_with(node.args[0], node)
        if node.op in ("call_function", "call_method") and node not in shapes:
            call = _to_module(result, node)
            if call:
                order[call] = order[node]
        elif node.op == "call_module" and node in changing:
            module: Any = twin(result.get_submodule(str(node.target)))
            module.inplace = False
            result.add_submodule(str(node.target), module)
    for node in [node for node in graph.nodes if node.target is torch._assert]:
        graph.erase_node(node)  # a traced assertion about a shape has done its work
    graph.eliminate_dead_code()
    graph.lint()
    result.recompile()
    return result


def own_modules(network: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Give each call in a canonical graph a module of its own, in place: hooks would mix the calls of a shared one.

    The further modules are copies which share the parameters.
    """
    seen: set[str] = set()
    for node in network.graph.nodes:
        if node.op == "call_module":
            if node.target in seen:
                copied = twin(network.get_submodule(node.target))
                node.target = f"_again_{node.name}"
                network.add_submodule(node.target, copied)
            seen.add(node.target)
    network.recompile()
    return network


def twin(module: nn.Module) -> nn.Module:
    """Return a copy with the same parameters, but registries of its own: a shallow copy would share the hooks too."""
    copied = copy.copy(module)
    vars(copied).update({name: copy.copy(value) for name, value in vars(module).items() if isinstance(value, dict)})
    return copied


def shape_valued(graph: torch.fx.Graph) -> set[torch.fx.Node]:
    """Return the nodes that compute shapes or numbers, which carry no relevance."""
    found: set[torch.fx.Node] = set()
    for node in graph.nodes:
        asks = node.target in SHAPES or (node.target is getattr and node.args[1] in SHAPE_ATTRIBUTES)
        inputs = node.all_input_nodes
        if asks or (node.target in _ARITHMETIC and inputs and all(argument in found for argument in inputs)):
            found.add(node)
    return found


def refuse_batch_statistics(network: torch.fx.GraphModule) -> None:
    """Raise RapbenchError for a batch norm that normalises by the batch it is in."""
    for node in network.graph.nodes:
        module = network.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise RapbenchError(
                f"{type(module).__name__} at {place(node)} has no running statistics: its output depends on the other "
                "images of the batch; set track_running_stats=True and calibrate it"
            )


def signals(node: torch.fx.Node, shapes: set[torch.fx.Node]) -> list[torch.fx.Node]:
    """Return a node's tensor inputs, in order and with repetitions."""
    found: list[torch.fx.Node] = []
    torch.fx.node.map_arg((node.args, node.kwargs), lambda n: found.append(n) or n)  # type: ignore[func-returns-value]
    return [argument for argument in found if argument not in shapes]


def nonnegative(network: torch.fx.GraphModule) -> set[torch.fx.Node]:
    """Return the nodes of a canonical graph whose values are never negative, whatever the input is."""
    found: set[torch.fx.Node] = set()
    keeps = (*TRANSPARENT, *POOLS["max"], *POOLS["average"], MaxPool2dSame, AvgPool2dSame, nn.Flatten, Mean, Cat, Add,
             Gate, Part)  # fmt: skip
    for node in network.graph.nodes:
        module = network.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(module, NONNEGATIVE) or (isinstance(module, nn.Hardtanh) and module.min_val >= 0):
            found.add(node)
        elif isinstance(module, keeps) or (isinstance(module, Pad) and (module.value or 0) >= 0):
            if all(argument in found for argument in node.all_input_nodes):
                found.add(node)
        elif node.target in RESHAPES and node.all_input_nodes[0] in found:
            found.add(node)
    return found


def place(node: torch.fx.Node) -> str:
    """Where a node stands in the user's model: the module that calls it, or the module itself."""
    if "place" in node.meta:
        return str(node.meta["place"])
    if node.op == "call_module" and not str(node.target).startswith("_canonical_"):
        return str(node.target)
    stack = node.meta.get("nn_module_stack") or {}
    owner = next(reversed(stack.values()))[0] if stack else ""
    return f"{owner or 'the top level'} ({node.name.removeprefix('_canonical_')})"


def operation(network: torch.fx.GraphModule, node: torch.fx.Node) -> str:
    """What a node does, as its author would call it."""
    if node.op != "call_module":
        return str(getattr(node.target, "__name__", node.target))
    module = network.get_submodule(str(node.target))
    return module.operation.__name__ if isinstance(module, Constant) else type(module).__name__


def _changes_its_input(owner: torch.fx.GraphModule, node: torch.fx.Node) -> bool:
    """Whether a call works in place on its first argument."""
    if not node.args or not isinstance(node.args[0], torch.fx.Node):
        return False
    if node.op == "call_module":
        return bool(getattr(owner.get_submodule(str(node.target)), "inplace", False))
    if node.op == "call_method":
        return str(node.target).endswith("_") and not str(node.target).endswith("__")
    changing = (operator.iadd, operator.imul, operator.isub, operator.itruediv, torch.relu_)
    return node.op == "call_function" and (node.target in changing or bool(node.kwargs.get("inplace")))


def _to_module(owner: torch.fx.GraphModule, node: torch.fx.Node) -> torch.fx.Node | None:
    """Replace a function or method call by a module call, where MODULES knows one; returns that call."""
    source = node.args[0] if node.args else None
    if node.target is operator.getitem and isinstance(source, torch.fx.Node) and source.target in SPLITS:
        split = _closed(source)
        module: nn.Module | None = Part(split, node.args[1]) if split else None  # type: ignore[arg-type]
        inputs: Any = source.args[:1]
    else:
        module, inputs = _module_for(owner, node)
    if module is None:
        return None
    name = f"_canonical_{node.name}"
    if getattr(module, "inplace", False):
        module.inplace = False  # type: ignore[assignment]
    owner.add_module(name, module.eval())
    with owner.graph.inserting_before(node):
        call = owner.graph.call_module(name, tuple(inputs))
    call.meta.update(node.meta)
    node.replace_all_uses_with(call)
    owner.graph.erase_node(node)
    return call


def _module_for(owner: torch.fx.GraphModule, node: torch.fx.Node) -> tuple[nn.Module | None, Any]:
    build = MODULES.get(node.target)
    if build is None:
        return None, ()

    def constant(argument: torch.fx.Node) -> Any:
        return _attribute(owner, str(argument.target)) if argument.op == "get_attr" else argument

    arguments, keywords = torch.fx.node.map_arg((node.args, node.kwargs), constant)
    try:
        module = build(*arguments, **keywords)
    except (TypeError, ValueError, AttributeError):
        return None, ()  # an unusual form: it stays, and is refused by whoever needs a rule for it
    inputs = [argument for argument in signals(node, set()) if argument.op != "get_attr"]
    if isinstance(module, Gate):
        gates = [_is_gate(owner, argument) for argument in inputs]
        if sum(gates) != 1:
            return None, ()
        inputs = inputs[::-1] if gates[0] else inputs
    elif not isinstance(module, (Add, Cat)):
        inputs = inputs[:1]
    return module, inputs


def _is_gate(owner: torch.fx.GraphModule, node: torch.fx.Node) -> bool:
    """Whether a node's values come, but for constants and shapes, straight from a function between bounds."""
    while node.op in ("call_module", "call_method", "call_function"):
        module = owner.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, BOUNDED):
            return True
        passes = isinstance(module, (*TRANSPARENT, Constant)) or node.target in RESHAPES | {"expand", "expand_as"}
        if not passes:
            return False
        node = node.all_input_nodes[0]
    return False


def _closed(node: torch.fx.Node) -> Any:
    """A call of one tensor with constants, as a function of the tensor; None where it takes other nodes too."""
    if len(node.all_input_nodes) != 1:
        return None
    target: Any = node.target
    if node.op == "call_method":
        return lambda x: getattr(x, target)(*node.args[1:], **node.kwargs)
    return lambda x: target(x, *node.args[1:], **node.kwargs)


def _attribute(root: nn.Module, target: str) -> Any:
    """The parameter or buffer that a get_attr node names."""
    value: Any = root
    for part in target.split("."):
        value = getattr(value, part)
    return value
