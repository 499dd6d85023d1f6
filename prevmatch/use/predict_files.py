"""Segmenting files and folders of any length: which files, what their maps are called, and writing those."""

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from prevmatch.config import MapKind, PredictConfig
from prevmatch.data.walking import IMAGE_SUFFIXES, Walk, walk
from prevmatch.errors import ConfigError, DataError
from prevmatch.models.segmenter import Segmenter
from prevmatch.ownership import OwnFiles
from prevmatch.progress import progress
from prevmatch.share.pictures import overlay, palette_mask
from prevmatch.use.predict import Picture, read_picture, read_rgb, segment

LONGEST_NAME = 255
"""Bytes that a file's name may have."""


def find_inputs(inputs: Sequence[Path], output_dir: Path) -> dict[Path, str]:
    """The images that `inputs` (files, and folders with all below them) name, each once, and a name for its maps.

    Names are the shortest that differ for all of them: paths below the folder without suffix, with it, with the
    folder's name in front, or below the last folder that holds all images. Maps that were written to output_dir before
    are no images. Raises DataError if an input does not exist or there is no image at all.
    """
    found: dict[str, tuple[Path, Path]] = {}
    own = OwnFiles(output_dir.resolve())
    for given in inputs:
        if not given.exists():
            raise DataError(f"{given} does not exist; give images or folders of images")
        walked = walk(given, any_name=True) if given.is_dir() else Walk(given.parent, [given])
        for note in walked.notes():
            print(note)
        for path in walked.files:
            real = os.path.realpath(path)
            if Path(real).is_relative_to(own.folder) and own.has(Path(real)):
                continue
            found.setdefault(real, (path, given if given.is_dir() else given.parent))
    if not found:
        raise DataError(f"no images ({', '.join(IMAGE_SUFFIXES)}) in {', '.join(map(str, inputs)) or 'nothing'}")
    names: list[str] = []
    for name in (_stem, _name, _with_folder):
        names = [name(path, root) for path, root in found.values()]
        if _fit_together(names):
            break
    else:
        names = _from_common_folder(list(found))
    return dict(zip((path for path, _ in found.values()), map(_short, names), strict=True))


def predict_files(
    model: Segmenter,
    files: dict[Path, str],
    output_dir: Path,
    kinds: Sequence[MapKind],
    config: PredictConfig,
    *,
    overwrite: bool = False,
) -> list[str]:
    """Segment image files and write output_dir/KIND/NAME.png of each; returns a line for every file that failed.

    Holds only a few images at a time. Raises ConfigError before anything is written if a map would take the place of
    an image that is to be segmented, or, without `overwrite`, of a file that this function did not write; and later if
    a map cannot be written.
    """
    own = OwnFiles(output_dir, overwrite=overwrite)
    outputs = [output_dir / kind / f"{name}.png" for kind in kinds for name in files.values()]
    own.require(outputs)
    images = set(map(os.path.realpath, files))
    for path in outputs:
        if os.path.realpath(path) in images:
            raise ConfigError(f"{path} is to be segmented and would be replaced by a map; choose another output_dir")
    failures: list[str] = []
    order: list[tuple[Path, str]] = []
    bar = progress(total=len(files), desc="predict", unit="image")

    def pictures() -> Iterator[Picture]:
        for path, name in files.items():
            try:
                picture = read_picture(path, config, model.config)
            except DataError as error:
                failures.append(str(error))
                bar.update()
                continue
            order.append((path, name))
            yield picture

    with bar:
        for number, ids in segment(model, pictures(), config):
            path, name = order[number]
            for kind in kinds:
                file = io.BytesIO()
                _map(kind, path, ids, model).save(file, "PNG")
                own.write(output_dir / kind / f"{name}.png", file.getvalue())
            bar.update()
    return failures


def _map(kind: MapKind, path: Path, ids: np.ndarray, model: Segmenter) -> Image.Image:
    if kind == "ids":
        return Image.fromarray(ids)
    if kind == "colour_map":
        return palette_mask(ids, model.config.palette)
    rgb = read_rgb(path, model.config.image_bits)  # again, so that no image waits in memory for its result
    return overlay(rgb, ids, list(model.config.id2label.values()), model.config.palette)


def _fit_together(names: Sequence[str]) -> bool:
    """Whether each name has a file of its own, none of which stands where another one needs a folder."""
    files = {f"{name}.png".casefold() for name in names}  # some file systems ignore case
    folders = {str(parent) for file in files for parent in PurePosixPath(file).parents}
    return len(files) == len(names) and not files & folders


def _stem(path: Path, root: Path) -> str:
    return path.relative_to(root).with_suffix("").as_posix()


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _with_folder(path: Path, root: Path) -> str:
    return f"{root.resolve().name}/{_name(path, root)}"


def _from_common_folder(paths: Sequence[str]) -> list[str]:
    """Paths below the last folder that holds all; where only case tells them apart, with the path's hash behind."""
    try:
        common = os.path.commonpath(paths)
    except ValueError:  # on several drives
        common = ""
    names = [(Path(path).relative_to(common) if common else Path(*Path(path).parts[1:])).as_posix() for path in paths]
    if _fit_together(names):
        return names
    return [f"{name}~{_hash(path)}" for name, path in zip(names, paths, strict=True)]


def _short(name: str) -> str:
    """A name whose last part is no longer than a file's name may be, `.png` included."""
    folder, slash, last = name.rpartition("/")
    if len(os.fsencode(f"{last}.png")) <= LONGEST_NAME:
        return name
    tail = f"~{_hash(name)}"
    kept = os.fsencode(last)[: LONGEST_NAME - len(f"{tail}.png")].decode(errors="ignore")
    return f"{folder}{slash}{kept}{tail}"


def _hash(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:8]
