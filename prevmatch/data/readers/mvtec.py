"""MVTec AD: train/good, test/DEFECT and ground_truth/DEFECT, where only defects have masks."""

import io
from pathlib import Path

from PIL import Image

from prevmatch.data.found import Found, in_parts, named
from prevmatch.data.pairing import pair
from prevmatch.data.sources import file_cell
from prevmatch.data.walking import walk


def read(folder: Path) -> Found | None:
    """Defects have their masks, `good` photos are background throughout."""
    if not all((folder / name).is_dir() for name in ("train/good", "test", "ground_truth")):
        return None
    walked, truth = walk(folder, without={(folder / "ground_truth").resolve()}), walk(folder / "ground_truth")
    images = named(folder, walked.files)
    masks = {f"test/{name}": path for name, path in named(folder / "ground_truth", truth.files).items()}
    pairs = pair(images, masks, where=str(folder))
    cells = {name: file_cell(masks[mask]) for name, mask in pairs.mask_of.items()}
    cells |= {name: _background(path) for name, path in images.items() if path.parent.name == "good"}
    return Found(
        parts=in_parts(images, cells),
        layout="MVTec AD; the defects are all in the part test: train on them with --train_parts test",
        notes=walked.notes() + truth.notes() + pairs.notes,
    )


def _background(photo: Path) -> dict:
    """Mask cell of a photo without any defect."""
    file = io.BytesIO()
    with Image.open(photo) as image:
        Image.new("L", image.size).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}
