"""What Lightning trains: the network with its loss and optimiser, and an epoch's data."""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import BinaryF1Score

from rapbench.core.memory_format import channels_last
from rapbench.core.random import seed_of
from rapbench.training.settings import Optimizer, Schedule, TrainingSettings

RISE = 0.1  # of the steps, in which the learning rate rises
Samples = Dataset[tuple[Tensor, int]]


class Classifier(LightningModule):
    """A network from cubes to two logits, trained by cross-entropy.

    What is drawn in a step, as by dropout, depends on (seed, epoch, step, process), so that a resumed run draws it too.
    """

    def __init__(self, network: nn.Module, settings: TrainingSettings, seed: int):
        super().__init__()
        self.network, self.settings, self.seed = network, settings, seed
        self.digest = ""  # of what is trained, and how: whoever resumes from a checkpoint compares it
        self.f1 = BinaryF1Score()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the digest into a checkpoint."""
        checkpoint["digest"] = self.digest

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed what the step draws."""
        torch.manual_seed(seed_of("step", self.seed, self.current_epoch, batch_idx, self.global_rank))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the batch's loss."""
        x, labels = batch
        loss = nn.functional.cross_entropy(self.network(channels_last(x)), labels)
        self.log("loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(x))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Note loss and F1."""
        x, labels = batch
        logits = self.network(channels_last(x)).float()
        self.f1.update(logits.softmax(1)[:, 1], labels)
        loss = nn.functional.cross_entropy(logits, labels)
        self.log("val_loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(x))
        self.log("val_f1", self.f1, on_step=False, on_epoch=True)

    def configure_optimizers(self) -> Any:
        """Return the optimiser and the schedule of its learning rate. Norms and biases have no weight decay."""
        settings = self.settings
        kernels = [weight for weight in self.network.parameters() if weight.dim() > 1]
        others = [weight for weight in self.network.parameters() if weight.dim() <= 1]
        groups = [{"params": kernels, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
        optimizer: torch.optim.Optimizer
        if settings.optimizer is Optimizer.adamw:
            optimizer = AdamW(groups, lr=settings.learning_rate)
        else:
            optimizer = SGD(groups, lr=settings.learning_rate, momentum=0.9, nesterov=True)
        if settings.schedule is Schedule.constant:
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = LambdaLR(optimizer, functools.partial(cosine, steps=steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def cosine(step: int, steps: int) -> float:
    """Return the share of the learning rate in a step, of 0 to steps - 1: it rises linearly, then falls as a cosine."""
    rise = max(1, round(RISE * steps))
    if step < rise:
        return (step + 1) / rise
    return (1 + math.cos(math.pi * (step - rise + 1) / (steps - rise + 1))) / 2


class Epochs(LightningDataModule):
    """The data of a fold. training: an epoch's samples. validation: the same in every epoch."""

    def __init__(self, training: Callable[[int], Samples], validation: Samples, settings: TrainingSettings):
        super().__init__()
        self._training, self._validation, self._settings = training, validation, settings

    def train_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Return the samples of the epoch that begins, in their order. An incomplete last batch is left out."""
        assert self.trainer is not None
        samples = self._training(self.trainer.current_epoch)
        whole = len(samples) >= self._settings.batch * self.trainer.world_size  # type: ignore[arg-type]
        return loader(samples, self._settings, drop_last=whole)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, int]]:
        """Return the validation samples."""
        return loader(self._validation, self._settings)


def loader(samples: Samples, settings: TrainingSettings, *, drop_last: bool = False) -> DataLoader[tuple[Tensor, int]]:
    """Return the batches of samples in their order."""
    return DataLoader(samples, settings.batch, shuffle=False, num_workers=settings.workers, drop_last=drop_last)
