"""The Pascal VOC format of bounding boxes: XML that may come from anywhere, so without any document type or entity."""

import math
from typing import NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from rapbench.core.errors import RapbenchError

MOST_BYTES = 1 << 20  # of a file; they have about a thousand
MOST_BOXES = 1000
MOST_PIXELS = 1e6  # that a coordinate may be

Box = tuple[float, float, float, float]


class Annotation(NamedTuple):
    """size: (width, height) of the image that the boxes are of; None: not stated. boxes: left, top, right, bottom."""

    size: tuple[float, float] | None
    boxes: tuple[Box, ...]


def read_voc(data: bytes, where: str) -> Annotation:
    """Return what a file says; a box whose ends are exchanged is turned round, as ImageNet has some.

    where: what the file is called in messages. Raises RapbenchError for what is not in this format.
    """
    try:
        return _annotation(_parsed(data))
    except (expat.ExpatError, ValueError, LookupError, UnicodeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise RapbenchError(f"data.boxes: {where} is not Pascal VOC XML ({reason}); mend or remove it") from error


def _parsed(data: bytes) -> Element:
    if len(data) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES:,} bytes")
    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse  # before any entity is declared, expanded or fetched
    parser.Parse(data, True)
    root: Element = builder.close()
    return root


def _refuse(*_: object) -> None:
    raise ValueError("it has a document type, which is not read")


def _annotation(root: Element) -> Annotation:
    if root.tag != "annotation":
        raise ValueError(f"its root is <{root.tag:.40}>, not <annotation>")
    objects = root.findall("object")
    if len(objects) > MOST_BOXES:
        raise ValueError(f"more than {MOST_BOXES:,} objects")
    size = None
    if (stated := root.find("size")) is not None:
        width, height = (_number(stated, side) for side in ("width", "height"))
        if min(width, height) < 0:
            raise ValueError(f"a size of {width:g} x {height:g}")
        size = (width, height) if width and height else None  # some tools write 0 where they do not know it
    return Annotation(size, tuple(_box(found) for found in objects))


def _box(found: Element) -> Box:
    box = found.find("bndbox")
    if box is None:
        raise ValueError("an <object> without <bndbox>")
    left, right = sorted((_number(box, "xmin"), _number(box, "xmax")))
    top, bottom = sorted((_number(box, "ymin"), _number(box, "ymax")))
    return left, top, right, bottom


def _number(parent: Element, name: str) -> float:
    child = parent.find(name)
    if child is None:
        raise ValueError(f"<{parent.tag}> without <{name}>")
    text = (child.text or "").strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= MOST_PIXELS:
        raise ValueError(f"<{name}> is {text[:40]!r}, no number of pixels")
    return value
