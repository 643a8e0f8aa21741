"""What the rows of a chunk must be, known before they are computed: what is read from a store is compared with it."""

import numpy as np
import pyarrow as pa

from rapbench.evaluation.choice import Choice, variants
from rapbench.store.cell import Expected

# Of a metric's type; that of any other may be any floating-point type.
TYPES = {"int64": pa.int32(), "bool": pa.bool_()}


def expected_rows(method: Choice, protocol: Choice, first: int, count: int) -> Expected:
    """Return what `Chunk.evaluate` makes of `count` images. first: the first one's place in the subset."""
    places: dict[str, list[np.ndarray]] = {"row": [], "variant": [], "k": []}
    for variant, steps in variants(method, protocol).items():
        places["row"].append(np.repeat(np.arange(first, first + count, dtype=np.int32), len(steps)))
        places["variant"].append(np.full(count * len(steps), variant))
        places["k"].append(np.tile(np.array([str(step) for step in steps]), count))
    table = pa.table({name: np.concatenate(parts) for name, parts in places.items()})
    return Expected(table, {metric.name: TYPES.get(metric.type) for metric in protocol.protocol.metrics})
