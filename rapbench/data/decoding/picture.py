"""One image file's bytes to an RGB picture, whatever its mode, and the reason in words when it is broken.

The bytes may come from anywhere: only the decoders of the formats below are asked, whatever the file is called (Pillow
hands others, as EPS, to programs outside), and none before the header's size is known to be a photograph's.
"""

import io
import re
import warnings
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# As Pillow calls what the names of image files stand for, and GIF, which is often found under another name.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
MOST_PIXELS = 50_000_000  # the largest that phones take; decoded, with all copies, below 1 GB
MOST_SIDE = 65_535  # JPEG's own limit
MOST_ASPECT = (
    100  # long side to short side: transforms scale the short one to hundreds of pixels, and the other with it
)
TOO_LARGE = (
    f"more than {MOST_PIXELS / 1e6:.0f} million, or than {MOST_SIDE:,} on a side, are not decoded: scale it down"
)

T = TypeVar("T")


class BrokenImage(Exception):
    """An image that cannot be decoded, and why."""


def picture(data: bytes, upright: bool) -> Image.Image:
    """Return an RGB picture; upright: turned as its EXIF orientation says. Raises BrokenImage.

    Transparency is dropped, as torchvision and timm do; of an animation the first picture is taken. Nothing is written
    to the terminal.
    """
    turn, rgb = taken(data, lambda image: (_turn(image) if upright else None, _rgb(image)))
    return rgb if turn is None else rgb.transpose(turn)


def stored(data: bytes) -> tuple[tuple[int, int], Image.Transpose | None]:
    """Return an image's (width, height) as it is stored, and how its EXIF orientation turns it. Raises BrokenImage."""
    return taken(data, lambda image: (image.size, _turn(image)))


def taken(data: bytes, take: Callable[[Image.Image], T], formats: tuple[str, ...] = FORMATS) -> T:
    """Return what `take` makes of an opened image. Raises BrokenImage, also for what it or a decoder raises."""
    if not data:
        raise BrokenImage("the file is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd EXIF, of large images
        try:
            with Image.open(io.BytesIO(data), formats=formats) as image:
                _refuse_large(*image.size)
                return take(image)
        except UnidentifiedImageError:
            what = f"formats {', '.join(formats)}" if len(formats) > 1 else f"format {formats[0]}"
            raise BrokenImage(f"not an image of the {what}") from None
        except BrokenImage:
            raise
        except Image.DecompressionBombError:  # Pillow's own bound, of decoders that reserve memory when they open
            raise BrokenImage(TOO_LARGE) from None
        except Exception as error:  # Pillow's decoders raise whatever the bytes lead to
            # an object's address would be another in every run
            reason = re.sub(r" ?<[^<>]* at 0x[0-9a-f]+>", "", str(error))
            raise BrokenImage(reason or type(error).__name__) from error


def _refuse_large(width: int, height: int) -> None:
    if width * height > MOST_PIXELS or max(width, height) > MOST_SIDE:
        raise BrokenImage(f"{width:,} x {height:,} pixels; {TOO_LARGE}")
    if max(width, height) > MOST_ASPECT * min(width, height):
        raise BrokenImage(f"{width:,} x {height:,} pixels; no side may be over {MOST_ASPECT} times the other")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey; Pillow would clip them to 255
        return Image.fromarray((np.asarray(image).clip(0, 0xFFFF) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF says nothing of the picture
        return None
