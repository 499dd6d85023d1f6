"""Own data made from a data set that has all masks: folders in which only some photos have one, to train on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from prevmatch.config import IGNORE_INDEX, OWN_DATA, TrainConfig


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is trained on, and what; by default CamVid at half size, for which a few minutes of a CPU are enough."""

    data_dir: Path
    """Photos in images/train and images/val, the masks of all of them, of class ids, in masks/train and masks/val."""
    image_size: int = 240
    """Long side that photos are brought to."""
    crop_size: int = 129
    """Side of training crops."""
    encoder: str = "mobilenetv2_100"
    """timm encoder."""
    encoder_weights: str = "timm"
    """`timm`, `none` or a file."""
    decoder_channels: int = 64
    """Width of the decoder."""
    batch_size: int = 4
    """Labelled images of a step."""


@dataclass(frozen=True)
class Folder:
    """The photos and masks of one part of a data set."""

    photos: Mapping[str, Path] = field(default_factory=dict)
    """By their names without suffix, in their order."""
    masks: Mapping[str, Path] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Those of all photos."""
        return list(self.photos)


def read_folder(data_dir: Path, part: str) -> Folder:
    """Find the photos and masks of `train` or `val`."""
    found = [{path.stem: path for path in sorted((data_dir / kind / part).iterdir())} for kind in ("images", "masks")]
    return Folder(*found)


def class_count(folder: Folder) -> int:
    """One more than the largest class id in its masks."""
    ids = np.unique(np.concatenate([np.unique(np.array(Image.open(path))) for path in folder.masks.values()]))
    return int(ids[ids != IGNORE_INDEX].max()) + 1


def lay_out(
    to: Path, folder: Folder, labelled: Iterable[str], *, classes: int, val: Folder | None = None, bare: bool = True
) -> None:
    """Make `to` a folder of own data by links: the photos, the masks of those that are labelled, and a validation part
    if `val` is given. Without `bare`, photos without a mask are left out, for training on labels only."""
    labelled = set(labelled)
    to.mkdir(parents=True)
    (to / "classes.txt").write_text("\n".join(f"class_{i}" for i in range(classes)))
    parts = {"": (folder, labelled)} if val is None else {"train": (folder, labelled), "val": (val, set(val.names))}
    for part, (source, with_mask) in parts.items():
        for kind, files in (("images", source.photos), ("masks", source.masks)):
            (to / kind / part).mkdir(parents=True)
            for name, path in files.items():
                if name in with_mask or (kind == "images" and bare):
                    (to / kind / part / path.name).symlink_to(path.resolve())


def settings(sizes: Sizes, data: Path, run: Path, *, steps: int, seed: int, folds: int = 0) -> TrainConfig:
    """Own data's settings on labels only; the last network counts."""
    return replace(
        OWN_DATA, data_dir=data, output_dir=run, folds=folds, image_size=sizes.image_size, crop_size=sizes.crop_size,
        encoder=sizes.encoder, encoder_weights=sizes.encoder_weights, decoder_channels=sizes.decoder_channels,
        batch_size=sizes.batch_size, method="supervised", partner=None, threshold_kind="fixed", epochs=1,
        epoch_images=steps * sizes.batch_size, num_workers=0, panel_every=0, allow_absent_classes=True, seed=seed,
        split_seed=seed, resume=True,
    )  # fmt: skip
