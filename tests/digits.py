"""A small vision transformer trained on scikit-learn's handwritten digits, in a few seconds."""

import timm
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

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
