"""One image file's bytes to an RGB picture, whatever its mode, and the reason in words when it is broken."""

import io
import re
import warnings

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


class BrokenImage(Exception):
    """An image that cannot be decoded, and why."""


def picture(data: bytes, upright: bool) -> Image.Image:
    """Return an RGB picture; upright: turned as its EXIF orientation says. Raises BrokenImage.

    Transparency is dropped, as torchvision and timm do. Nothing is written to the terminal.
    """
    if not data:
        raise BrokenImage("the file is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd EXIF, of large images
        try:
            with Image.open(io.BytesIO(data)) as image:
                turn = _turn(image) if upright else None
                rgb = _rgb(image)
        except UnidentifiedImageError:
            raise BrokenImage("not an image") from None
        except Exception as error:  # Pillow's decoders raise whatever the bytes lead to
            # an object's address would be another in every run
            reason = re.sub(r" ?<[^<>]* at 0x[0-9a-f]+>", "", str(error))
            raise BrokenImage(reason or type(error).__name__) from error
    return rgb if turn is None else rgb.transpose(turn)


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
