"""The number formats in which a run can classify perturbed images."""

from enum import Enum


class Precision(Enum):
    """The number format of perturbed forward passes; attribution is always float32."""

    fp32 = "fp32"
    bf16 = "bf16"
