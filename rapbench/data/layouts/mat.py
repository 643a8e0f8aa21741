"""The one thing that is read of MATLAB's files (version 5): an array of structures, such as the devkit's `synsets`.

Strict and without recursion: SciPy's reader, which takes every file, can be led out of the stack or into gigabytes.
"""

import math
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from rapbench.data.layouts.bounded import TooLarge

MOST_BYTES = 32 << 20  # of all variables, unpacked; the devkit's are some 2 MB
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
TEXTS = {16: "utf-8", 17: "utf-16", 18: "utf-32"}
MATRIX, COMPRESSED = 14, 15  # kinds of elements
STRUCT, CHAR = 2, 4  # classes of arrays

Element = tuple[int, memoryview]


def read_structures(data: bytes, variable: str, fields: Sequence[str]) -> list[dict[str, str | float]]:
    """Return the array's structures in MATLAB's order, of each the wanted fields: a text, or a single number.

    Raises ValueError for a file that is damaged, of another version, or has no such variable; TooLarge.
    """
    mark = data[126:128]
    if mark not in (b"IM", b"MI"):
        raise ValueError("not a MATLAB file of version 5")
    order = "<" if mark == b"IM" else ">"
    room = MOST_BYTES
    for kind, body in _elements(memoryview(data)[128:], order):
        if kind == COMPRESSED:
            unpacked = _unpacked(body, room)
            room -= len(unpacked)
            kind, body = next(_elements(memoryview(unpacked), order), (0, body))
        if kind == MATRIX:
            parts = _elements(body, order)
            shape, name, of_class = _head(parts, order)
            if name == variable and of_class == STRUCT:
                return _structures(parts, shape, fields, order)
    raise ValueError(f"no array of structures called {variable}")


def _structures(
    parts: Iterator[Element], shape: tuple[int, ...], fields: Sequence[str], order: str
) -> list[dict[str, str | float]]:
    (width,) = (int(value) for value in _numbers(*next(parts), order))
    names = bytes(next(parts)[1])
    keys = [names[at : at + width].split(b"\0")[0].decode("ascii") for at in range(0, len(names), width)]
    if missing := set(fields) - set(keys):
        raise ValueError(f"no field {min(missing)}")
    found = []
    for _ in range(math.prod(shape)):
        values = {key: body for key, (_, body) in zip(keys, parts, strict=False)}
        if len(values) < len(keys):
            raise ValueError("fewer structures than its shape says")
        found.append({key: _value(values[key], order) for key in fields})
    return found


def _value(body: memoryview, order: str) -> str | float:
    parts = _elements(body, order)
    shape, _, of_class = _head(parts, order)
    kind, data = next(parts)
    if of_class == CHAR:
        if kind in TEXTS:
            return bytes(data).decode(TEXTS[kind] + {"<": "-le", ">": "-be"}[order] if kind > 16 else TEXTS[kind])
        return "".join(chr(code) for code in _numbers(kind, data, order))
    (value,) = _numbers(kind, data, order)
    if math.prod(shape) != 1:
        raise ValueError("an array where a number is expected")
    return float(value)


def _head(parts: Iterator[Element], order: str) -> tuple[tuple[int, ...], str, int]:
    """Return an array's shape, name and class, the first three of its parts."""
    flags, shape, (_, name) = (_numbers(*next(parts), order), _numbers(*next(parts), order), next(parts))
    if len(shape) < 2 or min(shape) < 0:
        raise ValueError("an array without a shape")
    return tuple(int(side) for side in shape), bytes(name).decode("ascii"), int(flags[0]) & 0xFF


def _numbers(kind: int, data: memoryview, order: str) -> np.ndarray:
    if kind not in NUMBERS:
        raise ValueError(f"data of kind {kind} where numbers are expected")
    return np.frombuffer(data, order + NUMBERS[kind])


def _elements(data: memoryview, order: str) -> Iterator[Element]:
    """Yield the kind and the bytes of each element; one of up to four bytes shares its eight with its tag."""
    place = 0
    while place < len(data):
        if len(data) - place < 8:
            raise ValueError("it is cut short")
        kind, size = (int(word) for word in np.frombuffer(data[place : place + 8], f"{order}u4"))
        begin, small = place + 8, kind >> 16
        if small:
            kind, size, begin = kind & 0xFFFF, min(small, 4), place + 4
        if begin + size > len(data):
            raise ValueError("it is cut short")
        yield kind, data[begin : begin + size]
        place = place + 8 if small else begin + size + (0 if kind == COMPRESSED else -size % 8)


def _unpacked(body: memoryview, room: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(body, room + 1)
    except zlib.error as error:
        raise ValueError("its compressed data is damaged") from error
    if len(unpacked) > room:
        raise TooLarge(f"its variables unpack to more than {MOST_BYTES:,} bytes")
    return unpacked
