"""How a row becomes pixels: images upright in RGB, masks as class ids, whatever they were stored as."""

from functools import lru_cache

import numpy as np
from PIL import Image

from prevmatch.config import IGNORE_INDEX
from prevmatch.data.cells import open_cell, where
from prevmatch.data.colours import named_palette, rgb_codes
from prevmatch.data.crops import fitted_size
from prevmatch.data.images import as_rgb, upright
from prevmatch.data.instances import draw, is_annotation
from prevmatch.data.masks import Stored, stored_mask
from prevmatch.data.sources import Source
from prevmatch.errors import DataError


def read_image(row: dict, image_size: int | None = None, *, bits: int | None = None) -> Image.Image:
    """Decode the image of a row as RGB, turned upright by its EXIF, its long side brought to `image_size`.

    `bits` as in `as_rgb`. Raises DataError naming the file and id if it is missing or cannot be decoded.
    """
    image = as_rgb(upright(open_cell(row, "image")), bits)
    return (
        image if image_size is None else image.resize(fitted_size(image.size, image_size), Image.Resampling.BILINEAR)
    )


def read_mask(row: dict, source: Source) -> Image.Image:
    """Decode the mask of a row as class ids, mode L, 255 = ignored.

    Raises DataError naming the file and id if it is missing, cannot be decoded, or holds a value or colour that is no
    class.
    """
    cell = row["mask"]
    if cell is not None and is_annotation(cell["bytes"]):
        return Image.fromarray(_merged(draw(cell["bytes"]), source))
    stored = stored_mask(row, blurred=source.blurred)
    if source.colours and (stored.coloured or source.grey_colours):
        ids = _ids_of_colours(stored.colours(), source, row)
    else:
        ids = values_of(stored, row, blurred=source.blurred)
        if source.label_map is not None:
            ids = np.array(source.label_map, dtype=np.uint8)[ids]
    if stored.void is not None:
        ids = np.where(stored.void, np.uint8(IGNORE_INDEX), ids)
    count = source.num_classes if source.merged is None else len(source.merged)
    wrong = ids[(ids >= count) & (ids != IGNORE_INDEX)]
    if wrong.size:
        raise DataError(
            f"{where(row, 'mask')} holds class id {wrong.max()}, but there are {count} classes "
            f"(0..{count - 1}, 255 = ignored); correct the mask or the class count"
        )
    return Image.fromarray(_merged(ids, source))


def _merged(ids: np.ndarray, source: Source) -> np.ndarray:
    if source.merged is None:
        return ids
    table = np.full(256, IGNORE_INDEX, dtype=np.uint8)
    table[: len(source.merged)] = source.merged
    return table[ids]


def read_pair(row: dict, source: Source, image_size: int | None = None) -> tuple[Image.Image, Image.Image]:
    """Decode image and mask of a row; DataError if their sizes differ.

    Whether a photo is turned upright by its EXIF, the source says.
    """
    stored, mask = open_cell(row, "image"), read_mask(row, source)
    image = stored if source.orientation == "stored" else upright(stored)
    if source.orientation == "by_size" and image.size != mask.size and stored.size == mask.size:
        image = stored
    if image.size != mask.size:
        raise DataError(
            f"{where(row, 'mask')} is {mask.width}×{mask.height} but its image {where(row, 'image')} is "
            f"{image.width}×{image.height}; they must be the same size"
        )
    image = as_rgb(image, source.bits)
    if image_size is None:
        return image, mask
    size = fitted_size(image.size, image_size)
    return image.resize(size, Image.Resampling.BILINEAR), mask.resize(size, Image.Resampling.NEAREST)


def values_of(stored: Stored, row: dict, *, blurred: bool = False) -> np.ndarray:
    """The numbers in a mask file, uint8 (H, W); DataError, which tells the palette, if it is a picture in colours."""
    numbers = stored.numbers()
    if numbers is None and blurred:
        return np.asarray(Image.fromarray(stored.values).convert("L"))
    if numbers is None:
        raise DataError(_colours_message(stored.values, row))
    return numbers


def _ids_of_colours(colours: np.ndarray, source: Source, row: dict) -> np.ndarray:
    codes, ids = _code_table(source.colours)
    pixels = rgb_codes(colours)
    place = np.searchsorted(codes, pixels).clip(max=len(codes) - 1)
    unknown = codes[place] != pixels
    if not unknown.any():
        return ids[place]
    strange, inverse = np.unique(pixels[unknown], return_inverse=True)
    channels = [np.stack([code >> 16, code >> 8 & 255, code & 255], -1) for code in (strange, codes)]
    distance = np.abs(channels[0][:, None] - channels[1][None]).max(-1)
    if (far := distance.min(1) > source.colour_distance).any():
        raise DataError(
            f"{where(row, 'mask')} has the colour {tuple(channels[0][far][0].tolist())}, which is no class's; add it "
            "to the list of colours, correct the mask, or take the nearest colour with --mask_tolerance"
        )
    found = ids[place]
    found[unknown] = ids[distance.argmin(1)][inverse]
    return found


@lru_cache(maxsize=4)
def _code_table(colours: tuple) -> tuple[np.ndarray, np.ndarray]:
    table = dict(sorted((int(rgb_codes(np.array(colour, dtype=np.uint8))), label) for colour, label in colours))
    return np.array(list(table)), np.array(list(table.values()), dtype=np.uint8)


def _colours_message(pixels: np.ndarray, row: dict) -> str:
    found = np.unique(pixels.reshape(-1, 3), axis=0)
    palette = named_palette(found)
    shown = ", ".join(str(tuple(map(int, colour))) for colour in found[:3]) + (", …" if len(found) > 3 else "")
    what = f"the colours of {palette}: add --mask_colours {palette}" if palette else (
        "colours of no palette known here: add --mask_colours FILE with a line `name: r, g, b` per class, or "
        "--mask_colours found, which makes a class of each"
    )  # fmt: skip
    return f"{where(row, 'mask')} is a picture in colours ({shown}) instead of class ids; these are {what}"
