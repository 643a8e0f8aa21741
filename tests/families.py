"""Every classification model of torchvision, and one of each of timm's families: random weights, one random image."""

from collections.abc import Iterator
from dataclasses import dataclass

import timm
import torch
import torchvision
from torch import nn

import rapbench
from rapbench.relevance import Balance
from tests.conftest import calibrated

METHODS = ("rap", "lrp_epsilon", "attnlrp")
TORCHVISION = torchvision.models.list_models(module=torchvision.models)
TIMM_NAMES = """
beit_base_patch16_224 cait_xxs24_224 coat_tiny coatnet_nano_rw_224 convit_tiny convmixer_768_32 convnext_atto
convnextv2_atto crossvit_tiny_240 cspresnet50 davit_tiny deit_tiny_distilled_patch16_224 deit3_small_patch16_224 dla34
dpn48b edgenext_xx_small efficientformer_l1 efficientformerv2_s0 efficientnetv2_rw_t efficientvit_b0 efficientvit_m0
eva02_tiny_patch14_224 fastvit_t8 focalnet_tiny_srf gcvit_xxtiny ghostnet_050 gmlp_ti16_224 hgnet_tiny hiera_tiny_224
hrnet_w18_small inception_next_atto inception_v4 levit_128s maxvit_rmlp_nano_rw_256 mixer_s32_224
mobilenetv4_conv_small mobilenetv4_hybrid_medium mobileone_s0 mobilevit_xxs mobilevitv2_050 mvitv2_tiny nest_tiny
nextvit_small nfnet_f0 pit_ti_224 poolformer_s12 pvt_v2_b0 regnetx_002 repghostnet_050 repvgg_a0 repvit_m0_9
res2net50_26w_4s resmlp_12_224 resnest14d resnetv2_50 rexnet_100 sequencer2d_s shvit_s1 skresnet18 starnet_s1
swin_tiny_patch4_window7_224 swinv2_cr_tiny_224 swinv2_tiny_window8_256 tiny_vit_5m_224 tnt_s_patch16_224 tresnet_m
twins_pcpvt_small visformer_tiny vit_relpos_small_patch16_224 vit_tiny_patch16_224 volo_d1_224 vovnet39a xception41
xcit_nano_12_p16_224
"""
TIMM = TIMM_NAMES.split()
NAMES = (*TORCHVISION, *(f"timm/{name}" for name in TIMM))


@dataclass(frozen=True)
class Outcome:
    """What a method made of a network.

    refused: why not, or nothing. missing: the most relevance that a layer lost without saying so, as a share of the sum
    of its magnitudes. lost: the share of the target logit that no pixel received. dropped: the most of its own that a
    layer dropped, likewise, and where that is.
    """

    method: str
    refused: str = ""
    missing: float = 0.0
    lost: float = 0.0
    dropped: float = 0.0
    place: str = ""


def network_called(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    """Return a network of ten classes with random weights and calibrated norms, and the size of its images."""
    torch.manual_seed(0)
    if name.startswith("timm/"):
        network = timm.create_model(name.removeprefix("timm/"), num_classes=10)
        size = network.default_cfg["input_size"]
    else:
        sides = {"vit": 224, "maxvit": 224, "inception": 299}  # fixed, or needed by what is for training only
        side = next((side for start, side in sides.items() if name.startswith(start)), 128)
        size = (3, side, side)
        network = torchvision.models.get_model(name, weights=None, num_classes=10)
    with torch.no_grad():
        for parameter in network.parameters():  # layer scales and position embeddings begin as good as 0
            if parameter.dim() <= 1 or not parameter.any():
                parameter.add_(0.05 * torch.randn_like(parameter))
    norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    return (calibrated(network, 0, shape=size) if norms else network).double().eval(), size


def outcomes(name: str) -> Iterator[Outcome]:
    """Yield what each method makes of a network."""
    network, size = network_called(name)
    x = torch.randn(1, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        (logit,), target = network(x).max(1)
    for method in METHODS:
        balance: list[Balance] = []
        try:
            relevance = rapbench.attribute(network, x, target, method, balance=balance)
        except rapbench.RapbenchError as error:
            yield Outcome(method, str(error))
            continue
        assert relevance.isfinite().all(), (name, method)
        totals = [float(entry.total) + 1e-30 for entry in balance]
        missing = [
            abs(float(entry.relevance_out - entry.relevance_in - entry.dropped)) / total
            for entry, total in zip(balance, totals, strict=True)
        ]
        dropped = [abs(float(entry.dropped)) / total for entry, total in zip(balance, totals, strict=True)]
        most = max(range(len(dropped)), key=dropped.__getitem__)
        lost = 1 - float(relevance.sum()) / float(logit)
        yield Outcome(method, "", max(missing), lost, dropped[most], balance[most].place)
