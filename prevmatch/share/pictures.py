"""Pictures of masks for people: colours, and rows of images with captions."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from prevmatch.data.palettes import voc_colours, voc_palette

IGNORED_COLOUR, UNPAINTED = (255, 255, 255), (0, 0, 0)
"""Over a photo, a class that is black in its palette, by custom the background, leaves the photo as it is."""
GAP, CAPTION = 6, 22


def colour_mask(ids: np.ndarray, palette: Sequence[tuple[int, int, int]] = ()) -> Image.Image:
    """Paint class ids uint8 (H, W) in the palette's colours; ids beyond it, such as 255, become white."""
    colours = np.full((256, 3), IGNORED_COLOUR, dtype=np.uint8)
    given = np.array(palette, dtype=np.uint8) if len(palette) else voc_palette(255)
    colours[: len(given)] = given
    return Image.fromarray(colours[ids])


def palette_mask(ids: np.ndarray, palette: Sequence[tuple[int, int, int]] = ()) -> Image.Image:
    """A picture of mode P whose values are the class ids uint8 (H, W) and whose palette holds the colours."""
    mask = Image.fromarray(ids)
    every_id = np.arange(256, dtype=np.uint8)[None]
    mask.putpalette(np.asarray(colour_mask(every_id, palette)).tobytes())
    return mask


def painted(image: Image.Image, ids: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> Image.Image:
    """An RGB image under the half-transparent colours of its class ids (H, W), 255 white, black ones left clear."""
    colours = np.asarray(colour_mask(ids, palette))
    clear = (colours == UNPAINTED).all(-1)
    return Image.composite(image, Image.blend(image, Image.fromarray(colours), 0.5), Image.fromarray(clear))


def overlay(
    image: Image.Image, ids: np.ndarray, names: Sequence[str], palette: Sequence[tuple[int, int, int]] = ()
) -> Image.Image:
    """An RGB image under the colours of its class ids, as `painted` has them, with a legend of the classes in it.

    A class that is left clear has an empty square. Images below 320 pixels are enlarged, pixels staying squares.
    """
    palette = palette or voc_colours(len(names))
    blended = painted(image, ids, palette)
    times = max(1, 320 // max(image.size))
    image = blended.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    found = [label for label in np.unique(ids) if label < len(names)]
    # Small pictures get a legend that can be read, large ones one that can be seen.
    scale = max(1.0, image.width / 1000)
    names = [names[label] for label in found]
    colours = [IGNORED_COLOUR if tuple(palette[label]) == UNPAINTED else palette[label] for label in found]
    return stacked(image, legend(names, colours, width=max(image.width, 160), scale=scale))


def grid(rows: Sequence[Sequence[Image.Image]], captions: Sequence[str], *, width: int = 240) -> Image.Image:
    """Arrange rows of equally many pictures under captions, each scaled to `width` pixels."""
    rows = [[_scaled(picture, width) for picture in row] for row in rows]
    heights = [max(picture.height for picture in row) for row in rows]
    size = (len(captions) * (width + GAP) + GAP, CAPTION + GAP + sum(height + GAP for height in heights))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for column, caption in enumerate(captions):
        middle = GAP + column * (width + GAP) + width // 2
        draw.text((middle, GAP), caption, fill="black", font=ImageFont.load_default(15), anchor="mt")
    top = CAPTION + GAP
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            sheet.paste(picture, (GAP + column * (width + GAP), top))
        top += height + GAP
    return sheet


def legend(
    names: Sequence[str], palette: Sequence[tuple[int, int, int]], *, width: int, scale: float = 1.0
) -> Image.Image:
    """One line (or several) of coloured squares with the class names; `scale` 1 writes letters of 14 pixels."""
    font = ImageFont.load_default(14 * scale)
    line, gap, square, indent = (round(length * scale) for length in (22, GAP, 14, 20))
    places, x, y = [], gap, gap
    for name in names:
        need = indent + int(font.getlength(name)) + round(16 * scale)
        if x > gap and x + need > width:
            x, y = gap, y + line
        places.append((x, y))
        x += need
    strip = Image.new("RGB", (width, y + line), "white")
    draw = ImageDraw.Draw(strip)
    for name, colour, (x, y) in zip(names, palette, places, strict=True):
        draw.rectangle((x, y, x + square, y + square), fill=tuple(colour), outline="black")
        draw.text((x + indent, y + square // 2), name, fill="black", font=font, anchor="lm")
    return strip


def stacked(*pictures: Image.Image) -> Image.Image:
    """Put pictures one below the other."""
    sheet = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), "white")
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height
    return sheet


def _scaled(picture: Image.Image, width: int) -> Image.Image:
    height = round(picture.height * width / picture.width)
    # Enlarged pixels stay squares: small scenes and masks must not look smoother than they are.
    resampling = Image.Resampling.NEAREST if width > picture.width else Image.Resampling.BILINEAR
    return picture.resize((width, height), resampling)
