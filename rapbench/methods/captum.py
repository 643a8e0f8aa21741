"""Any attribution class of Captum [kokhlikyan2020captum] by its name: `captum:NAME`, with its keyword arguments."""

import inspect
import itertools
from typing import Any

import captum.attr
from torch import Tensor, nn

from rapbench.methods.adapters.by_library import Offered, offer
from rapbench.methods.adapters.facts import MethodFacts
from rapbench.methods.adapters.seeded import seeded
from rapbench.methods.adapters.target import explained

# Those that are no functions of a model, an image and a class.
NO_IMAGE = ("Attribution", "DataLoader", "LLM", "Layer", "LimeBase", "Internal", "Neuron", "Noise", "Perturbation",
            "RemoteLLM", "GradientAttribution", "FeaturePermutation")  # fmt: skip
# Captum hangs these on modules by hooks, which miss functions and modules that are called twice: see `hookable`.
ELSEWHERE = {"DeepLift": "deeplift", "GuidedBackprop": "guided_backprop", "Deconvolution": "deconvolution",
             "LRP": "captum_lrp"}  # fmt: skip
GIVEN = {"self", "inputs", "target", "additional_forward_args", "forward_func", "model", "layer", "device_ids",
         "show_progress", "return_convergence_delta", "return_input_shape", "kwargs"}  # fmt: skip
RANDOM = ("GradientShap", "KernelShap", "Lime", "ShapleyValueSampling")


def _known() -> list[str]:
    return [
        name for name in captum.attr.__all__
        if hasattr(getattr(captum.attr, name), "attribute") and not name.startswith(NO_IMAGE) and name not in ELSEWHERE
    ]  # fmt: skip


def _offered(name: str) -> Offered:
    kind = getattr(captum.attr, name)
    made, called = _arguments(kind.__init__), _arguments(kind.attribute)

    def run(model: nn.Module, inputs: Tensor, targets: Tensor, *, seeds: Any = None, **options: Any) -> Tensor:
        method = kind(explained(model, inputs), **{option: options.pop(option) for option in made})
        options = {option: _as_tuple(value) for option, value in options.items()}
        if seeds is None:
            found: Tensor = method.attribute(inputs, additional_forward_args=(targets,), **options)
            return found
        return seeded(lambda x, target, _: method.attribute(x, additional_forward_args=(target,), **options),
                      inputs, targets, seeds)  # fmt: skip

    signs: Any = ("positive",) if name == "Saliency" else ("positive", "negative")
    facts = MethodFacts(signs=signs, random=name in RANDOM)
    about = (inspect.getdoc(kind) or "").partition("\n\n")[0]
    return Offered(run=run, options=made | called, facts=facts, about=about)


def _arguments(function: Any) -> dict[str, Any]:
    """Return the arguments that an option may set, with their defaults; None for those without one."""
    taken = itertools.islice(inspect.signature(function).parameters.values(), 1, None)
    return {it.name: None if it.default is it.empty else it.default for it in taken if it.name not in GIVEN}


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, (list, tuple)) else value


offer("captum", _known, _offered)
