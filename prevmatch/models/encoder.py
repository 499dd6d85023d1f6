"""A timm encoder reduced to what a decoder reads: features at strides 4 and 16, or four of a plain ViT."""

import logging
from difflib import get_close_matches
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import timm
import torch
from safetensors import safe_open
from timm.models import FeatureHookNet
from torch import nn

from prevmatch.config import IMAGENET_MEAN, IMAGENET_STD
from prevmatch.errors import CheckpointError, ConfigError
from prevmatch.models.dct import read_coefficients
from prevmatch.models.vit import ViTEncoder

LOW_STRIDE, HIGH_STRIDE = 4, 16

# It warns of the classifier that a feature extractor drops; whether weights fit is checked here.
logging.getLogger("timm.models._builder").setLevel(logging.ERROR)


RGB = tuple[float, float, float]

PUBLISHED_XCEPTION = "xception65.published"
"""Xception-65 as the published COCO runs have it; `xception65` is timm's own."""

DCT = ".dct"
"""At the end of a ResNet's name: it reads cosine coefficients instead of pixels."""


def build_encoder(name: str, *, weights: str = "none") -> tuple[nn.Module, tuple[int, ...]]:
    """Return an encoder and the channels of its features: two, or four of a plain ViT (see `ViTEncoder`).

    It maps images (B, 3, H, W) to [(B, c4, H/4, W/4), (B, c16, H/16, W/16)], or a ViT to four (B, c, h, w) on its
    patch grid. `weights` is "none", "timm" (downloads the pretrained weights) or a file with timm's names
    (safetensors, or a .pth that is loaded weights-only). Raises ConfigError for an unknown encoder or one without
    these strides, CheckpointError for an unfit file.
    """
    if name == PUBLISHED_XCEPTION:
        encoder = _published_xception(weights)
        return encoder, tuple(encoder.feature_info.channels())
    if name.endswith(DCT):
        encoder, channels = build_encoder(name.removesuffix(DCT), weights=weights)
        if not (isinstance(encoder, nn.ModuleDict) and read_coefficients(encoder)):
            raise ConfigError(
                f"encoder {name!r} cannot read cosine coefficients; choose resnet50.dct or resnet101.dct"
            )
        return encoder, channels
    if not _is_known(name):
        names = timm.list_pretrained() if "." in name else timm.list_models()  # with tags, or without
        close = ", ".join(get_close_matches(name, names, 3, 0.5)) or "see timm.list_models()"
        raise ConfigError(f"encoder {name!r} is not known to timm {timm.__version__}; try: {close}")
    if patch_size(name) > 1:
        vit = ViTEncoder(_create(name, weights, num_classes=0, dynamic_img_size=True))
        return vit, vit.channels
    encoder = _create(name, weights, features_only=True, out_indices=_feature_indices(name))
    return encoder, tuple(encoder.feature_info.channels())


@cache
def patch_size(name: str) -> int:
    """Side in pixels of the patches of a plain ViT that takes images of any size; 1 for every other encoder."""
    if not _is_known(name):
        return 1
    try:
        with torch.device("meta"):
            body: Any = timm.create_model(name, num_classes=0, dynamic_img_size=True)
    except TypeError:  # what has no such argument is something else
        return 1
    strides = {info["reduction"] for info in body.feature_info}
    return strides.pop() if len(strides) == 1 and hasattr(body, "blocks") else 1


def encoder_statistics(name: str) -> tuple[RGB, RGB]:
    """Mean and standard deviation (RGB, range [0, 1]) of the images that the encoder's weights expect."""
    name = name.removesuffix(DCT)
    pretrained = timm.get_pretrained_cfg(name) if _is_known(name) else None
    if pretrained is None:
        return IMAGENET_MEAN, IMAGENET_STD
    return cast(RGB, tuple(pretrained.mean)), cast(RGB, tuple(pretrained.std))


def weights_source(name: str) -> tuple[str, str] | None:
    """Where the encoder's pretrained weights come from, a Hub repository, and their licence as it names it
    (`apache-2.0`; DINOv3 has one of its own, `dinov3-license`); None where there are none."""
    pretrained = timm.get_pretrained_cfg(name.removesuffix(".published").removesuffix(DCT))
    if pretrained is None or not pretrained.hf_hub_id:
        return None
    return pretrained.hf_hub_id, pretrained.license or "unknown"


def _is_known(name: str) -> bool:
    """Whether timm has this encoder and, where one is given, this tag of its weights."""
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError:  # a tag that there is not
        return False
    return timm.is_model(name)


@cache
def _feature_indices(name: str) -> tuple[int, int]:
    """Where the encoder's list of features has strides 4 and 16; where several share a stride, the deepest one."""
    try:
        with torch.device("meta"):
            encoder = _create(name, "none", features_only=True).eval()
            images = torch.empty(1, 3, 64, 96)
            shapes = [tuple(feature.shape) for feature in encoder(images)]
    except Exception as error:
        raise ConfigError(
            f"encoder {name!r} cannot give feature maps of images of any size ({type(error).__name__}); choose another"
        ) from error
    strides = encoder.feature_info.reduction()
    if not {LOW_STRIDE, HIGH_STRIDE} <= set(strides):
        raise ConfigError(f"encoder {name!r} has features at strides {strides}; choose one that has 4 and 16")
    low, high = (max(i for i, s in enumerate(strides) if s == stride) for stride in (LOW_STRIDE, HIGH_STRIDE))
    for index in (low, high):
        if shapes[index][-2:] != (64 // strides[index], 96 // strides[index]):
            raise ConfigError(f"encoder {name!r} does not give features as (B, C, H, W); choose another")
    return low, high


def _published_xception(weights: str) -> Any:
    """timm's Xception-65, changed where the published one differs; the golden logits hold only with all of this."""
    body = _create("xception65", weights, num_classes=0)
    for block in body.blocks[:-1]:
        if block.shortcut is None:
            block.stack.act1.inplace = True  # so the skip connection carries what the first ReLU left
    body.blocks[1].stack.act3.inplace = False  # the low-level feature lies before this ReLU
    for module in body.blocks[-1].modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            module.dilation = module.padding = (1, 1)
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = 1e-5, 3e-4
    body.feature_info = [
        {"num_chs": 256, "reduction": LOW_STRIDE, "module": "blocks.1.stack.conv2"},
        {"num_chs": 2048, "reduction": HIGH_STRIDE, "module": "blocks.20"},
    ]
    return FeatureHookNet(body, out_indices=(0, 1), no_rewrite=False)


def _create(name: str, weights: str, **options: Any) -> Any:
    """`timm.create_model` with output stride 16 where the encoder can, and the weights that the settings name."""
    create = partial(timm.create_model, name, pretrained=weights != "none", **options)
    if weights not in ("none", "timm"):
        path = Path(weights)
        _check_file(name, path)
        create = partial(create, pretrained_cfg_overlay={"file": str(path)})
    try:
        try:
            return create(output_stride=HIGH_STRIDE)
        except (TypeError, NotImplementedError, AssertionError):  # encoders whose strides are fixed
            return create()
    except Exception as error:
        if weights == "none":
            raise
        raise CheckpointError(
            f"the weights of encoder {name!r} could not be loaded ({type(error).__name__}); without a connection to "
            "the Hub give a file with --encoder_weights FILE, or none for random weights"
        ) from error


def _check_file(name: str, path: Path) -> None:
    """Refuse a file without this encoder's tensors; timm would load whatever matches and leave the rest random."""
    if not path.is_file():
        raise CheckpointError(f"encoder_weights: {path} is not a file; give a weights file, or 'timm' or 'none'")
    with torch.device("meta"):
        headless = timm.create_model(name, num_classes=0)
    needed = {key for key, _ in headless.named_parameters()}
    missing = needed - _tensor_names(path)
    if missing:
        raise CheckpointError(
            f"{path} lacks {len(missing)} of the {len(needed)} tensors of encoder {name!r}, {min(missing)!r} for one; "
            "give a file with timm's names for this encoder"
        )


def _tensor_names(path: Path) -> set[str]:
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return set(file.keys())
        state = torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"{path} cannot be read as weights ({type(error).__name__}); download it again"
        ) from error
    return set(state.get("state_dict", state.get("model", state)))
