"""The pixels of a mask file exactly as they are stored: each of Pillow's modes is known here, or refused by name."""

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from prevmatch.data.cells import open_cell, where
from prevmatch.data.colours import rgb_codes
from prevmatch.data.images import upright
from prevmatch.errors import DataError

SUBFILE, REDUCED_OR_MASK = 254, 5
"""The TIFF tag that says what a page is, and the bits that say: a smaller copy, or where the first one counts."""
GDAL_NODATA = 42113
"""The tag in which a GeoTIFF names the value that means nothing."""
ROWS, EQUAL, FEW = 256, 0.85, 64
"""Rows that are looked at, the share of pixels that equal the next one, and the values, of what looks like a mask."""


@dataclass(frozen=True)
class Stored:
    """What a mask file holds, before any meaning is given to it."""

    values: np.ndarray
    """uint8 (H, W), numbers or palette indices; or (H, W, 3), a picture in colours."""
    void: np.ndarray | None = None
    """bool (H, W): pixels that the file itself calls nodata, or NaN."""
    palette: np.ndarray | None = None
    """uint8 (N, 3) of a palette image."""
    white: int = 255
    """The value that is shown as white: 1 of a bilevel image, 15 of four bits."""

    @property
    def coloured(self) -> bool:
        """Whether the file has colours, of its pixels or of a palette."""
        return self.values.ndim == 3 or self.palette is not None

    def numbers(self) -> np.ndarray | None:
        """The values as numbers, uint8 (H, W); None for a picture in colours that are not all grey."""
        if self.values.ndim == 2:
            return self.values
        grey = self.values[..., 0]
        return grey if (self.values == grey[..., None]).all() else None

    def colours(self) -> np.ndarray:
        """The colours that a viewer shows, uint8 (H, W, 3)."""
        if self.palette is not None:
            return self.palette[self.values]
        if self.values.ndim == 3:
            return self.values
        return np.repeat((self.values * (255 // self.white)).astype(np.uint8)[..., None], 3, axis=2)


def stored_mask(row: dict, *, blurred: bool = False) -> Stored:
    """Read the mask file of a row, upright by its own EXIF; `blurred` accepts files that do not keep values exactly.

    Raises DataError naming the file and id if it is missing, cannot be decoded, or holds what is no class id.
    """
    name, mask = where(row, "mask") if row["mask"] else "", open_cell(row, "mask")
    raw, mode, nodata = mask.info["raw_mode"], mask.mode, _nodata(mask)
    if _blurs(mask, row["mask"]) and not blurred:
        raise DataError(
            f"{name} is a {mask.format} that was compressed with losses, which blurs ids: save masks as PNG, or say "
            "what blurred values mean with --mask_threshold 128 (two classes) or --mask_colours FILE --mask_tolerance "
            "40"
        )
    if raw.endswith(";I"):
        raise DataError(f"{name} stores white as 0 (photometric interpretation 0), so its values are inverted; {SAVE}")
    if raw.endswith(";stretched"):
        raise DataError(f"{name} names another largest value than 255, from which its values are stretched; {SAVE}")
    if ";16" in raw and mode[0] not in "IF":
        raise DataError(
            f"{name} has 16 bits per channel in {len(mask.getbands())} channels, of which 8 are read; {SAVE}"
        )
    if (pages := _pages(mask)) > 1:
        raise DataError(f"{name} has {pages} pages, of which one would be read; save one mask a file")
    mask = upright(mask)
    if mode in ("L", "P", "1"):
        values = np.asarray(mask).astype(np.uint8)  # of a palette image these are the indices
        white = {"L;2": 3, "L;4": 15}.get(raw, 1 if mode == "1" else 255)
        if mode == "L" and white < 255:  # Pillow stretches few bits to eight
            values = values // (255 // white)
        palette = np.zeros((256, 3), dtype=np.uint8)
        given = np.array(mask.getpalette("RGB") if mode == "P" else (), dtype=np.uint8).reshape(-1, 3)
        palette[: len(given)] = given
        void = None if nodata is None or not (values == nodata).any() else values == nodata
        return Stored(values, void, palette if mode == "P" else None, white)
    if mode[0] in "IF":
        return _of_numbers(np.asarray(mask), nodata, name)
    if mode in ("LA", "RGB", "RGBA"):
        return Stored(_without_alpha(np.asarray(mask), name) if mode != "RGB" else np.asarray(mask))
    if blurred and mode in ("YCbCr", "CMYK"):
        return Stored(np.asarray(mask.convert("RGB")))
    raise DataError(f"{name} is a picture of mode {mode}, which no mask has; {SAVE}")


def is_flat(pixels: np.ndarray) -> bool:
    """Whether a picture, uint8 (H, W) or (H, W, 3), looks like a mask: few values, and most neighbours are equal."""
    rows = pixels[:: max(1, len(pixels) // ROWS)]
    values = rgb_codes(rows) if rows.ndim == 3 else rows
    equal = (values[:, 1:] == values[:, :-1]).sum()
    return bool(equal > EQUAL * values.size) and len(np.unique(values)) <= FEW


SAVE = "save masks as 8-bit PNG, one class id per pixel"


def _of_numbers(numbers: np.ndarray, nodata: float | None, name: str) -> Stored:
    """Numbers of any type, as long as they are whole and fit; NaN and the file's nodata are void."""
    void = np.isnan(numbers) if numbers.dtype.kind == "f" else np.zeros(numbers.shape, dtype=bool)
    if nodata is not None:
        void |= numbers == nodata
    valid = numbers[~void]
    wrong = valid[(valid < 0) | (valid > 255) | (valid != np.round(valid))]
    if wrong.size:
        value = wrong.flat[0].item()
        why = "fractions are none" if math.isfinite(value) and value % 1 else "class ids lie in 0..255"
        raise DataError(f"{name} holds the value {value:g}, but {why}; {SAVE}, 255 where there is no data")
    return Stored(np.where(void, 0, numbers).astype(np.uint8), void if void.any() else None)


def _without_alpha(pixels: np.ndarray, name: str) -> np.ndarray:
    """Colours uint8 (H, W, 3) of pixels whose last channel is alpha; DataError if that says more than the colours."""
    alpha, colours = pixels[..., -1], pixels[..., :-1]
    colours = np.repeat(colours, 3, axis=2) if colours.shape[2] == 1 else colours
    codes = rgb_codes(colours)
    seen, pairs = np.unique(codes), np.unique(codes << 8 | alpha)
    if len(pairs) > len(seen):
        raise DataError(
            f"{name} has one colour with several transparencies: (part of) the picture is in its alpha channel; save "
            "it without transparency, one class id or colour per class"
        )
    return colours


def _nodata(mask: Image.Image) -> float | None:
    with contextlib.suppress(ValueError):
        return float(str(getattr(mask, "tag_v2", {}).get(GDAL_NODATA, "")).strip("\0 "))
    return None


def _blurs(mask: Image.Image, cell: dict) -> bool:
    """Whether the file's compression changes values."""
    if mask.format == "WEBP":
        content = cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()
        return b"VP8L" not in content[:4096]
    return mask.format in ("JPEG", "MPO", "AVIF", "HEIF", "JPEG2000") or mask.info.get("compression") == "jpeg"


def _pages(mask: Image.Image) -> int:
    """Pictures in the file; smaller copies of the first one, as GDAL adds them, do not count."""
    count = getattr(mask, "n_frames", 1)
    if count == 1 or mask.format != "TIFF":
        return count
    smaller = 0
    for page in range(1, count):
        mask.seek(page)
        smaller += bool(getattr(mask, "tag_v2", {}).get(SUBFILE, 0) & REDUCED_OR_MASK)
    mask.seek(0)
    return count - smaller
