"""Any attribution class of Captum [kokhlikyan2020captum] by its name: `captum:NAME`, with its keyword arguments."""

import inspect
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import captum.attr
import torch
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.methods.adapters.by_library import Offered, offer
from rapbench.methods.adapters.facts import MethodFacts
from rapbench.methods.adapters.feature_maps import Probed, enlarged, probed
from rapbench.methods.adapters.seeded import seeded
from rapbench.methods.adapters.superpixels import regions_of
from rapbench.methods.adapters.target import explained, target_logits

# They explain no image alone: bases, what wraps another method, text, neurons, and what mixes the images of a batch.
NO_IMAGE = {"Attribution", "DataLoaderAttribution", "FeaturePermutation", "GradientAttribution", "LayerAttribution",
            "LayerFeaturePermutation", "LimeBase", "LLMAttribution", "LLMGradientAttribution", "NoiseTunnel",
            "PerturbationAttribution", "RemoteLLMAttribution"}  # fmt: skip
# Captum hangs these on modules by hooks, which miss functions, and modules that are called twice.
ELSEWHERE = {
    "DeepLift": "deeplift", "DeepLiftShap": "deeplift_shap", "GuidedBackprop": "guided_backprop",
    "GuidedGradCam": "guided_grad_cam", "Deconvolution": "deconvolution", "LRP": "captum_lrp",
    "LayerDeepLift": "deeplift", "LayerDeepLiftShap": "deeplift_shap", "LayerLRP": "captum_lrp",
}  # fmt: skip
OF_LAYERS = ("Layer", "InternalInfluence")
# What is given here, and what moves no relevance.
GIVEN = {"inputs", "target", "additional_forward_args", "forward_func", "model", "layer", "device_ids",
         "show_progress", "return_convergence_delta", "return_input_shape", "kwargs", "grad_kwargs"}  # fmt: skip
RANDOM = ("GradientShap", "KernelShap", "LayerGradientShap", "Lime", "ShapleyValueSampling")


def _known() -> list[str]:
    classes = [name for name in captum.attr.__all__ if hasattr(getattr(captum.attr, name), "attribute")]
    return [name for name in classes if name not in NO_IMAGE and not name.startswith("Neuron")]


def _offered(name: str) -> Offered:
    if name in ELSEWHERE:
        raise RapbenchError(
            f"method 'captum:{name}' hangs its rule on modules, and misses functions and modules that are called "
            f"twice; use {ELSEWHERE[name]}, which sees them"
        )
    kind = getattr(captum.attr, name)
    made, called = _arguments(kind.__init__), _arguments(kind.attribute)
    of_layer = name.startswith(OF_LAYERS)
    signs: Any = ("positive",) if name == "Saliency" else ("positive", "negative")
    return Offered(
        run=partial(_of_layer if of_layer else _run, kind, tuple(made)),
        options=({"layer": None} if of_layer else {}) | made | called,
        facts=MethodFacts(signs=signs, random=name in RANDOM),
        about=(inspect.getdoc(kind) or "").partition("\n\n")[0],
    )


def _run(kind: Any, made: tuple[str, ...], model: nn.Module, inputs: Tensor, targets: Tensor, **options: Any) -> Tensor:
    """Return what an object of a class of Captum's says; made: the options that it is made with."""
    return _called(partial(kind, explained(model, inputs)), made, inputs, targets, **options)


def _of_layer(
    kind: Any, made: tuple[str, ...], model: nn.Module, inputs: Tensor, targets: Tensor, *, layer: str | None,
    **options: Any,
) -> Tensor:  # fmt: skip
    """Return what a class of Captum's says of a layer's feature map, summed over channels, as large as the image."""
    explained(model, inputs)  # refuses a gradient that is not the model's
    network = probed(model, inputs, layer, f"captum:{kind.__name__}")
    maps = _called(partial(kind, partial(_logits, network), network.probe), made, inputs, targets, **options)
    return enlarged(maps.sum(1), inputs)


def _logits(network: Probed, inputs: Tensor, targets: Tensor) -> Tensor:
    return target_logits(network(inputs), targets)


def _called(
    kind: Callable[..., Any], made: tuple[str, ...], inputs: Tensor, targets: Tensor, *, seeds: Tensor | None = None,
    **options: Any,
) -> Tensor:  # fmt: skip
    method = kind(**{option: options.pop(option) for option in made})
    name = type(method).__name__
    for option in _required(method.attribute):
        if options[option] is None:
            raise RapbenchError(f"method 'captum:{name}' needs a value for its option {option!r}")

    def explain(images: Tensor, classes: Tensor, _: Any = None) -> Tensor:
        given = {option: _as_captum(option, value, images, name) for option, value in options.items()}
        try:
            found: Tensor = method.attribute(images, additional_forward_args=(classes,), **given)
        except (AssertionError, TypeError, ValueError) as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise RapbenchError(f"method 'captum:{name}': Captum refuses its arguments: {said}") from error
        return found.to(images.dtype)

    if seeds is None:
        return explain(inputs, targets).detach()
    return seeded(explain, inputs, targets, seeds)


def _arguments(function: Any) -> dict[str, Any]:
    """Return the arguments that an option may set, with their defaults; None for those without one."""
    taken = itertools.islice(inspect.signature(function).parameters.values(), 1, None)
    return {it.name: None if it.default is it.empty else it.default for it in taken if it.name not in GIVEN}


def _required(function: Any) -> list[str]:
    """Return the arguments of a bound method that have no default and are to be given as options."""
    taken = inspect.signature(function).parameters.values()
    return [
        it.name for it in taken if it.default is it.empty and it.kind is not it.VAR_KEYWORD and it.name not in GIVEN
    ]


def _as_captum(option: str, value: Any, images: Tensor, name: str) -> Any:
    """Return an option as Captum takes it: a number of regions as their mask, a reference's value as an image."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if option == "feature_mask" and number:
        return torch.cat([regions_of(image, value, "auto") for image in images.split(1)])
    if option == "baselines" and number and name.endswith("GradientShap"):
        return torch.full_like(images[:1], value)
    return _as_tuple(value)


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, (list, tuple)) else value


offer("captum", _known, _offered)
