"""Lightning's trainer as it is used here: no folders of its own, no advice, what it resumes from in one file."""

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]

from rapbench.core import stop
from rapbench.core.errors import RapbenchError
from rapbench.training.callbacks import BestWeights, Progress
from rapbench.training.module import Classifier, Epochs
from rapbench.training.settings import TrainingSettings

BEST = "BestWeights"  # what a checkpoint calls the state of that callback


def fit(
    module: Classifier, data: Epochs, settings: TrainingSettings, device: torch.device, path: Path, title: str
) -> None:
    """Train from a checkpoint on, or from the beginning where there is none; it is the last epoch's afterwards.

    Raises RapbenchError for what Lightning cannot do, KeyboardInterrupt where it was stopped.
    """
    callbacks: list[Any] = [
        BestWeights(),
        Progress(title),
        ModelCheckpoint(path.parent, path.stem, monitor=None, save_on_train_epoch_end=True,
                        enable_version_counter=False),
    ]  # fmt: skip
    if settings.patience is not None:
        callbacks.append(EarlyStopping("val_loss", patience=settings.patience, verbose=False))
    with _quiet(), _undisturbed():
        try:
            trainer = Trainer(
                accelerator="gpu" if device.type == "cuda" else device.type,
                devices=[device.index or 0] if device.type == "cuda" and settings.devices == 1 else settings.devices,
                strategy=_strategy(settings),
                precision=settings.precision,  # type: ignore[arg-type]
                max_epochs=settings.epochs,
                reload_dataloaders_every_n_epochs=1,
                num_sanity_val_steps=0,
                deterministic="warn",
                benchmark=False,
                logger=False,
                callbacks=callbacks,
                enable_progress_bar=False,
                enable_model_summary=False,
                default_root_dir=path.parent,
                # Under a batch system too, it starts its processes itself; who resumes is rapbench.
                plugins=[LightningEnvironment()],
            )
        except (ValueError, RuntimeError) as error:  # MisconfigurationException is a RuntimeError of Lightning's
            raise RapbenchError(f"training: {' '.join(str(error).split())}") from error
        interrupt = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, data, ckpt_path=path if path.is_file() else None, weights_only=True)
        except SystemExit as error:  # what it makes of Ctrl-C
            raise KeyboardInterrupt from error
        finally:
            if interrupt is not None:
                signal.signal(signal.SIGINT, interrupt)
            stop.check()


def _strategy(settings: TrainingSettings) -> str:
    """Return what Lightning calls the strategy. Its own choice for several devices runs the command line again."""
    return "ddp_spawn" if settings.strategy == "auto" and settings.devices > 1 else settings.strategy


@contextmanager
def _quiet() -> Iterator[None]:
    """Within: Lightning neither advises nor warns."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "lightning.fabric")]
    loggers += [logging.getLogger("lightning.pytorch.utilities.rank_zero"),
                logging.getLogger("lightning.fabric.utilities.rank_zero")]  # fmt: skip
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Give back torch's random numbers, and whether it computes deterministically, as they were."""
    deterministic, warn_only = (torch.are_deterministic_algorithms_enabled(),
                                torch.is_deterministic_algorithms_warn_only_enabled())  # fmt: skip
    with torch.random.fork_rng():
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
