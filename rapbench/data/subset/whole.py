"""The subset that is the whole data set: every input, whether the model classifies it correctly or not."""

from contextlib import closing

import torch

from rapbench.core.errors import RapbenchError
from rapbench.data.decoding.decode import decode_ahead, in_batches, leave_out, refuse_broken
from rapbench.data.labelled.dataset import Dataset
from rapbench.data.subset.manifest import Row, Subset
from rapbench.data.subset.predictions import BATCH, judge
from rapbench.model import Model


def whole_subset(model: Model, dataset: Dataset, device: torch.device, batch: int | None = None) -> Subset:
    """Return all inputs of a data set, in its order, with what the model says of each.

    Parameters
    ----------
    model : Model
        On `device`.
    dataset : Dataset
        An input without a label gets the model's prediction as its label.
    device : torch.device
        Where the model is.
    batch : int, or None
        Inputs in one pass; None: as in the draw of a subset.

    Returns
    -------
    Subset
        Its rows hold the label's logit. Files that cannot be decoded are skipped, and named.

    Raises
    ------
    RapbenchError
        For a label that the model has no class for, when more than 1 % cannot be decoded, and when nothing is left.
    """
    name, weights = model.facts.name, model.weights_sha256
    rows: list[Row] = []
    broken: list[str] = []
    with closing(decode_ahead(dataset, dataset.samples, model.transform)) as images:
        for images_of_one_pass in in_batches(images, batch or BATCH):
            for verdict in judge(model, images_of_one_pass, device):
                if verdict.error:
                    leave_out(verdict.file, verdict.error, broken)
                    continue
                label = verdict.predicted if verdict.label < 0 else verdict.label
                rows.append(Row(verdict.file, label, verdict.sha256, verdict.logit, name, weights))
    refuse_broken(broken, len(dataset.samples), dataset)
    if not rows:
        raise RapbenchError(f"{dataset.where} has no inputs")
    return Subset(rows, len(dataset.samples), tuple(broken))
