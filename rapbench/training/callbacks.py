"""What is done between Lightning's epochs: the best weights are kept, and progress is shown."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from tqdm import tqdm


class BestWeights(Callback):
    """Keeps the weights of the epoch with the lowest validation loss, and each epoch's numbers, in every checkpoint."""

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}
        self.history: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the epoch's numbers, and its weights where they are the best so far. Validation comes before it."""
        found = {name: float(trainer.callback_metrics[name]) for name in ("loss", "val_loss", "val_f1")}
        best = min((epoch["val_loss"] for epoch in self.history), default=float("inf"))
        self.history.append(found)
        if found["val_loss"] < best:
            network: Any = pl_module.network
            self.weights = {
                name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()
            }

    def state_dict(self) -> dict[str, Any]:
        """Return what goes into a checkpoint."""
        return {"weights": self.weights, "history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what came out of one."""
        self.weights, self.history = state_dict["weights"], state_dict["history"]


class Progress(Callback):
    """A bar over all batches of a fold."""

    def __init__(self, title: str):
        self._title = title
        self._bar: tqdm[Any] | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the bar, or say which epoch it is."""
        if not trainer.is_global_zero:
            return
        assert trainer.max_epochs is not None
        bar = self._bar
        if bar is None:
            batches = int(trainer.num_training_batches)
            bar = self._bar = tqdm(total=trainer.max_epochs * batches, initial=trainer.current_epoch * batches, delay=2,
                             unit="batch", leave=False)  # fmt: skip
        bar.set_description(f"{self._title} · epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        """Move on."""
        if self._bar is not None:
            self._bar.update()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the validation's F1."""
        if self._bar is not None:
            self._bar.set_postfix({"val F1": f"{float(trainer.callback_metrics['val_f1']):.3f}"}, refresh=False)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
