"""Segmenting files and folders of any length: which files, what their maps are called, and writing those."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image

from prevmatch.config import MapKind, PredictConfig
from prevmatch.data.walking import IMAGE_SUFFIXES, Walk, walk
from prevmatch.errors import DataError
from prevmatch.models.segmenter import Segmenter
from prevmatch.progress import progress
from prevmatch.share.pictures import overlay, palette_mask
from prevmatch.use.predict import Picture, read_picture, read_rgb, segment
from prevmatch.writing import write_picture


def find_inputs(inputs: Sequence[Path], output_dir: Path) -> dict[Path, str]:
    """The images that `inputs` (files, and folders with all below them) name, each once, and a name for its maps.

    Names are the shortest that differ for all of them: paths below the folder without suffix, with it, with the
    folder's name in front, or whole paths. Maps that are already in output_dir are no images. Raises DataError if an
    input does not exist or there is no image at all.
    """
    found: dict[Path, tuple[Path, Path]] = {}
    maps = {(output_dir / kind).resolve() for kind in get_args(MapKind)}
    for given in inputs:
        if not given.exists():
            raise DataError(f"{given} does not exist; give images or folders of images")
        walked = walk(given, without=maps) if given.is_dir() else Walk(given.parent, [given])
        for note in walked.notes():
            print(note)
        for path in walked.files:
            found.setdefault(path.resolve(), (path, given if given.is_dir() else given.parent))
    if not found:
        raise DataError(f"no images ({', '.join(IMAGE_SUFFIXES)}) in {', '.join(map(str, inputs)) or 'nothing'}")
    for name in (_stem, _name, _with_folder, _whole):
        names = [name(path, root) for path, root in found.values()]
        if len({text.casefold() for text in names}) == len(names):  # some file systems ignore case
            break
    return dict(zip((path for path, _ in found.values()), names, strict=True))


def predict_files(
    model: Segmenter, files: dict[Path, str], output_dir: Path, kinds: Sequence[MapKind], config: PredictConfig
) -> list[str]:
    """Segment image files and write output_dir/KIND/NAME.png of each; returns a line for every file that failed.

    Holds only a few images at a time. Raises DataError if a map cannot be written.
    """
    failures: list[str] = []
    order: list[tuple[Path, str]] = []
    bar = progress(total=len(files), desc="predict", unit="image")

    def pictures() -> Iterator[Picture]:
        for path, name in files.items():
            try:
                picture = read_picture(path, config, model.config.image_size)
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
                _write(output_dir / kind / f"{name}.png", _map(kind, path, ids, model))
            bar.update()
    return failures


def _map(kind: MapKind, path: Path, ids: np.ndarray, model: Segmenter) -> Image.Image:
    if kind == "ids":
        return Image.fromarray(ids)
    if kind == "colour_map":
        return palette_mask(ids, model.config.palette)
    rgb = read_rgb(path)  # again, so that no image waits in memory for its result
    return overlay(rgb, ids, list(model.config.id2label.values()), model.config.palette)


def _write(path: Path, picture: Image.Image) -> None:
    try:
        write_picture(path, picture)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error}); choose another output_dir") from error


def _stem(path: Path, root: Path) -> str:
    return path.relative_to(root).with_suffix("").as_posix()


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _with_folder(path: Path, root: Path) -> str:
    return f"{root.resolve().name}/{_name(path, root)}"


def _whole(path: Path, root: Path) -> str:
    return path.resolve().relative_to(path.resolve().anchor).as_posix()
