"""A small vision transformer trained on scikit-learn's handwritten digits, in a few seconds."""

from collections.abc import Sequence

import pandas as pd
import timm
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import rapbench

REMOVED = 13  # of 64 pixels
EPOCHS, BATCH, TRAINED_ON = 30, 64, 1500
PATCHES = {"img_size": 8, "patch_size": 2, "embed_dim": 32, "depth": 2, "num_heads": 2}


def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """Return the network, and the images, (297, 3, 8, 8), and classes that it was not trained on."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None].repeat(1, 3, 1, 1) / 16 - 0.3
    labels = torch.tensor(digits.target)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(images), generator=generator)
    train, rest = order[:TRAINED_ON], order[TRAINED_ON:]
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        network = timm.create_model("vit_tiny_patch16_224", num_classes=10, **PATCHES)
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
        steps = EPOCHS * -(-TRAINED_ON // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
        for _ in range(EPOCHS):
            for some in torch.randperm(len(train), generator=generator).split(BATCH):
                loss = F.cross_entropy(network(images[train[some]]), labels[train[some]])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return network.eval(), images[rest], labels[rest]


def still_recognised(methods: Sequence[str], count: int) -> pd.Series:
    """Return the share of digits that is still recognised without the `REMOVED` most relevant pixels of a sign.

    By sign and method, of `count` digits that the network recognises.
    """
    network, images, labels = trained()
    with torch.no_grad():
        right = network(images).argmax(1) == labels
    assert right.float().mean() > 0.9
    k = {sign: [0, REMOVED] for sign in ("positive", "negative")}
    results = rapbench.evaluate(
        network, images[right][:count], labels[right][:count], methods=list(methods),
        protocols={"removal": ("removal", {"k": k})},
    )  # fmt: skip
    frame = results.runs[0].frame
    removed = frame[(frame.metric == "accuracy") & (frame.k.astype(str) == str(REMOVED))]
    return removed.groupby(["variant", "method"], observed=True).value.mean()
