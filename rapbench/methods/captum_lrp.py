"""LRP with Captum's default, the epsilon rule in every layer [bach2015lrp], through Captum.

Captum hands all the relevance of a residual sum to each branch, so that it doubles at every block: refused.
"""

import copy

from captum.attr import LRP
from captum.attr._utils.lrp_rules import EpsilonRule, IdentityRule
from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.module_graph import affine, hookable
from rapbench.relevance.head import ending
from rapbench.relevance.operations import ACTIVATIONS, Add, Constant


@methods.register("captum_lrp", title="LRP-ε (Captum)", signs=("positive", "negative"), passes=4)
def captum_lrp(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return relevance shaped like `inputs`, which sums to the logit where there are no biases; epsilon is 1e-9.

    Batch norms and poolings share relevance in proportion, activations pass it on. Raises RapbenchError for residual
    sums and arithmetic, and for modules that are neither affine nor an elementwise activation or max pooling.
    """
    takes = (
        "networks without residual sums, through which its relevance explodes, of affine modules, elementwise "
        "activations and max pooling"
    )
    network = hookable(model, inputs, "captum_lrp", takes, _stand_in, arithmetic=False)
    ending(network.graph_module, lambda node: node.all_input_nodes)  # refuses probabilities
    # A copy with its own parameters: Captum writes the whole state back when it has done.
    attribution = LRP(copy.deepcopy(network)).attribute(inputs.requires_grad_(), additional_forward_args=targets)
    return attribution.detach()


def _stand_in(module: nn.Module) -> nn.Module | None:
    if isinstance(module, (nn.Identity, nn.modules.dropout._DropoutNd)):
        return nn.Dropout().eval()  # which Captum knows to pass relevance on
    if isinstance(module, (Add, Constant)):
        return None
    pools = type(module) in (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d) and not module.return_indices
    if affine(module) or pools:
        module.rule = EpsilonRule()  # Captum's default, which it does not know for each of these by name
    elif type(module) in ACTIVATIONS:
        module.rule = IdentityRule()  # Captum does so for ReLU and Tanh, and does not know the others
    else:
        return None
    return module
