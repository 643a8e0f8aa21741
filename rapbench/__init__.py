"""rapbench: attribution methods through the quantitative evaluation of Relative Attributing Propagation.

The stable surface::

    model = rapbench.load_model("resnet50_keras")
    x = model.transform(pil_image)
    R = rapbench.attribute(model, x[None], [target], method="rap")
"""

import time

from rapbench.errors import RapbenchError
from rapbench.heatmaps import Heatmaps
from rapbench.methods import MethodFacts, attribute, methods, register_method
from rapbench.protocols import protocols
from rapbench.zoo import load_model, models

__all__ = [
    "Heatmaps",
    "MethodFacts",
    "RapbenchError",
    "attribute",
    "list_methods",
    "list_models",
    "list_protocols",
    "load_model",
    "register_method",
]
IMPORTED = time.time()  # a module whose file is younger may have been imported from another text
__version__ = "0.1.0"


def list_models() -> list[str]:
    """Return the names that `load_model` takes."""
    return list(models)


def list_methods() -> list[str]:
    """Return the names that `attribute` takes."""
    return list(methods)


def list_protocols() -> list[str]:
    """Return the names of the evaluation protocols."""
    return list(protocols)
