"""A Gradio Space: upload a photo, see which class the model gives each pixel."""

from functools import cache

import numpy as np
from PIL import Image

from prevmatch import Segmenter

MODEL = "user/name"


@cache
def load() -> Segmenter:
    """The model, loaded at the first photo."""
    return Segmenter.from_pretrained(MODEL)


def predict(image: Image.Image | None) -> tuple[Image.Image, list[tuple[np.ndarray, str]]] | None:
    """The photo with a mask (H, W) bool and a label for each class in it, as `gradio.AnnotatedImage` shows them."""
    if image is None:
        return None
    model = load()
    image = image.convert("RGB")
    ids = model.predict(image)
    names = model.config.class_names or [f"class {i}" for i in range(model.config.num_classes)]
    return image, [(ids == i, names[i]) for i in np.unique(ids)]


if __name__ == "__main__":
    import gradio

    gradio.Interface(
        predict,
        gradio.Image(type="pil", label="Photo"),
        gradio.AnnotatedImage(label="Classes"),
        title=MODEL,
        flagging_mode="never",
    ).launch()
