"""A Gradio Space: upload a photo, see which class the model gives each pixel."""

from functools import cache

import numpy as np
from PIL import Image

from prevmatch import Segmenter

MODEL = "user/name"


@cache
def load() -> Segmenter:
    """The model, loaded when it is first needed."""
    return Segmenter.from_pretrained(MODEL)


def predict(image: Image.Image | None) -> tuple[Image.Image, list[tuple[np.ndarray, str]]] | None:
    """The photo with a mask (H, W) bool and a label for each class in it, as `gradio.AnnotatedImage` shows them."""
    if image is None:
        return None
    image = image.convert("RGB")
    ids = load().predict(image)
    return image, [(ids == i, labels()[i]) for i in np.unique(ids)]


def labels() -> list[str]:
    """The name of each class, by its id."""
    config = load().config
    return list(config.class_names) or [f"class {i}" for i in range(config.num_classes)]


def colours() -> dict[str, str]:
    """The model's colour of each class as #rrggbb, by its name; none if it brings no palette."""
    palette = load().config.palette
    return {name: "#{:02x}{:02x}{:02x}".format(*colour) for name, colour in zip(labels(), palette, strict=False)}


if __name__ == "__main__":
    import gradio

    gradio.Interface(
        predict,
        gradio.Image(type="pil", label="Photo"),
        gradio.AnnotatedImage(label="Classes", color_map=colours()),
        title=MODEL,
        flagging_mode="never",
    ).launch()
