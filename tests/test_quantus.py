"""Localisation and the random logit test against Quantus, where its definition is ours."""

import numpy as np
import pytest
import quantus
import torch
from torch import nn

import rapbench
from rapbench.evaluation.answers import table_of
from rapbench.protocols import protocols
from rapbench.protocols.base.batch import Batch
from rapbench.protocols.base.similarity import spearman

COUNT, SPACE = 6, (9, 10)
QUIET = {"abs": False, "normalise": False, "disable_warnings": True, "display_progressbar": False}
LOCALISING = {
    "pointing_game": (quantus.PointingGame, {"tolerance": 0}),
    "relevance_mass": (quantus.RelevanceMassAccuracy, {}),
    "relevance_rank": (quantus.RelevanceRankAccuracy, {}),
}


@pytest.mark.parametrize("name", LOCALISING)
def test_localisation_of_positive_maps(name):
    """Of maps with both signs Quantus adds the negative relevance, too; ours is the share of the positive."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(COUNT, *SPACE, generator=generator) + 0.01
    masks = torch.rand(COUNT, *SPACE, generator=generator) < 0.3
    kind, options = LOCALISING[name]
    inputs, labels = torch.zeros(COUNT, 1, *SPACE), torch.zeros(COUNT, dtype=torch.int64)
    given = Batch(inputs, labels, maps, None, None, list("abcdef"), known_masks=masks)
    made = protocols[name].function(**options)
    got = table_of(given, made, made.variants(("positive",)))[name]
    want = kind(**QUIET)(
        model=None, x_batch=inputs.numpy(), y_batch=labels.numpy(), a_batch=maps[:, None].numpy(),
        s_batch=masks[:, None].numpy(), channel_first=True,
    )  # fmt: skip
    np.testing.assert_allclose(got.astype(float), np.array(want, dtype=float).ravel(), rtol=0, atol=1e-6)


def test_random_logit_of_two_classes():
    """Of two classes the other one is no draw."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 7 * 8, 2)).eval()
    images = torch.randn(COUNT, 2, *SPACE)
    labels = torch.arange(COUNT) % 2

    def explained(model, inputs, targets, **_):
        found = rapbench.attribute(net, torch.as_tensor(inputs), torch.as_tensor(targets).long(), "gradient_x_input")
        return found.sum(1, keepdim=True).numpy()

    own = explained(net, images, labels)
    want = quantus.RandomLogit(similarity_func=quantus.correlation_spearman, num_classes=2, seed=0, **QUIET)(
        model=net, x_batch=images.numpy(), y_batch=labels.numpy(), a_batch=own, explain_func=explained,
        channel_first=True,
    )  # fmt: skip
    results = rapbench.evaluate(net, images, labels, methods=["gradient_x_input"], protocols=["random_logit"])
    table = results.runs[0].tables["random_logit"].sort_values("input")
    other = torch.tensor(explained(net, images, 1 - labels))[:, 0]
    np.testing.assert_allclose(spearman(torch.tensor(own)[:, 0], other), np.array(want), rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.sort(table["spearman"]), np.sort(np.array(want)), rtol=0, atol=1e-5)
