"""A composite of zennit [anders2021zennit] by its name: `zennit:NAME`, with zennit's own canonizers.

zennit sees modules only. A network is unsupported where that would make its relevance wrong: see
`rapbench.methods.adapters.zennit_coverage`.
"""

import importlib
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.methods.adapters.by_library import Offered, offer
from rapbench.methods.adapters.facts import MethodFacts
from rapbench.methods.adapters.target import target_logits
from rapbench.methods.adapters.zennit_coverage import covered_copy
from rapbench.model import Model

# Gradients with another rule at ReLUs: of these zennit would miss each ReLU that is a function.
ELSEWHERE = ("BetaSmooth", "DeconvNet", "Deconvnet", "GuidedBackprop")
GIVEN = ("self", "layer_map", "first_map", "canonizers")
BOUNDS = ("low", "high")  # of ZBox: by default those of the model's pixel values


def _library() -> Any:
    try:
        return importlib.import_module("zennit.composites")
    except ModuleNotFoundError as error:
        raise RapbenchError("methods zennit:NAME need zennit, which is not installed: pip install zennit") from error


def _known() -> list[str]:
    return [kind.__name__ for kind in _library().COMPOSITES.values() if kind.__name__ not in ELSEWHERE]


def _offered(name: str) -> Offered:
    kind = getattr(_library(), name)
    taken = inspect.signature(kind.__init__).parameters.values()
    options = {it.name: None if it.default is it.empty else it.default for it in taken if it.name not in GIVEN}

    def run(model: nn.Module, inputs: Tensor, targets: Tensor, **options: Any) -> Tensor:
        return _explain(kind, model, inputs, targets, options)

    about = (inspect.getdoc(kind) or "").partition("\n\n")[0]
    return Offered(run=run, options=options, facts=MethodFacts(signs=("positive", "negative"), passes=12), about=about)


def _explain(kind: Any, model: nn.Module, inputs: Tensor, targets: Tensor, options: dict[str, Any]) -> Tensor:
    canonizer = importlib.import_module("zennit.torchvision").ResNetCanonizer()  # which does what VGG's does, too
    composite = kind(**_with_bounds(kind.__name__, model, inputs, options), canonizers=[canonizer])
    network = covered_copy(model, inputs, composite, f"zennit:{kind.__name__}")
    x = inputs.detach().clone().requires_grad_()
    with composite.context(network) as modified:
        logits = target_logits(modified(x), targets)
        return torch.autograd.grad(logits, x, logits.detach())[0]


def _with_bounds(name: str, model: nn.Module, inputs: Tensor, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with ZBox's bounds as tensors."""
    missing = [bound for bound in BOUNDS if bound in options and options[bound] is None]
    if not missing:
        return options
    normalisation = model.normalisation if isinstance(model, Model) else None
    if normalisation is None:
        raise RapbenchError(
            f"zennit:{name} needs {' and '.join(missing)}, the range of the inputs' values: set them, or give a "
            "rapbench.Model(module, mean=..., std=...)"
        )
    mean, std = (values.to(inputs).view(1, -1, *[1] * (inputs.dim() - 2)) for values in normalisation)
    ends = {"low": (0 - mean) / std, "high": (1 - mean) / std}
    return options | {bound: ends[bound].expand(1, *inputs.shape[1:]) for bound in missing}


offer("zennit", _known, _offered)
