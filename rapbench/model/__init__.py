"""A network with its preprocessing, its metadata, and the identity of its weights."""

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.core.limits import out_of_memory
from rapbench.core.names import checked_name, class_names_of
from rapbench.model.makeup import reparametrisations
from rapbench.model.modules import at_rest, explainable
from rapbench.model.preprocessing import Borrowed, Preprocess, Stated, Transform, stated

if TYPE_CHECKING:
    from rapbench.registry import Entry

OWN = "the user's own"  # source and licence of weights that are no library's


@dataclass(frozen=True)
class Facts:
    """Where a model's weights come from, under which licence, and what is known of them. None: not known."""

    name: str
    architecture: str
    source: str
    licence: str
    classes: int | None = 1000
    top1: float | None = None  # per cent on the ILSVRC-2012 validation set, as published
    hash: str = ""  # what the file or its tensors are checked against
    asked: str = ""  # how the command line names it, where not by its name


class Model(nn.Module):
    """A network in eval mode with its preprocessing and identity: (N, C, *space) preprocessed -> (N, classes) logits.

    The module is copied, into float32. It is not changed. If it is trained further or moved to another device, this
    model does not change.

    Parameters
    ----------
    module : nn.Module
        Takes one batch and returns logits. Wrappers of torch.compile and DataParallel are removed.
    mean, std : sequence of float, (C,), or None
        Of the channels, for values in 0..1, as in torchvision. None: the inputs are preprocessed already, and fills
        that need the normalisation (`fill=pixel_space_min`, uniform regions) are an error.
    size : int, or one to three ints, or None
        The spatial shape of an input, without channels: an int is the side of square images. None: that of the inputs.
    transform : callable, or None
        From a PIL image (RGB) to a (C, H, W) input. None: the image is scaled until it covers `size`, centre-cropped
        and normalised.
    name : str
        The name in tables and figures; the module's class if it is empty.
    class_names : sequence of str, or the path of a text file with one per line
        Shown beside the class indices; in their order.
    facts : Facts, or None
        Metadata of a model of the zoo, with its name.
    weights_sha256 : str, or None
        The expected SHA-256 of the weights.

    Raises
    ------
    RapbenchError
        For a module that is unsupported, cannot be copied or has other weights, and for invalid values.

    Examples
    --------
    >>> import rapbench
    >>> from torch import nn
    >>> network = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3))
    >>> model = rapbench.Model(network, mean=[0.5, 0.5], std=[0.2, 0.2], size=[100], class_names=["a", "b", "c"])
    >>> model.channels, model.space
    (2, (100,))
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        size: int | Sequence[int] | None = None,
        transform: Callable[[Image.Image], Tensor] | None = None,
        name: str = "",
        class_names: Sequence[str] | str | Path = (),
        facts: Facts | None = None,
        weights_sha256: str | None = None,
    ):
        super().__init__()
        self.entry: Entry[Any] | None = None  # of the registry, and the options that it was loaded with
        self.options: dict[str, Any] = {}
        if isinstance(transform, (Preprocess, Borrowed, Stated)) and (mean, std, size) == (None, None, None):
            self.transform: Transform = transform
        else:
            self.transform = stated(mean, std, size, transform)
        self.class_names = class_names_of(class_names)
        self.network = _copy(module)
        self.eval()
        if facts is None:
            kind = type(self.network).__name__
            known = len(self.class_names) or None
            facts = Facts(checked_name(name) or kind, kind, OWN, OWN, classes=known)
        self.facts = facts
        self.weights_sha256 = hash_weights(self.network)
        if weights_sha256 not in (None, self.weights_sha256):
            raise RapbenchError(
                f"model {facts.name!r}: the weights from {facts.source} are not the expected ones (SHA-256 "
                f"{self.weights_sha256}, expected {weights_sha256}); delete the cached copy and run again"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of preprocessed inputs."""
        logits: Tensor = self.network(x)
        return logits

    def train(self, mode: bool = True) -> "Model":
        """Refuse training mode: results are a trained network's."""
        if mode:
            raise RapbenchError(f"{self.facts.name} stays in eval mode; train the module and make a new Model of it")
        return super().train(mode)

    def apart(self) -> "Model":
        """Return this model with a copy of its network, which can be moved while this one's stays where it is."""
        return self._over(_copy(self.network))

    def with_tensors(self, others: Mapping[int, Tensor]) -> "Model":
        """Return this model with a copy of its network that shares all parameters and buffers but some.

        others: what a tensor is replaced with, by the tensor's id.
        """
        shared = {id(tensor): tensor for tensor in (*self.network.parameters(), *self.network.buffers())}
        other = self._over(_copy(self.network, shared | dict(others)))
        other.weights_sha256 = hash_weights(other.network)
        return other

    def _over(self, network: nn.Module) -> "Model":
        other = copy.copy(self)
        other._modules = self._modules | {"network": network}
        return other

    @property
    def space(self) -> tuple[int, ...] | None:
        """The spatial shape of an input; None where the model does not state it."""
        return self.transform.space

    @property
    def channels(self) -> int | None:
        """The channels of an input; None where the model does not state them."""
        return None if self.normalisation is None else len(self.normalisation[0])

    @property
    def normalisation(self) -> tuple[Tensor, Tensor] | None:
        """The (mean, std) of the channels, (C,) each, for values in 0..1; None where they are not known."""
        return self.transform.normalisation


def hash_weights(network: nn.Module) -> str:
    """Return the SHA-256 over every parameter and buffer: name, shape and bytes, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _copy(module: Any, instead: Mapping[int, Tensor] | None = None) -> nn.Module:
    """Return a copy of a module in float32, which nobody else holds but for its tensors in `instead`, by their ids."""
    if isinstance(module, Model):
        raise RapbenchError(
            "this is a Model already; to change its metadata, make a new Model of its module, model.network"
        )
    module = explainable(module)
    try:
        with torch.inference_mode(False), torch.no_grad(), at_rest(module):
            for part in module.modules():
                for hook in reparametrisations(part):
                    hook(part, None)  # the computed weight, without the graph of the last call, which has no copy
            network: nn.Module = copy.deepcopy(module, dict(instead or {}))
    except Exception as error:
        if out_of_memory(error):
            raise
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise RapbenchError(f"{type(module).__name__} cannot be copied ({why:.200})") from error
    floats = {tensor.dtype for tensor in (*network.parameters(), *network.buffers()) if tensor.is_floating_point()}
    return network if floats <= {torch.float32} else network.float()
