"""A part of a run's chunks: shard=2/4 is the second of four."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rapbench.core.errors import RapbenchError


@dataclass(frozen=True)
class Shard:
    """The `number`-th of `count` shards, from 1."""

    number: int = 1
    count: int = 1

    @classmethod
    def called(cls, text: str | None) -> "Shard":
        """Return the shard i/n that a user names; None is the whole. Raises RapbenchError."""
        if text is None:
            return cls()
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise RapbenchError(f"shard must be i/n with 1 <= i <= n, such as 1/4, got {text!r:.40}")
        return cls(int(match[1]), int(match[2]))

    def of(self, chunks: int) -> Sequence[int]:
        """Return the chunks that the shard owns: every n-th, so that shards end at about the same time."""
        return range(self.number - 1, chunks, self.count)
