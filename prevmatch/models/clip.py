"""CLIP as a segmenter without training, in MaskCLIP's way (ECCV 2022): the cosine between patches and texts.

Its last block passes each patch's own value on instead of what attention gathers, so that a patch says what it shows.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from prevmatch.errors import CheckpointError, ConfigError
from prevmatch.models.vit import nearest_multiple

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SHARPNESS = 100.0  # of the softmax over cosines, as CLIP was trained


class DenseCLIP(nn.Module):
    """RGB images (B, 3, H, W) in [0, 255] → 100 × cosine with each class (B, C, h, w), h × w being the patch grid.

    A class that several texts mean has the largest of their cosines.
    """

    texts: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, clip: Any, tokenizer: Any, texts: Sequence[Sequence[str]]):
        """`clip` is transformers' CLIPModel, `texts` what means each class."""
        super().__init__()
        self.vision, self.projection = clip.vision_model, clip.visual_projection
        self.patch, self.counts = clip.config.vision_config.patch_size, [len(each) for each in texts]
        phrases = [f"a photo of a {text}." for each in texts for text in each]
        with torch.no_grad():
            tokens = tokenizer(phrases, padding=True, truncation=True, return_tensors="pt")
            directions = normalize(clip.text_projection(clip.text_model(**tokens).pooler_output))
        self.register_buffer("texts", directions)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """The scores."""
        rows, columns = (nearest_multiple(side, self.patch) // self.patch for side in images.shape[-2:])
        images = (images / 255 - self.mean) / self.std
        size = (rows * self.patch, columns * self.patch)
        images = interpolate(images, size, mode="bilinear", align_corners=True)
        vision = self.vision
        hidden = vision(images, interpolate_pos_encoding=True, output_hidden_states=True).hidden_states[-2]
        last = vision.encoder.layers[-1]
        values = last.self_attn.out_proj(last.self_attn.v_proj(last.layer_norm1(hidden[:, 1:])))
        patches = normalize(self.projection(vision.post_layernorm(values)), dim=-1)
        cosines = (patches @ self.texts.T).split(self.counts, dim=-1)
        scores = torch.stack([each.amax(dim=-1) for each in cosines], dim=1)
        return SHARPNESS * scores.unflatten(2, (rows, columns))


def load_clip(name: str, texts: Sequence[Sequence[str]]) -> DenseCLIP:
    """CLIP from a folder or a Hub repository, frozen, in eval mode.

    Raises ConfigError without transformers, CheckpointError for what cannot be loaded.
    """
    try:
        from transformers import AutoTokenizer, CLIPModel
    except ImportError as error:
        raise ConfigError(
            f"{name} needs transformers; install it with pip install 'prevmatch[transformers]'"
        ) from error
    try:
        clip, tokenizer = CLIPModel.from_pretrained(name), AutoTokenizer.from_pretrained(name)
    except Exception as error:  # it raises errors of many families
        raise CheckpointError(
            f"{name} could not be loaded as CLIP ({type(error).__name__}); check name and connection"
        ) from error
    return DenseCLIP(clip, tokenizer, texts).eval().requires_grad_(False)
