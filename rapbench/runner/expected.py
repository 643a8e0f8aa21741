"""What the rows of a chunk must be, known before they are computed: what is read from a store is compared with it."""

import numpy as np
import pyarrow as pa

from rapbench.runner.choice import Choice, lists
from rapbench.store.cell import Expected

INT, FLOAT, TEXT, BOOL = pa.int32(), pa.float32(), pa.string(), pa.bool_()


def expected_rows(method: Choice, protocol: Choice, first: int, count: int) -> Expected:
    """Return what `Chunk.evaluate` makes of `count` images. first: the first one's place in the subset."""
    kind, found = protocol.entry.facts["kind"], lists(method, protocol)
    which, step = ("order", "step") if kind == "regions" else ("sign", "k")
    places: dict[str, list[np.ndarray]] = {"row": [], which: [], step: []}
    for name, ks in found.items():
        places["row"].append(np.repeat(np.arange(first, first + count, dtype=np.int32), len(ks)))
        places[which].append(np.full(count * len(ks), name))
        steps = np.array(ks, dtype=np.int32) if kind == "regions" else np.array([str(k) for k in ks])
        places[step].append(np.tile(steps, count))
    table = pa.table({name: np.concatenate(parts) for name, parts in places.items()})
    if kind == "measure":
        return Expected(table, {"selected": INT, protocol.entry.name: None})
    answer = {"predicted": INT, "correct": BOOL}
    if kind == "regions":
        return Expected(table, {"output": TEXT} | answer | {"score": FLOAT})
    return Expected(table, {"selected": INT} | answer | {"logit": FLOAT})
