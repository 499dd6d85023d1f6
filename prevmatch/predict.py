"""Class ids for images of any size."""

from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from prevmatch.data.crops import fitted_size
from prevmatch.errors import DataError
from prevmatch.evaluate import class_scores

if TYPE_CHECKING:
    from prevmatch.models.segmenter import Segmenter

ImageLike = str | Path | Image.Image | np.ndarray


@overload
def predict(model: "Segmenter", images: ImageLike) -> np.ndarray: ...
@overload
def predict(model: "Segmenter", images: list[ImageLike] | tuple[ImageLike, ...]) -> list[np.ndarray]: ...
def predict(
    model: "Segmenter", images: ImageLike | list[ImageLike] | tuple[ImageLike, ...]
) -> np.ndarray | list[np.ndarray]:
    """Segment one image, or each of a list, by the model's own protocol (whole image or sliding window).

    An image is a path, a PIL image, or an array uint8 (H, W, 3) or (H, W). Returns class ids uint8 (H, W) at the
    image's size, a list of them for a list. Raises DataError for what cannot be read as an image.
    """
    if not isinstance(images, ImageLike):
        return [predict(model, image) for image in images]
    image = _as_rgb(images)
    size = (image.height, image.width)
    if model.config.image_size is not None:
        image = image.resize(fitted_size(image.size, model.config.image_size), Image.Resampling.BILINEAR)
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).to(model.device)[None]
    training = model.training
    try:
        scores = class_scores(model.eval(), model.normalize(tensor), model.config.eval_window)
    finally:
        model.train(training)
    return _best_class(scores, size).to(torch.uint8).cpu().numpy()


def _best_class(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Class ids (H, W) of scores (1, C, h, w) enlarged to `size`, one class after the other to save memory."""
    if scores.shape[-2:] == size:
        return scores.argmax(dim=1)[0]
    best = torch.full(size, -torch.inf, device=scores.device)
    ids = torch.zeros(size, dtype=torch.int64, device=scores.device)
    for label in range(scores.shape[1]):
        score = interpolate(scores[:, label : label + 1].float(), size, mode="bilinear", align_corners=False)[0, 0]
        ids = torch.where(score > best, label, ids)
        best = torch.maximum(best, score)
    return ids


def _as_rgb(image: ImageLike) -> Image.Image:
    try:
        if isinstance(image, Image.Image):
            opened = image
        else:
            opened = Image.fromarray(image) if isinstance(image, np.ndarray) else Image.open(image)
        return opened.convert("RGB")  # decodes the file, so that a torn one is noticed here
    except Exception as error:
        name = f"an array of shape {image.shape}" if isinstance(image, np.ndarray) else str(image)
        raise DataError(f"{name} cannot be read as an image ({type(error).__name__}); check the file") from None
