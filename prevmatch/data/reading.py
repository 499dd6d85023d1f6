"""How a row becomes pixels: images upright in RGB, masks as class ids, whatever they were stored as."""

import io
import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from prevmatch.config import IGNORE_INDEX
from prevmatch.data.colours import named_palette, rgb_codes
from prevmatch.data.crops import fitted_size
from prevmatch.data.images import as_rgb, upright
from prevmatch.data.instances import draw, is_annotation
from prevmatch.data.sources import Source
from prevmatch.errors import DataError


def limit_pixels(most: int) -> None:
    """Refuse to decode images of more than `most` pixels, in this process from now on."""
    Image.MAX_IMAGE_PIXELS = most // 2  # Pillow warns from here on and refuses from twice as many on
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def read_image(row: dict, image_size: int | None = None) -> Image.Image:
    """Decode the image of a row as RGB, turned upright by its EXIF, its long side brought to `image_size`.

    Raises DataError naming the file and id if it is missing or cannot be decoded.
    """
    image = as_rgb(upright(open_cell(row, "image")))
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
        return Image.fromarray(draw(cell["bytes"]))
    mask = open_cell(row, "mask")
    if source.colours and mask.mode in ("RGB", "RGBA", "P"):
        return Image.fromarray(_ids_of_colours(mask.convert("RGB"), source.colours, row))
    ids = _stored_ids(mask, row)
    if source.label_map is not None:
        ids = np.array(source.label_map, dtype=np.uint8)[ids]
    wrong = ids[(ids >= source.num_classes) & (ids != IGNORE_INDEX)]
    if wrong.size:
        jpeg = "; it is a JPEG, which blurs ids: save masks as PNG" if mask.format == "JPEG" else ""
        raise DataError(
            f"{where(row, 'mask')} holds class id {wrong.max()}, but there are {source.num_classes} classes "
            f"(0..{source.num_classes - 1}, 255 = ignored); correct the mask or the class count{jpeg}"
        )
    return Image.fromarray(ids)


def read_pair(row: dict, source: Source, image_size: int | None = None) -> tuple[Image.Image, Image.Image]:
    """Decode image and mask of a row; DataError if their sizes differ.

    A photo is turned upright as viewers and labelling tools show it, unless only its stored orientation fits the mask.
    """
    stored, mask = open_cell(row, "image"), read_mask(row, source)
    image = upright(stored)
    if image.size != mask.size and stored.size == mask.size:
        image = stored
    if image.size != mask.size:
        raise DataError(
            f"{where(row, 'mask')} is {mask.width}×{mask.height} but its image {where(row, 'image')} is "
            f"{image.width}×{image.height}; they must be the same size"
        )
    image = as_rgb(image)
    if image_size is None:
        return image, mask
    size = fitted_size(image.size, image_size)
    return image.resize(size, Image.Resampling.BILINEAR), mask.resize(size, Image.Resampling.NEAREST)


def stored_mask(row: dict) -> np.ndarray:
    """The values of a mask file as they are, uint8 (H, W), before any meaning is given to them.

    Raises DataError naming the file and id if it is missing, cannot be decoded or is a picture in colours.
    """
    return _stored_ids(open_cell(row, "mask"), row)


def where(row: dict, column: str) -> str:
    """The file and id of a row's image or mask, for a message."""
    path = row[column]["path"]
    return f"{Path(path)} (id {row['id']!r})" if path else f"the {column} of id {row['id']!r}"


def _stored_ids(mask: Image.Image, row: dict) -> np.ndarray:
    if mask.mode not in ("L", "P", "1", "I;16", "I"):
        pixels = np.asarray(mask.convert("RGB"))
        if (pixels == pixels[..., :1]).all():  # ids that were saved as grey RGB
            return pixels[..., 0]
        raise DataError(_colours_message(pixels, row))
    ids = np.asarray(mask)  # of a palette image these are the indices; convert("L") would give luminances
    if ids.dtype != np.uint8:
        if ids.max(initial=0) > 255 or ids.min(initial=0) < 0:
            raise DataError(f"{where(row, 'mask')} holds the value {ids.max()}, but class ids end at 255")
        ids = ids.astype(np.uint8)
    return ids


def _ids_of_colours(mask: Image.Image, colours: tuple, row: dict) -> np.ndarray:
    codes, ids = _code_table(colours)
    pixels = rgb_codes(np.asarray(mask))
    place = np.searchsorted(codes, pixels).clip(max=len(codes) - 1)
    unknown = pixels[codes[place] != pixels]
    if unknown.size:
        code = int(unknown[0])
        raise DataError(
            f"{where(row, 'mask')} has the colour {(code >> 16, code >> 8 & 255, code & 255)}, which is no class's; "
            "add it to the list of colours or correct the mask"
        )
    return ids[place]


@lru_cache(maxsize=4)
def _code_table(colours: tuple) -> tuple[np.ndarray, np.ndarray]:
    table = dict(sorted((int(rgb_codes(np.array(colour, dtype=np.uint8))), label) for colour, label in colours))
    return np.array(list(table)), np.array(list(table.values()), dtype=np.uint8)


def _colours_message(pixels: np.ndarray, row: dict) -> str:
    found = np.unique(pixels.reshape(-1, 3), axis=0)
    palette = named_palette(found)
    shown = ", ".join(str(tuple(map(int, colour))) for colour in found[:3]) + (", …" if len(found) > 3 else "")
    what = f"the colours of {palette}: add --mask_colours {palette}" if palette else (
        "colours of no palette known here: add --mask_colours FILE with a line `name: r, g, b` per class"
    )  # fmt: skip
    return f"{where(row, 'mask')} is a picture in colours ({shown}) instead of class ids; these are {what}"


def open_cell(row: dict, column: str, *, header_only: bool = False) -> Image.Image:
    """Decode a row's image or mask as it is stored; DataError, naming file and id, if that cannot be done."""
    cell = row[column]
    if cell is None:
        raise DataError(f"image {row['id']!r} has no {column}, but it is listed as labelled")
    try:
        image = Image.open(cell["path"] if cell["bytes"] is None else io.BytesIO(cell["bytes"]))
        if not header_only:  # which tells size and mode
            image.load()
    except FileNotFoundError:
        raise DataError(f"{where(row, column)} is missing; restore it or remove it from the lists") from None
    except Image.DecompressionBombError:
        raise DataError(
            f"{where(row, column)} has more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels and is taken for a "
            "decompression bomb; if it is yours, raise --max_image_pixels"
        ) from None
    except Exception as error:
        raise DataError(
            f"{where(row, column)} cannot be read as an image ({type(error).__name__}); replace the file"
        ) from None
    return image
