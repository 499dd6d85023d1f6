"""CLIP as a dense segmenter, with a tiny random one of transformers."""

import pytest
import torch
from torch.nn.functional import cosine_similarity, interpolate, layer_norm, linear

from prevmatch.errors import CheckpointError, ConfigError
from prevmatch.models.clip import MEAN, STD, load_clip

transformers = pytest.importorskip("transformers")

TEXTS = [["cat"], ["dog", "a puppy"], ["background", "sky", "wall"]]


def test_scores_are_the_cosines_of_patches_that_keep_their_own_values(clip_folder):
    dense = load_clip(str(clip_folder), TEXTS).double()
    clip = transformers.CLIPModel.from_pretrained(clip_folder).double().eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(clip_folder)
    images = 255 * torch.rand(2, 3, 44, 64, dtype=torch.float64)
    with torch.no_grad():
        found = dense(images)
        assert found.shape == (2, 3, 6, 8)  # 44 pixels are five and a half patches
        mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (MEAN, STD))
        pixels = interpolate((images / 255 - mean) / std, (48, 64), mode="bilinear", align_corners=True)
        vision = clip.vision_model
        hidden = vision.pre_layrnorm(vision.embeddings(pixels, interpolate_pos_encoding=True))
        for layer in vision.encoder.layers[:2]:
            hidden = layer(hidden, None)
        last, norm = vision.encoder.layers[2], vision.post_layernorm
        hidden = layer_norm(hidden, (16,), last.layer_norm1.weight, last.layer_norm1.bias)
        value = linear(hidden, last.self_attn.v_proj.weight, last.self_attn.v_proj.bias)
        value = linear(value, last.self_attn.out_proj.weight, last.self_attn.out_proj.bias)
        value = linear(layer_norm(value, (16,), norm.weight, norm.bias), clip.visual_projection.weight)
        for number, texts in enumerate(TEXTS):
            best = []
            for text in texts:
                token = tokenizer([f"a photo of a {text}."], return_tensors="pt")
                direction = clip.text_projection(clip.text_model(**token).pooler_output)
                best.append(100 * cosine_similarity(value, direction[:, None], dim=-1))
            expected = torch.stack(best).amax(0)[:, 1:].reshape(2, 6, 8)
            torch.testing.assert_close(found[:, number], expected, rtol=1e-4, atol=1e-4)
    assert not any(p.requires_grad for p in dense.parameters())


def test_what_is_no_clip_is_refused_in_one_line(tmp_path):
    with pytest.raises(CheckpointError, match="could not be loaded as CLIP") as caught:
        load_clip(str(tmp_path / "nothing"), TEXTS)
    assert "\n" not in str(caught.value)


def test_without_transformers_the_remedy_is_named(clip_folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(
        ConfigError, match=r"needs transformers; install it with pip install 'prevmatch\[transformers\]'"
    ):
        load_clip(str(clip_folder), TEXTS)
