"""Operations that work in place, in a graph where relevance needs every activation as it was."""

import operator
from collections.abc import Iterator
from typing import Any

import torch
import torch.fx
from torch import Tensor

from rapbench.core.errors import RapbenchError
from rapbench.relevance.node_names import operation, place
from rapbench.relevance.tracing import attribute_of

# What Python calls for `a += b` and its like.
IN_PLACE = {
    operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ifloordiv, operator.imod, operator.ipow,
    operator.iand, operator.ior, operator.ixor,
}  # fmt: skip


def changes_its_input(owner: torch.fx.GraphModule, node: torch.fx.Node) -> bool:
    """Whether a call works in place on its first argument."""
    if not node.args or not isinstance(node.args[0], torch.fx.Node):
        return False
    if node.op == "call_module":
        return bool(getattr(owner.get_submodule(str(node.target)), "inplace", False))
    name = str(node.target if node.op == "call_method" else getattr(node.target, "__name__", ""))
    if name.endswith("_") and not name.endswith("__"):
        return True
    return node.op == "call_function" and (node.target in IN_PLACE or bool(node.kwargs.get("inplace")))


def without_in_place(
    owner: torch.fx.GraphModule, shapes: set[torch.fx.Node], inputs: Tensor | None
) -> set[torch.fx.Node]:
    """Let whoever reads a changed tensor later read the result, and return the calls that changed one.

    The calls themselves are left to be replaced by such as do not work in place. inputs: a batch to run the graph on,
    which shows the other names of a tensor that changes: one that is the same tensor is treated alike.
    Raises RapbenchError for a change that is seen through a view.
    """
    order = {node: number for number, node in enumerate(owner.graph.nodes)}
    changing = {node for node in order if node not in shapes and changes_its_input(owner, node)}
    names = _Watch(owner, changing).run(inputs) if inputs is not None else {}
    for node in sorted(changing, key=order.__getitem__):
        for changed in (node.args[0], *names.get(node, ())):
            for user in [user for user in changed.users if order[user] > order[node]]:
                user.replace_input_with(changed, node)
    return changing


class _Watch:
    """Runs a graph as it was traced, and looks at whose memory each operation changes."""

    def __init__(self, owner: torch.fx.GraphModule, changing: set[torch.fx.Node]):
        self.owner, self.changing = owner, changing

    @torch.no_grad()
    def run(self, inputs: Tensor) -> dict[torch.fx.Node, list[torch.fx.Node]]:
        """Return, of each call in `changing`, the further nodes read later that are the tensor it changes."""
        last_reader = {argument: node for node in self.owner.graph.nodes for argument in node.all_input_nodes}
        values: dict[torch.fx.Node, Any] = {}
        names: dict[torch.fx.Node, list[torch.fx.Node]] = {}
        for node in self.owner.graph.nodes:
            if node.op == "output":
                break
            given = [(argument, tensor, _version(tensor)) for argument in node.all_input_nodes
                     for tensor in _tensors(values[argument])]  # fmt: skip
            values[node] = inputs.clone() if node.op == "placeholder" else self._value(node, values)
            changed = [tensor for _, tensor, version in given if _version(tensor) != version]
            for argument in node.all_input_nodes:
                if last_reader[argument] is node:
                    del values[argument]
            if changed:
                names[node] = self._names(node, changed, values)
        return names

    def _value(self, node: torch.fx.Node, values: dict[torch.fx.Node, Any]) -> Any:
        args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        target: Any = node.target
        if node.op == "get_attr":
            return attribute_of(self.owner, target)
        if node.op == "call_module":
            return self.owner.get_submodule(target)(*args, **kwargs)
        return target(*args, **kwargs) if node.op == "call_function" else getattr(args[0], target)(*args[1:], **kwargs)

    def _names(
        self, node: torch.fx.Node, changed: list[Tensor], values: dict[torch.fx.Node, Any]
    ) -> list[torch.fx.Node]:
        result = values[node]
        found = []
        for other, value in values.items():
            if other is node or not any(_share(tensor, part) for tensor in changed for part in _tensors(value)):
                continue
            known = node in self.changing and isinstance(result, Tensor) and isinstance(value, Tensor)
            if not known or other.op == "get_attr" or not _same(result, value):
                self._refuse(node)
            found.append(other)
        if node not in self.changing or not isinstance(result, Tensor) or not any(_same(result, t) for t in changed):
            self._refuse(node)
        return found

    def _refuse(self, node: torch.fx.Node) -> None:
        raise RapbenchError(
            f"{operation(self.owner, node)} at {place(node)} works in place on memory that is read elsewhere, as a "
            "view; write the network without it (x = x.relu() in place of x.relu_())"
        )


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _share(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def _same(a: Tensor, b: Tensor) -> bool:
    return _share(a, b) and (a.shape, a.stride(), a.storage_offset()) == (b.shape, b.stride(), b.storage_offset())
