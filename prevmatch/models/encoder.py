"""A timm encoder reduced to the two features that DeepLabV3+ reads: stride 4 and stride 16."""

from difflib import get_close_matches
from functools import partial
from pathlib import Path

import timm
import torch
from safetensors import safe_open
from timm.models import FeatureHookNet
from torch import nn

from prevmatch.config import IMAGENET_MEAN, IMAGENET_STD
from prevmatch.errors import CheckpointError, ConfigError

LOW_STRIDE, HIGH_STRIDE = 4, 16


PUBLISHED_XCEPTION = "xception65.published"
"""Xception-65 as the published COCO runs have it; `xception65` is timm's own."""


def build_encoder(name: str, *, weights: str = "none") -> nn.Module:
    """Return a module that maps images (B, 3, H, W) to the features [(B, c4, H/4, W/4), (B, c16, H/16, W/16)].

    `feature_info.channels()` of the result gives (c4, c16). `weights` is "none", "timm" (downloads the pretrained
    weights) or a file with timm's names (safetensors, or a .pth that is loaded weights-only).
    Raises ConfigError for an unknown encoder or one without these strides, CheckpointError for an unfit file.
    """
    if name == PUBLISHED_XCEPTION:
        return _published_xception(weights)
    if not timm.is_model(name):
        close = ", ".join(get_close_matches(name, timm.list_models(), 3, 0.5)) or "see timm.list_models()"
        raise ConfigError(f"encoder {name!r} is not known to timm {timm.__version__}; try: {close}")
    return _create(name, weights, features_only=True, out_indices=_feature_indices(name))


def encoder_statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation (RGB, range [0, 1]) of the images that the encoder's weights expect."""
    if name == PUBLISHED_XCEPTION:
        return IMAGENET_MEAN, IMAGENET_STD
    pretrained = timm.get_pretrained_cfg(name)
    return (tuple(pretrained.mean), tuple(pretrained.std)) if pretrained else (IMAGENET_MEAN, IMAGENET_STD)


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


def _published_xception(weights: str) -> nn.Module:
    """timm's Xception-65, changed where the published one differs; the golden logits hold only with all of this."""
    body = _create("xception65", weights)
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


def _create(name: str, weights: str, **options: object) -> nn.Module:
    create = partial(timm.create_model, name, **options)
    if weights not in ("none", "timm"):
        path = Path(weights)
        _check_file(name, path)
        create = partial(create, pretrained_cfg_overlay={"file": str(path)})
    try:
        return create(pretrained=weights != "none", output_stride=HIGH_STRIDE)
    except (TypeError, NotImplementedError, AssertionError):  # encoders whose strides are fixed
        return create(pretrained=weights != "none")


def _check_file(name: str, path: Path) -> None:
    """Refuse a file without this encoder's tensors; timm would load whatever matches and leave the rest random."""
    if not path.is_file():
        raise CheckpointError(f"encoder_weights: {path} is not a file; give a weights file, or 'timm' or 'none'")
    with torch.device("meta"):
        model = timm.create_model(name)
    classifier = (model.pretrained_cfg.get("classifier") or "",)
    classifier = classifier if isinstance(classifier[0], str) else tuple(classifier[0])
    needed = {k for k, _ in model.named_parameters() if not k.startswith(tuple(c + "." for c in classifier))}
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
