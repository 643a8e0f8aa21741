"""A small vgg16_3d that was trained on phantoms of lung nodules and comes with rapbench."""

from dataclasses import replace

from rapbench.core.paths import resource
from rapbench.model import Model
from rapbench.zoo import models
from rapbench.zoo.vgg16_3d import vgg16_3d

NAME = "vgg16_3d_phantoms"
SHA256 = "4a7824ea4eb216e6e3609b60e0ba57c9ee12833ab725641bd6e5d5321742b5c3"


@models.register(NAME)
def vgg16_3d_phantoms() -> Model:
    """Return the network; `rapbench train` made its weights. Raises RapbenchError for weights that are not its own."""
    made = vgg16_3d(path=str(resource("baselines", "drift", f"{NAME}.safetensors")))
    facts = replace(made.facts, name=NAME, source="rapbench train on nodule phantoms", licence="MIT", asked="")
    return Model(
        made.network, transform=made.transform, facts=facts, class_names=made.class_names, weights_sha256=SHA256
    )
