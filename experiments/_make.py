"""The Makefile's settings as Hydra overrides. They come through the environment: no shell and no grammar reads them."""

import os
import re
from collections.abc import Mapping

from hydra.core.override_parser.types import Quote, QuotedString

PREFIX = "RAPBENCH_MAKE_"  # what the Makefile calls its settings in the environment
SETTINGS = {"MODEL": "model", "IMAGENET": "data.root", "LABELS": "data.labels", "N": "subset.n", "DEVICE": "device",
            "PRECISION": "precision"}  # fmt: skip
LISTS = {"REQUIRE": "subset.require", "METHODS": "method"}  # with commas between
# The paper's protocol on LUNA16: VGG-16's own width, all folds; see docs/luna16.md.
PAPER_TRAINING = ("model.width=1", "model.dropout=0.5", "training.fold=null", "training.epochs=30", "training.batch=64",
                  "training.share=0.28", "training.augmentations=8", "training.learning_rate=0.001",
                  "training.patience=5", "training.workers=4")  # fmt: skip


def made(name: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return a setting of the Makefile; empty where it is not given, or where make does not run this."""
    return environment.get(PREFIX + name, "")


def overrides(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the overrides that the Makefile's settings stand for, each value literally what the user typed."""
    found = []
    for name, setting in SETTINGS.items():
        if value := made(name, environment):
            found += ["data=imagenet"] if name == "IMAGENET" else []
            found.append(f"{setting}={quoted(value)}")
    for name, setting in LISTS.items():
        if value := made(name, environment):
            found.append(f"{setting}=[{','.join(quoted(word.strip()) for word in value.split(','))}]")
    return found


def drift(verb: str, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the words that follow the verb of experiments/drift.py: the baseline's file, and overrides."""
    name = made("BASELINE", environment) or made("MODEL", environment) or "efficientnet_lite0"
    experiment = f"experiment={quoted(made('EXPERIMENT', environment) or 'drift')}"
    given = [experiment] if verb == "freeze" else []  # a check is of the baseline's
    return [f"baselines/drift/{name}.csv", *given, *overrides(environment)]


def luna16(environment: Mapping[str, str] = os.environ) -> list[list[str]]:
    """Return the commands of the 3-D application: train, evaluate, draw.

    Without LUNA16= they are of phantoms, small enough for two cores; with it of the paper's protocol.
    """
    root, folds, epochs, device, width = (
        made(name, environment) for name in ("LUNA16", "FOLDS", "EPOCHS", "DEVICE", "WIDTH")
    )
    name = "luna16" if root else "nodule_phantoms"
    data = [f"data={name}"] + ([f"data.root={quoted(root)}"] if root else [])
    common = [*data, *([f"device={quoted(device)}"] if device else [])]
    training = list(PAPER_TRAINING) if root else []
    if folds:  # the first so many
        first = ",".join(map(str, range(int(folds)))) if folds.isdecimal() else quoted(folds)
        training.append(f"training.fold=[{first}]")
    training += [f"{setting}={_number(value)}" for setting, value in
                 (("training.epochs", epochs), ("model.width", width)) if value]  # fmt: skip
    trained = f"model.path=results/luna16/{name}/fold0/model.safetensors"
    return [
        ["train", "experiment=luna16", *common, *training],
        ["run", "experiment=luna16", *common, trained],
        ["figure", "figure8", *common, trained],
    ]


def _number(value: str) -> str:
    """Return a number as it was typed, and what is none as a text, which its setting refuses by name."""
    return value if re.fullmatch(r"\d+(\.\d*)?", value) else quoted(value)


def quoted(value: str) -> str:
    """Return a value as Hydra and OmegaConf read it back, whatever is in it."""
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)  # no interpolation
    return QuotedString(text=literal, quote=Quote.single).with_quotes()
