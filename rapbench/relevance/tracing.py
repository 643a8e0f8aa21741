"""Following a model's forward pass with torch.fx, as one call with one batch of inputs, and nothing else, does."""

import operator
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.fx
from timm.layers import Conv2dSame, RmsNorm, RmsNorm2d
from timm.layers.grn import GlobalResponseNorm
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.parametrize import type_before_parametrizations

from rapbench.core.errors import RapbenchError
from rapbench.model.makeup import reparametrisations, wrapped
from rapbench.relevance.expansions import expansion, multihead

# Operations whose result is a shape or a number, not a tensor that could carry relevance.
SHAPES = {"size", "dim", "numel", "stride"}
SHAPE_ATTRIBUTES = {"shape", "ndim", "dtype", "device", "is_cuda", "requires_grad"}
# Library modules that stay one node, as torch's own do.
LEAVES = (Conv2dSame, MaxPool2dSame, AvgPool2dSame, GlobalResponseNorm, RmsNorm, RmsNorm2d)


# torch.fx patches torch while it traces; two threads that do so would leave the patches behind.
_ONE_AT_A_TIME = threading.RLock()


class Traced(NamedTuple):
    """A model's graph, and whether it holds for inputs of one shape only."""

    graph_module: torch.fx.GraphModule
    shaped: bool


def trace(
    model: nn.Module, inputs: Tensor | None = None, leaves: tuple[type[nn.Module], ...] = (), shaped: bool = False
) -> Traced:
    """Return the graph of a model's forward pass; the model is left as it was.

    inputs: of the size that the graph is for, needed only by models that branch on it. leaves: further module types
    that stay one node. shaped: whether to trace for this size at once. Arguments of the forward function that have
    defaults have them.
    Raises RapbenchError when the model cannot be traced.
    """
    with _ONE_AT_A_TIME, _attributes_kept(model):
        try:
            if shaped and inputs is not None:
                return Traced(_graph(model, _ShapeTracer(leaves, inputs)), True)
            return Traced(_graph(model, _Tracer(leaves)), False)
        except Exception as error:
            try:
                if inputs is None or shaped:
                    raise
                return Traced(_graph(model, _ShapeTracer(leaves, inputs)), True)
            except Exception:
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                raise RapbenchError(
                    f"{type(model).__name__} cannot be traced by torch.fx ({reason}); give it a forward without "
                    "data-dependent control flow, or register a rule for the module that has it "
                    "(rapbench.relevance.rule)"
                ) from error


def _graph(model: nn.Module, tracer: "_Tracer") -> torch.fx.GraphModule:
    graph = tracer.trace(model)
    for node in graph.nodes:  # what torch.fx notes of a hidden function is not true of what it consists of
        node.meta.pop("is_wrapped", None)
    return torch.fx.GraphModule(model, graph)


def _in_place(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, other: self.tracer.create_proxy("call_function", function, (self, other), {})


class _Proxy(torch.fx.Proxy):
    """A proxy that knows of `a += b`, which torch.fx takes for `a = a + b`: other names of `a` change with it."""

    __iadd__ = _in_place(operator.iadd)
    __isub__ = _in_place(operator.isub)
    __imul__ = _in_place(operator.imul)
    __itruediv__ = _in_place(operator.itruediv)
    __ifloordiv__ = _in_place(operator.ifloordiv)
    __imod__ = _in_place(operator.imod)
    __ipow__ = _in_place(operator.ipow)
    __iand__ = _in_place(operator.iand)
    __ior__ = _in_place(operator.ior)
    __ixor__ = _in_place(operator.ixor)


class _Tracer(torch.fx.Tracer):
    proxy_buffer_attributes = True  # what is computed from buffers follows their changes, as for parameters
    traced_func_name = "_call_impl"  # the class may have no forward of its own; `create_args_for_root` calls the model

    def __init__(self, leaves: tuple[type[nn.Module], ...]):
        super().__init__()
        self.leaves = leaves + LEAVES

    def proxy(self, node: torch.fx.Node) -> torch.fx.Proxy:
        return _Proxy(node, self)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """Call the model with its inputs alone, so that Python gives every other argument its default."""
        assert isinstance(self.root, nn.Module)
        inputs = self.create_proxy("placeholder", "inputs", (), {})
        return lambda model, x: model(x), [self.root, inputs]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if m is self.root or "forward" in vars(m):
            return False
        kind = type_before_parametrizations(m)
        if kind is nn.MultiheadAttention and kind not in self.leaves:
            return False
        return kind in self.leaves or (
            kind.__module__.startswith(("torch.nn", "torch.ao.nn")) and not isinstance(m, nn.Sequential)
        )

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *more: Any, **others: Any) -> Any:
        """Record a call, or what it consists of."""
        expanded = expansion(target) if kind == "call_function" else None
        if expanded is not None:
            return expanded(*args, **kwargs)
        return self.record(kind, target, args, kwargs, *more, **others)

    def record(self, kind: str, target: Any, args: Any, kwargs: Any, *more: Any, **others: Any) -> torch.fx.Proxy:
        """Record a call."""
        return super().create_proxy(kind, target, args, kwargs, *more, **others)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """Follow a module without its hooks, which are not to see proxies, but with those that make its weights."""
        inside = wrapped(m)
        if inside is not None:
            return inside(*args, **kwargs)

        def plain(*args: Any, **kwargs: Any) -> Any:
            for hook in reparametrisations(m):
                hook(m, args)
            if isinstance(m, nn.MultiheadAttention) and not self.is_leaf_module(m, self.path_of_module(m)):
                return multihead(m, *args, **kwargs)
            return m.forward(*args, **kwargs)

        return super().call_module(m, plain, args, kwargs)


class _Shaped(_Proxy):
    """A proxy that knows its tensor's shape, so that a model may branch on it."""

    fake: Any = None

    def __getattr__(self, name: str) -> Any:
        if self.fake is not None and name in SHAPE_ATTRIBUTES:
            return getattr(self.fake, name)
        return super().__getattr__(name)

    def size(self, *dim: int) -> Any:
        return self.fake.size(*dim)

    def dim(self) -> int:
        return int(self.fake.dim())

    def numel(self) -> int:
        return int(self.fake.numel())

    def __len__(self) -> int:
        return len(self.fake)

    def new_zeros(self, *size: Any, **others: Any) -> Tensor:
        """Return a tensor, not a proxy: the forward may fill it, as it does masks of attention."""
        others = {"dtype": self.fake.dtype, "device": self.fake.device} | others
        return torch.zeros(*size, **others)


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

    def record(self, kind: str, target: Any, args: Any, kwargs: Any, *more: Any, **others: Any) -> torch.fx.Proxy:
        proxy = super().record(kind, target, args, kwargs, *more, **others)
        assert isinstance(proxy, _Shaped)
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
                    proxy.fake = attribute_of(self.root, target)
        finally:
            self.following = False
        return proxy


def attribute_of(root: nn.Module, target: str) -> Any:
    """Return the parameter, buffer or tensor that a get_attr node names."""
    value: Any = root
    for part in target.split("."):
        value = getattr(value, part)
    return value


@contextmanager
def _attributes_kept(model: nn.Module) -> Iterator[None]:
    """Undo what tracing leaves on the modules: constants of its own, and proxies where a forward keeps a tensor.

    Also in dictionaries and lists, such as attention's biases by device.
    """
    before = [(module, dict(vars(module))) for module in model.modules()]
    held = [value for _, attributes in before for value in attributes.values() if type(value) in (dict, list)]
    contents = [(value, value.copy()) for value in held]
    try:
        yield
    finally:
        for value, content in contents:
            value.clear()
            value.update(content) if isinstance(value, dict) else value.extend(content)
        for module, attributes in before:
            now = vars(module)
            for name in set(now) - set(attributes):
                del now[name]
            now.update(attributes)
