"""rapbench: attribution methods through the quantitative evaluation of Relative Attributing Propagation.

The stable surface::

    model = rapbench.load_model("resnet50_keras")
    x = model.transform(pil_image)
    R = rapbench.attribute(model, x[None], [target], method="rap")

`Model` is a network with its preprocessing, around any `nn.Module`; `Dataset` is labelled inputs, of `load_data` or of
tensors.
"""

import importlib
from typing import TYPE_CHECKING, Any

from rapbench.core.errors import RapbenchError
from rapbench.data import load_data
from rapbench.heatmaps import Heatmaps
from rapbench.methods import attribute, methods, register_method
from rapbench.methods.adapters.facts import MethodFacts
from rapbench.protocols import protocols
from rapbench.protocols.base.metric import Metric
from rapbench.zoo import load_model, models

if TYPE_CHECKING:
    __version__: str
    from rapbench.api.evaluation import evaluate
    from rapbench.api.results import Results, load_results
    from rapbench.data.labelled.dataset import Dataset
    from rapbench.model import Model
    from rapbench.protocols.base.batch import Answers, Batch
    from rapbench.protocols.base.protocol import Protocol

__all__ = [
    "Answers",
    "Batch",
    "Dataset",
    "Heatmaps",
    "MethodFacts",
    "Metric",
    "Model",
    "Protocol",
    "RapbenchError",
    "Results",
    "attribute",
    "evaluate",
    "list_methods",
    "list_models",
    "list_protocols",
    "load_data",
    "load_model",
    "load_results",
    "register_method",
]
# What torch comes with is imported when it is first asked for: `rapbench --help` needs none of it.
_LATER = {
    "Answers": "rapbench.protocols.base.batch",
    "Batch": "rapbench.protocols.base.batch",
    "Dataset": "rapbench.data.labelled.dataset",
    "Results": "rapbench.api.results",
    "evaluate": "rapbench.api.evaluation",
    "load_results": "rapbench.api.results",
    "Model": "rapbench.model",
    "Protocol": "rapbench.protocols.base.protocol",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("rapbench")  # pyproject.toml's
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module 'rapbench' has no attribute {name!r}")


def list_models() -> list[str]:
    """Return the names that `load_model` takes."""
    return list(models)


def list_methods() -> list[str]:
    """Return the names that `attribute` takes."""
    return list(methods)


def list_protocols() -> list[str]:
    """Return the names of the evaluation protocols."""
    return list(protocols)
