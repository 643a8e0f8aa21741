"""Boxes and masks of image files: that they lie where the object does, after any preprocessing, and in whole runs."""

import gzip
import html
import io
import pickle
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageOps
from timm.data import create_transform
from torch.nn.functional import max_pool2d
from torchvision.transforms import v2

import rapbench
from rapbench.app.cli import main
from rapbench.data.decoding.decode import decode
from rapbench.data.decoding.picture import TURNS
from rapbench.data.labelled.dataset import Dataset, Sample
from rapbench.data.labelled.marks import NotMarked
from rapbench.data.marks import boxes as boxes_module
from rapbench.data.marks import pictures, voc
from rapbench.data.marks.painted import painted
from rapbench.data.subset.manifest import Row
from rapbench.evaluation.masks import Masks
from rapbench.model.placement import Placement
from rapbench.model.preprocessing import Borrowed, Preprocess, stated
from rapbench.zoo import models
from tests import layouts
from tests.small import SMALL, SPACE, TRANSFORM

Box = tuple[float, float, float, float]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def timms(**more: object) -> Borrowed:
    own = create_transform((3, 112, 112), is_training=False, mean=MEAN, std=STD, crop_pct=0.875, **more)
    return Borrowed(own, (124.0, 116.0, 104.0), (58.0, 57.0, 57.0), 128, 112, "bicubic")


def of_ones_own(image: Image.Image) -> torch.Tensor:
    """Squeezed to 90 x 70, mirrored, grey, inverted and in two channels."""
    grey = v2.functional.pil_to_tensor(image.resize((70, 90)).convert("L")).float() / 255
    return torch.cat([1 - grey, grey * 3]).flip(2)


REGISTERED = {name: models[name].facts["transform"] for name in models if "transform" in models[name].facts}
FAMILIES = ["efficientnet_b1", "mobilenet_v3_large", "timm/resnet18", "timm/resnet50.a1_in1k",
            "timm/vit_base_patch16_224"]  # fmt: skip
TRANSFORMS = {
    **REGISTERED,
    **{name: models[name].facts["transform"] for name in FAMILIES},
    "timm: squash": timms(crop_mode="squash"),
    "timm: border": timms(crop_mode="border", interpolation="bicubic"),
    "nearest": Preprocess((127.0,) * 3, (128.0,) * 3, resize=64, crop=56, interpolation="nearest"),
    "smaller than the crop": Preprocess((127.0,) * 3, (128.0,) * 3, resize=64, crop=80),
    "stated": stated(MEAN, STD, [64, 96]),
    "stated, grey": stated([0.5], [0.25], [96, 64]),
    "one's own": stated(None, None, None, of_ones_own),
}  # fmt: skip
EXACT = [name for name in TRANSFORMS if not name.startswith(("timm: ", "one's own"))]

SIZES = [(500, 375), (375, 500), (240, 240), (61, 83), (300, 64)]  # width, height


def box_of(size: tuple[int, int], at: str) -> Box:
    """A box that lies within the middle square, or reaches over its border, in whole pixels."""
    width, height = size
    x, y, side = width // 2, height // 2, min(size)
    if at == "within":
        return (x - side // 5, y - side // 4, x + side // 6, y + side // 7)
    return (0, y - side // 6, x - side // 8, height)


def picture_of(size: tuple[int, int], boxes: Sequence[Box]) -> Image.Image:
    """A dark picture of noise with the boxes painted white."""
    width, height = size
    pixels = np.random.default_rng(width).integers(0, 90, (height, width, 3)).astype(np.uint8)
    for left, top, right, bottom in boxes:
        pixels[int(top) : int(bottom), int(left) : int(right)] = 255
    return Image.fromarray(pixels)


def saved(folder: Path, name: str, image: Image.Image, orientation: int = 1) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    image.save(folder / name, exif=exif)


def xml(boxes: Sequence[Box], size: tuple[float, float] | None = None, name: str = "n01440764") -> str:
    """As in ILSVRC2012_bbox_val_v3.tgz."""
    shape = "" if size is None else f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    objects = "".join(
        f"<object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult><bndbox>"
        f"<xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>\n"
        for x0, y0, x1, y1 in boxes
    )
    return (f"<annotation>\n<folder>val</folder><filename>%s</filename>\n"
            f"{shape}<segmented>0</segmented>\n{objects}</annotation>\n")  # fmt: skip


def written(folder: Path, name: str, text: str | bytes) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)


def packed(folder: Path, path: Path, mode: str = "w:gz", prefix: str = "val") -> Path:
    with tarfile.open(path, mode) as archive:
        archive.add(folder, prefix)
    return path


def mask_of(dataset: Dataset, file: str, transform: Callable) -> torch.Tensor:
    return Placement(transform)(painted(dataset, file))


def grown(mask: torch.Tensor, by: int) -> torch.Tensor:
    return max_pool2d(mask[None].float(), 2 * by + 1, 1, by)[0].bool()


# Where the object is, after the preprocessing


@pytest.mark.parametrize("at", ["within", "over the border"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", TRANSFORMS)
def test_a_mask_is_where_the_preprocessing_puts_the_painted_pixels(kind, size, at, tmp_path):
    transform, box = TRANSFORMS[kind], box_of(size, at)
    image = picture_of(size, [box])
    saved(tmp_path / "images", "a.png", image)
    written(tmp_path / "boxes", "a.xml", xml([box], size))
    dataset = rapbench.load_data("folder", root=str(tmp_path / "images"), boxes=str(tmp_path / "boxes"))
    mask = mask_of(dataset, "a.png", transform)
    seen = decode(dataset, Sample("a.png", 0), transform).pixels
    assert mask.shape == seen.shape[1:]
    white = (seen - transform(Image.new("RGB", size, "white"))).abs().amax(0) < 1e-4
    white &= (transform(Image.new("RGB", size, "white")) - transform(Image.new("RGB", size))).abs().sum(0) > 0
    edge = 3 if min(mask.shape) > 1.2 * min(size) else 2  # upscaling draws an edge over more pixels
    assert mask.any()
    assert not mask.all()
    assert (white <= grown(mask, 1)).all()  # nothing white lies outside,
    inner = ~grown(~mask, edge)
    assert inner.any()
    assert (inner <= white).all()  # and all inside is white, but for the edge


@pytest.mark.parametrize("at", ["within", "over the border"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", EXACT)
def test_a_mask_is_the_box_by_exact_coordinates(kind, size, at, tmp_path):
    """Centre-cropped of a picture resized by one factor: each pixel's centre, traced back into the picture."""
    transform, (x0, y0, x1, y1) = TRANSFORMS[kind], box_of(size, at)
    region = Image.new("L", size)
    region.paste(255, (int(x0), int(y0), int(x1), int(y1)))
    mask = Placement(transform)(region).numpy()
    space, (width, height) = mask.shape, size
    scale = max(space[0] / height, space[1] / width) if kind.startswith("stated") else transform.resize / min(size)
    rows, columns = (
        (np.arange(out) + 0.5 + (scale * own - out) / 2) / scale
        for out, own in zip(space, (height, width), strict=True)
    )

    def inside(slack: float) -> np.ndarray:  # in pixels of the input
        down, across = ((low - slack / scale <= at) & (at < high + slack / scale)
                        for at, low, high in ((rows, y0, y1), (columns, x0, x1)))  # fmt: skip
        return down[:, None] & across[None]

    real = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))[None]
    slack = 1.55  # half a pixel each by rounding the size, the crop and the edge, and bicubic edges are not quite so
    assert mask.any()
    assert (mask <= inside(slack)).all()
    assert (inside(-slack) & real <= mask).all()
    assert not (mask & ~(inside(slack) & grown(torch.from_numpy(real), 2).numpy())).any()


def test_at_the_border_a_box_is_exact_to_the_pixel(tmp_path):
    """A preprocessing that keeps every pixel: ImageNet's coordinates run from 0 to the width."""
    same = Preprocess((0.0,) * 3, (1.0,) * 3, resize=40, crop=40)
    saved(tmp_path / "images", "a.png", picture_of((40, 40), []))
    cases: dict[Box, tuple[slice, slice]] = {
        (0, 0, 40, 40): (slice(0, 40), slice(0, 40)),
        (0, 0, 1, 1): (slice(0, 1), slice(0, 1)),
        (39, 39, 40, 40): (slice(39, 40), slice(39, 40)),
        (3, 5, 10, 7): (slice(5, 7), slice(3, 10)),
        (10, 7, 3, 5): (slice(5, 7), slice(3, 10)),  # its ends exchanged
        (-5, 30, 12, 99): (slice(30, 40), slice(0, 12)),  # beyond the image
        (2.4, 2.5, 5.6, 5.5): (slice(2, 5), slice(2, 6)),  # where the centre lies
        (7, 7, 7, 9): (slice(0), slice(0)),  # nothing in it
        (50, 50, 60, 60): (slice(0), slice(0)),
    }
    for box, place in cases.items():
        written(tmp_path / "boxes", "a.xml", xml([box], (40, 40)))
        dataset = rapbench.load_data("folder", root=str(tmp_path / "images"), boxes=str(tmp_path / "boxes"))
        want = torch.zeros(40, 40, dtype=torch.bool)
        want[place] = True
        assert torch.equal(mask_of(dataset, "a.png", same), want), box


def test_several_boxes_are_their_union_and_parts_are_no_objects(tmp_path):
    same = Preprocess((0.0,) * 3, (1.0,) * 3, resize=40, crop=40)
    saved(tmp_path / "images", "a.png", picture_of((40, 40), []))
    part = "<part><name>head</name><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>40</xmax><ymax>40</ymax></bndbox></part>"
    text = xml([(1, 1, 5, 5), (3, 3, 9, 9), (20, 20, 25, 40)]).replace("</object>", part + "</object>")
    written(tmp_path / "boxes", "a.xml", text)
    dataset = rapbench.load_data("folder", root=str(tmp_path / "images"), boxes=str(tmp_path / "boxes"))
    want = torch.zeros(40, 40, dtype=torch.bool)
    want[1:5, 1:5] = want[3:9, 3:9] = want[20:40, 20:25] = True
    assert torch.equal(mask_of(dataset, "a.png", same), want)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("source", ["boxes", "masks"])
def test_boxes_and_masks_are_of_the_stored_pixels_and_turn_with_the_image(source, orientation, tmp_path):
    size, box = (60, 90), (4, 10, 31, 30)
    image = picture_of(size, [box])
    saved(tmp_path / "images", "a.png", image, orientation)
    written(tmp_path / "boxes", "a.xml", xml([box], size))
    region = Image.new("L", size)
    region.paste(255, box)
    saved(tmp_path / "masks", "a.png", region)
    same = stated([0.0] * 3, [1.0] * 3, None, lambda picture: v2.functional.pil_to_tensor(picture).float() / 255)
    for exif in ("apply", "ignore"):
        dataset = rapbench.load_data("folder", root=str(tmp_path / "images"), exif=exif,
                                     **{source: str(tmp_path / source)})  # fmt: skip
        pixels = decode(dataset, Sample("a.png", 0), same).pixels
        assert torch.equal(mask_of(dataset, "a.png", same), (pixels == 1).all(0))
    turned = ImageOps.exif_transpose(Image.open(tmp_path / "images" / "a.png"))
    assert (turned.size != size) == (orientation in (5, 6, 7, 8))
    assert set(TURNS) == set(range(2, 9))


def test_boxes_drawn_on_a_scaled_copy_are_scaled_and_of_another_shape_are_not_used(tmp_path):
    same = Preprocess((0.0,) * 3, (1.0,) * 3, resize=40, crop=40)
    saved(tmp_path / "images", "a.png", picture_of((60, 40), []))
    want = torch.zeros(40, 40, dtype=torch.bool)
    want[4:20, 2:20] = True  # of 60 columns the middle 40
    cases = {(60, 40): (12, 4, 30, 20), (30, 20): (6, 2, 15, 10), (120, 80): (24, 8, 60, 40),
             (61, 41): (12.2, 4.1, 30.5, 20.5), (0, 0): (12, 4, 30, 20), None: (12, 4, 30, 20)}  # fmt: skip
    for size, box in cases.items():
        written(tmp_path / "boxes", "a.xml", xml([box], size))
        dataset = rapbench.load_data("folder", root=str(tmp_path / "images"), boxes=str(tmp_path / "boxes"))
        assert torch.equal(mask_of(dataset, "a.png", same), want), size
    for size in ((40, 60), (60, 45), (500, 375), (60, 60), (600, 380)):
        written(tmp_path / "boxes", "a.xml", xml([(12, 4, 30, 20)], size))
        with pytest.raises(NotMarked, match="of an image of other proportions"):
            painted(dataset, "a.png")


@pytest.mark.parametrize("stated_size", [(499, 375), (500, 376), (250, 187), (250, 188), (333, 250), (1000, 750)])
def test_rounding_is_no_other_shape(stated_size):
    assert boxes_module._alike(stated_size, (500, 375))


@pytest.mark.parametrize("kind", ["standardised", "centred", "random crop", "stretched"])
def test_a_transform_that_moves_pixels_by_what_they_show_is_refused(kind):
    def own(image: Image.Image) -> torch.Tensor:
        pixels = v2.functional.pil_to_tensor(image).float()
        if kind == "standardised":
            return (pixels - pixels.mean()) / pixels.std()
        if kind == "centred":
            return pixels - pixels.mean()
        if kind == "stretched":
            return (pixels - pixels.min()) / (pixels.max() - pixels.min() + 1e-6)
        return v2.RandomCrop(20)(pixels)

    region = Image.new("L", (60, 40))
    region.paste(255, (10, 10, 40, 33))
    torch.manual_seed(0)
    with pytest.raises(rapbench.RapbenchError, match="so no box or mask can be placed in it") as error:
        Placement(stated(None, None, None, own))(region)
    assert "\n" not in str(error.value)


# Masks


def test_what_is_not_black_is_inside_whatever_the_mode(tmp_path):
    inside = np.zeros((40, 60), bool)
    inside[5:20, 7:31] = True
    grey = Image.fromarray(inside.astype(np.uint8))  # 1, hardly to be seen
    colour = Image.fromarray(np.where(inside[..., None], np.uint8([0, 0, 9]), np.uint8(0)))
    palette = Image.fromarray(np.where(inside, np.uint8(0), np.uint8(1)), "P")
    palette.putpalette([255, 255, 255, 0, 0, 0])  # white is the first colour
    clear = Image.new("RGBA", (60, 40), (255, 255, 255, 0))
    clear.paste((255, 0, 0, 255), (7, 5, 31, 20))
    kinds = {
        "L": grey, "1": Image.fromarray(inside), "RGB": colour, "P": palette, "RGBA": clear, "LA": clear.convert("LA"),
        "I;16": Image.fromarray(inside.astype(np.uint16)),
        "white": grey.point(lambda value: 255 * value),
    }  # fmt: skip
    for name, mask in kinds.items():
        saved(tmp_path, "a.jpg", picture_of((60, 40), []))
        mask.save(tmp_path / "a.mask.png")
        dataset = rapbench.load_data("folder", root=str(tmp_path))
        got = np.asarray(painted(dataset, "a.jpg"))
        np.testing.assert_array_equal(got, np.where(inside, 255, 0), err_msg=name)


def test_masks_beside_images_and_in_their_own_folder_say_the_same_and_are_no_images(tmp_path):
    regions = {}
    for number, name in enumerate(("cats/a.jpg", "cats/b.png", "dogs/a.jpg")):
        saved(tmp_path / "beside", name, picture_of((60, 40), []))
        regions[name] = Image.new("L", (60, 40))
        regions[name].paste(255, (number, 3, 20, 30))
        saved(tmp_path / "beside", f"{name[:-4]}.mask.png", regions[name])
    saved(tmp_path / "beside", "dogs/unknown.jpg", picture_of((60, 40), []))
    shutil.copytree(tmp_path / "beside", tmp_path / "apart")
    for file in sorted((tmp_path / "apart").rglob("*.mask.png")):
        to = tmp_path / "apart/masks" / file.relative_to(tmp_path / "apart").with_name(file.name.replace(".mask", ""))
        to.parent.mkdir(parents=True, exist_ok=True)
        file.rename(to)
    for labels in ("predicted", "folders"):
        one = rapbench.load_data("folder", root=str(tmp_path / "beside"), labels=labels)
        two = rapbench.load_data(
            "folder", root=str(tmp_path / "apart"), masks=str(tmp_path / "apart/masks"), labels=labels
        )
        assert [sample.file for sample in one.samples] == [*regions, "dogs/unknown.jpg"]
        assert one.samples == two.samples
        assert one.identity == two.identity
        assert one.class_names == two.class_names == (("cats", "dogs") if labels == "folders" else ())
        assert one.description.startswith("4 ")
        for name, region in regions.items():
            for dataset in (one, pickle.loads(pickle.dumps(two))):
                assert painted(dataset, name).tobytes() == region.tobytes()
        for dataset in (one, two):
            with pytest.raises(NotMarked, match=r"^without a mask$"):
                painted(dataset, "dogs/unknown.jpg")


# Which file is which image's


@pytest.mark.parametrize("layout", [layout for layout in layouts.LAYOUTS if layout.__name__ != "parquet_of_bytes"
                                    and layout.__name__ != "parquet_without_paths"],
                         ids=lambda layout: layout.__name__)  # fmt: skip
def test_imagenets_boxes_belong_to_its_images_in_every_layout(layout, tmp_path):
    options = layout(tmp_path / "imagenet")
    for number, (name, _, _) in enumerate(layouts.IMAGES[:-1], start=1):
        written(tmp_path / "boxes/some/val", f"{Path(name).stem}.xml", xml([(number, 3, number + 30, 50)]))
    given = {"folder": tmp_path / "boxes", "tgz": packed(tmp_path / "boxes/some/val", tmp_path / "boxes.tgz"),
             "tar": packed(tmp_path / "boxes/some/val", tmp_path / "boxes.tar", "w", "./")}  # fmt: skip
    for place in given.values():
        dataset = rapbench.load_data("imagenet", **options | {"root": str(options["root"])}, boxes=str(place))
        plain = rapbench.load_data("imagenet", **options | {"root": str(options["root"])})
        assert dataset.identity == plain.identity
        assert plain.marks is None
        assert len(dataset.marks.files) == len(layouts.IMAGES) - 1
        for sample in pickle.loads(pickle.dumps(dataset)).samples:
            number = int(Path(sample.file).stem.split("_")[2])
            if number == len(layouts.IMAGES):
                with pytest.raises(NotMarked, match=r"^without a box$"):
                    painted(dataset, sample.file)
                continue
            inside = np.asarray(painted(dataset, sample.file)) > 0
            rows, columns = np.nonzero(inside)
            assert (columns.min(), columns.max(), rows.min(), rows.max()) == (number, number + 29, 3, 49)


@pytest.mark.parametrize("name", ["ILSVRC2012_val_00000007", "n01440764/ILSVRC2012_val_00000007", "a/b/"
                                  "ILSVRC2012_val_00000007_n01440764"])  # fmt: skip
def test_an_imagenet_image_is_known_by_its_number(name):
    assert boxes_module.imagenet_key(name) == "ILSVRC2012_val_00000007"
    assert boxes_module.imagenet_key("val/n01440764_7") == "n01440764_7"


def test_in_a_folder_the_path_counts_with_or_without_the_folder_that_all_are_in(tmp_path):
    for name in ("cats/1.jpg", "dogs/1.jpg", "dogs/2.jpg"):
        saved(tmp_path / "images", name, picture_of((60, 40), []))
    for number, name in enumerate(("cats/1", "dogs/1"), start=1):
        written(tmp_path / "boxes", f"{name}.xml", xml([(0, 0, number, 1)]))
    for place in (tmp_path / "boxes", packed(tmp_path / "boxes", tmp_path / "a.tgz", prefix=""),
                  packed(tmp_path / "boxes", tmp_path / "b.tgz", prefix="some/Annotations")):  # fmt: skip
        dataset = rapbench.load_data("folder", root=str(tmp_path / "images"), boxes=str(place))
        assert {file: int((np.asarray(painted(dataset, file)) > 0).sum()) for file in ("cats/1.jpg", "dogs/1.jpg")} == {
            "cats/1.jpg": 1, "dogs/1.jpg": 2,
        }  # fmt: skip
        with pytest.raises(NotMarked):
            painted(dataset, "dogs/2.jpg")
    samples = rapbench.load_data("samples").samples
    written(tmp_path / "own", "imagenet_00_243.xml", xml([(5, 5, 50, 60)]))
    embedded = rapbench.load_data("samples", boxes=str(tmp_path / "own"))
    assert embedded.samples == samples
    assert set(embedded.marks.files) == {"imagenet_00_243.jpg"}


# What is refused, in a line


def line(says: str, name: str = "folder", **options: object) -> None:
    with pytest.raises(rapbench.RapbenchError, match=says) as error:
        rapbench.load_data(name, **options)
    assert "\n" not in str(error.value)


def test_places_without_boxes_or_masks_are_one_line(tmp_path):
    root = tmp_path / "images"
    saved(root, "a/dog.jpg", picture_of((60, 40), []))
    (tmp_path / "empty").mkdir()
    written(tmp_path / "others", "cat.xml", xml([]))
    saved(tmp_path / "pictures", "cat.png", picture_of((60, 40), []))
    (tmp_path / "words.tgz").write_bytes(b"words")
    (tmp_path / "cut.tgz").write_bytes(packed(tmp_path / "others", tmp_path / "whole.tgz").read_bytes()[:60])
    (tmp_path / "nothing.tgz").write_bytes(gzip.compress(b""))
    for boxes, says in {
        "nowhere": "data.boxes=.*nowhere is not a folder or an archive of .xml files",
        "empty": "data.boxes=.*empty holds no .xml files",
        "others": r"none of its 1 .xml files, such as cat.xml, has the name of one of the 1 images, such as a/dog.jpg",
        "words.tgz": "data.boxes: .*words.tgz cannot be read as a tar archive",
        "cut.tgz": "data.boxes: .*cut.tgz cannot be read as a tar archive",
        "nothing.tgz": "nothing.tgz",
    }.items():
        line(says, root=str(root), boxes=str(tmp_path / boxes))
        line(says.replace("a/dog.jpg", "imagenet_00_243.jpg").replace("the 1 images", "the 20 images"), "samples",
             boxes=str(tmp_path / boxes))  # fmt: skip
    for masks, says in {
        "nowhere": "data.masks=.*nowhere is not a folder of masks",
        "empty": "data.masks=.*empty has no mask of any of the 1 images; expected such as a/dog.png for a/dog.jpg",
        "pictures": "has no mask of any of the 1 images",
        "images": "data.masks is data.root",
    }.items():
        line(says, root=str(root), masks=str(tmp_path / masks))
    line("both say where the objects are", root=str(root), masks=str(tmp_path / "a"), boxes=str(tmp_path / "b"))
    line("data.boxes='a\\\\x00' holds a null character", root=str(root), boxes="a\0")
    saved(root, "a/dog.mask.png", picture_of((60, 40), []))
    line("1 .mask.png beside the images and data.boxes=", root=str(root), boxes=str(tmp_path / "others"))
    saved(root, "a/cat.mask.png", picture_of((60, 40), []))
    line(r"a/cat.mask.png is a mask by its name, and there is no image a/cat\.\*", root=str(root))


def test_names_that_could_be_of_two_are_one_line(tmp_path):
    root = tmp_path / "images"
    for name in ("dog.jpg", "dog.png"):
        saved(root, name, picture_of((60, 40), []))
    written(tmp_path / "boxes", "dog.xml", xml([]))
    saved(tmp_path / "masks", "dog.png", picture_of((60, 40), []))
    says = "dog.jpg and dog.png have the same name but for folder or suffix"
    line(f"data.boxes: {says}", root=str(root), boxes=str(tmp_path / "boxes"))
    line(f"data.masks: {says}", root=str(root), masks=str(tmp_path / "masks"))
    saved(root, "dog.mask.png", picture_of((60, 40), []))
    line(f"masks beside images: {says}", root=str(root))
    layouts.flat(tmp_path / "flat")
    for folder in ("a", "b"):
        written(tmp_path / "twice" / folder, "ILSVRC2012_val_00000001.xml", xml([]))
    line("have the same name but for folder", "imagenet", root=str(tmp_path / "flat"), labels="predicted",
         boxes=str(tmp_path / "twice"))  # fmt: skip


def test_names_in_an_archive_that_lead_out_of_it_are_refused(tmp_path):
    saved(tmp_path / "images", "a.jpg", picture_of((60, 40), []))
    for name in ("../a.xml", "/a.xml", "b/../../a.xml"):
        with tarfile.open(tmp_path / "boxes.tgz", "w:gz") as archive:
            info = tarfile.TarInfo(name)
            info.size = len(xml([]))
            archive.addfile(info, io.BytesIO(xml([]).encode()))
        line("a name that leads out of it", root=str(tmp_path / "images"), boxes=str(tmp_path / "boxes.tgz"))
    with tarfile.open(tmp_path / "boxes.tgz", "w:gz") as archive:  # a link is no file
        info = tarfile.TarInfo("a.xml")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(info)
    line("holds no .xml files", root=str(tmp_path / "images"), boxes=str(tmp_path / "boxes.tgz"))


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    saved(tmp_path / "images", "a.jpg", picture_of((60, 40), []))
    written(tmp_path / "boxes", "a.xml", xml([]) + " " * 2_000_000)
    place = packed(tmp_path / "boxes", tmp_path / "boxes.tgz")
    line("cannot be read as a tar archive .its val/a.xml has 2,", root=str(tmp_path / "images"), boxes=str(place))
    monkeypatch.setattr(boxes_module, "MOST_UNPACKED", 1 << 20)
    written(tmp_path / "boxes", "a.xml", xml([]))
    written(tmp_path / "boxes", "zeros.bin", b"\0" * 2_000_000)
    place = packed(tmp_path / "boxes", tmp_path / "boxes.tgz")
    line("it unpacks to more than 1,048,576 bytes", root=str(tmp_path / "images"), boxes=str(place))


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;">]><annotation>&c;</annotation>'
BAD = {
    "empty": ("", "no element found"),
    "words": ("words", "syntax error"),
    "cut": (xml([(1, 2, 3, 4)])[:-30], "no element found|unclosed"),
    "two": (xml([]) + xml([]), "junk after document element"),
    "an entity": (BOMB, "it has a document type"),
    "a file": ('<!DOCTYPE annotation SYSTEM "file:///etc/passwd"><annotation/>', "it has a document type"),
    "an address": ('<!DOCTYPE annotation SYSTEM "http://localhost:9/a.dtd"><annotation/>', "it has a document type"),
    "an external entity": (
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>',
        "it has a document type",
    ),
    "in UTF-16": (BOMB.encode("utf-16"), "it has a document type"),
    "an unknown entity": ("<annotation>&x;</annotation>", "undefined entity"),
    "an odd encoding": ('<?xml version="1.0" encoding="utf-7x"?><annotation/>', "unknown encoding"),
    "another root": ("<html/>", "its root is <html>"),
    "no numbers": (xml([("a", 0, 1, 1)]), "<xmin> is 'a', no number of pixels"),
    "NaN": (xml([(0, 0, "nan", 1)]), "<xmax> is 'nan', no number of pixels"),
    "infinite": (xml([(0, 0, 1, "1e999")]), "<ymax> is '1e999', no number of pixels"),
    "without an end": (xml([(0, 0, 1, 1)]).replace("xmax", "xmay"), "<bndbox> without <xmax>"),
    "without a box": (xml([(0, 0, 1, 1)]).replace("bndbox", "box"), "an <object> without <bndbox>"),
    "a negative size": (xml([(0, 0, 1, 1)], (-4, 4)), "a size of -4 x 4"),
    "half a size": (xml([(0, 0, 1, 1)], (4, 4)).replace("height", "hight"), "<size> without <height>"),
    "large": (xml([]) + " " * 2_000_000, "more than 1,048,576 bytes"),
    "many": (xml([(0, 0, 1, 1)] * 1001), "more than 1,000 objects"),
    "deep": ("<annotation>" + "<a>" * 100_000 + "</a>" * 100_000 + "</annotation>", None),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_voc_xml_is_one_line(name, tmp_path):
    text, says = BAD[name]
    saved(tmp_path / "images", "a.jpg", picture_of((60, 40), []))
    written(tmp_path / "boxes", "a.xml", text)
    dataset = rapbench.load_data("folder", root=str(tmp_path / "images"), boxes=str(tmp_path / "boxes"))
    if says is None:
        with pytest.raises(NotMarked, match="without a box"):
            painted(dataset, "a.jpg")
        return
    with pytest.raises(rapbench.RapbenchError, match=f"data.boxes: .*a.xml is not Pascal VOC XML .*({says})") as error:
        painted(dataset, "a.jpg")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500 + len(str(tmp_path))


def test_the_format_is_read_with_whatever_else_it_holds():
    text = '<?xml version="1.0" encoding="utf-8"?>\n<!-- drawn -->\n' + xml([(1, 2, 3, 4), (9, 8, 7, 6)], (60, 40))
    for data in (text.encode(), text.replace("utf-8", "utf-16").encode("utf-16"), b"\xef\xbb\xbf" + text.encode()):
        assert voc.read_voc(data, "a.xml") == ((60, 40), ((1, 2, 3, 4), (7, 6, 9, 8)))
    assert voc.read_voc(xml([]).encode(), "a.xml") == (None, ())


@pytest.mark.parametrize(("kind", "says"), {
    "another size": r"the mask .*dog.mask.png has 40 x 60 pixels, its image dog.jpg 60 x 40 as it is stored; a mask",
    "words": r"the mask .*dog.mask.png cannot be decoded \(not an image of the format PNG\)",
    "a JPEG": r"the mask .*dog.mask.png cannot be decoded \(not an image of the format PNG\)",
    "cut": r"the mask .*dog.mask.png cannot be decoded",
    "empty": r"the mask .*dog.mask.png cannot be decoded \(the file is empty\)",
    "too many pixels": r"the mask .*dog.mask.png cannot be decoded \(9,000 x 9,000 pixels",
    "gone": r"the mask .*dog.mask.png cannot be read \(No such file",
}.items())  # fmt: skip
def test_a_mask_that_is_none_is_one_line(kind, says, tmp_path):
    saved(tmp_path, "dog.jpg", picture_of((60, 40), []))
    mask = Image.new("L", (40, 60) if kind == "another size" else (60, 40), 255)
    if kind == "too many pixels":
        mask = Image.new("1", (9000, 9000))
    data = io.BytesIO()
    mask.save(data, "JPEG" if kind == "a JPEG" else "PNG")
    found = {"words": b"words", "empty": b"", "cut": data.getvalue()[:50]}.get(kind, data.getvalue())
    (tmp_path / "dog.mask.png").write_bytes(found)
    dataset = rapbench.load_data("folder", root=str(tmp_path))
    if kind == "gone":
        (tmp_path / "dog.mask.png").unlink()
    with pytest.raises(rapbench.RapbenchError, match=says) as error:
        painted(dataset, "dog.jpg")
    assert "\n" not in str(error.value)


# Whole runs


FILES = [sample.file for sample in rapbench.load_data("samples").samples]


def drawn(folder: Path) -> dict[str, str]:
    """Boxes of the embedded images by file, with every reason not to count; return the reason of each."""
    reasons = {}
    root = rapbench.load_data("samples").root
    for number, file in enumerate(FILES):
        with Image.open(root / file) as image:
            width, height = image.size
        boxes: list[Box] = [(width // 2 - 40, height // 2 - 40, width // 2 + 30 + number, height // 2 + 50)]
        size, reasons[file] = (width, height), ""
        if number == 0:
            boxes, reasons[file] = [], "without a box"
        elif number == 1:
            boxes, reasons[file] = [(0, 0, width, height)], "with more than 50%"
        elif number == 2:
            boxes = [(0, 0, width, height // 3), (0, height // 3, width, height)]
            reasons[file] = "with more than 50%"
        elif number == 3:
            boxes, reasons[file] = [(width, height, width + 9, height + 9)], "with nothing of its boxes"
        elif number == 4:
            size, reasons[file] = (width, 2 * height), "of other proportions"
        if number == 5:
            reasons[file] = "without a box"
            continue
        written(folder, f"{Path(file).stem}.xml", xml(boxes, size))
    return reasons


SAID = ("What should be found is known of {} of these images; left out were 2 without a box, 2 with more than 50% of "
        "the model's input inside its boxes, 1 with nothing of its boxes in the model's input, 1 with boxes of "
        "an image of other proportions.")  # fmt: skip
RUN = ["run", f"model={SMALL}", "data=samples", "subset.n=20", "method=[random,edge]",
       "protocol=[relevance_mass,relevance_rank,pointing_game]"]  # fmt: skip


def test_a_run_counts_what_has_no_box_and_does_not_depend_on_order_or_batch(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    reasons = drawn(tmp_path / "boxes")
    place = packed(tmp_path / "boxes", tmp_path / "boxes.tgz")
    frames = {}
    for name, more in {
        "folder": ["data.boxes=boxes"],
        "tgz": [f"data.boxes={place}", "chunk=3", "batch=2", "results=other"],
    }.items():
        assert main([*RUN, f"name={name}", *more]) == 0
        said = capsys.readouterr()
        assert "left out: " + FILES[4] in said.err
        folder = next(path.parent for path in tmp_path.rglob(f"{name}/*/results.parquet"))
        frames[name] = pd.read_parquet(folder / "results.parquet")
        assert set(frames[name]["input"]) == set(FILES)
        want = SAID.format(list(reasons.values()).count(""))
        assert want in said.err
        assert want in html.unescape((folder / "report.html").read_text())
    values = {name: frame.sort_values(["protocol", "method", "input"])[["protocol", "method", "input", "value"]]
              .reset_index(drop=True) for name, frame in frames.items()}  # fmt: skip
    pd.testing.assert_frame_equal(values["folder"], values["tgz"])
    for row in values["folder"].itertuples():
        assert np.isnan(row.value) == bool(reasons[row.input]), row
    dataset = rapbench.load_data("samples", boxes="boxes")
    box = mask_of(dataset, FILES[7], TRANSFORM)
    assert 0 < box.float().mean() < 0.5
    assert box.shape == SPACE


def test_other_boxes_are_other_results_and_no_other_protocol_is_computed_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    drawn(tmp_path / "boxes")
    words = [*RUN[:-2], "method=[random]", "protocol=[relevance_mass,distance]", "data.boxes=boxes"]

    def cells() -> set[str]:
        assert main(words) == 0
        return {path.name for path in Path("results/store/cells").rglob("*.parquet")}

    first = cells()
    assert cells() == first
    written(tmp_path / "boxes", f"{Path(FILES[8]).stem}.xml", xml([(100, 100, 150, 160)]))
    assert len(cells() - first) == 1
    assert main([*words[:-1], "data.boxes=nowhere"]) == 2
    assert "data.boxes=nowhere is not a folder" in capsys.readouterr().err
    written(tmp_path / "boxes", f"{Path(FILES[8]).stem}.xml", "<!DOCTYPE a><annotation/>")
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "it has a document type" in said
    assert "Traceback" not in said


def test_a_manifest_holds_without_the_boxes_of_its_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    drawn(tmp_path / "boxes")
    assert main([*RUN[:-2], "method=[random]", "protocol=[pointing_game]", "data.boxes=boxes", "name=a"]) == 0
    shutil.rmtree(tmp_path / "boxes")
    (manifest,) = tmp_path.glob("results/a/*/manifest.csv")
    assert main(["subset", "verify", str(manifest), "--allow-module", "tests"]) == 0, capsys.readouterr().err


def test_masks_of_inputs_are_those_of_each_alone_in_any_order(tmp_path):
    drawn(tmp_path / "boxes")
    dataset = rapbench.load_data("samples", boxes=str(tmp_path / "boxes"))
    rows = [Row(file, 0, "", 0.0, "", "") for file in FILES]
    masks = Masks(dataset, SPACE, rows, TRANSFORM)
    whole = masks.of(rows)
    for places in ([3, 7, 1], list(range(20))[::-1], [8]):
        assert torch.equal(Masks(dataset, SPACE, rows, TRANSFORM).of([rows[place] for place in places]), whole[places])
    assert set(masks.hashes) == {row.file for row, mask in zip(rows, whole, strict=True) if mask.any()}
    assert sum(masks.unknown.values()) == len(rows) - len(masks.hashes)
    assert pictures.is_beside("a/b.MASK.PNG")
