"""The C library's memory: kept by the process between tensors, rather than given back and asked for again.

glibc maps each large tensor afresh, and the kernel clears every page of it again; on VGG-16 that is a third of the time
of attributions. Elsewhere (macOS, musl) nothing is done.
"""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def keep_memory() -> bool:
    """Let freed memory stay with the process until it ends; returns whether that was done.

    What the user has set (MALLOC_*, GLIBC_TUNABLES in the environment, another allocator) stays as it is.
    """
    libc = _glibc()
    if not libc or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")) for name in os.environ):
        return False
    return bool(libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, -1))  # -1: never


def release_memory() -> None:
    """Give the kept memory that is free now back to the system."""
    if libc := _glibc():
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "gnu_get_libc_version") else None
