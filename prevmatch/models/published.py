"""The checkpoints released with PrevMatch and with UniMatch V2: their names, and how they map onto a Segmenter's.

Of UniMatch V2's none was at hand: the names are those of its public code, and of facebook's DINOv2 inside it.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor

from prevmatch.config import ENCODERS as DINOV2
from prevmatch.config import SegmenterConfig
from prevmatch.errors import CheckpointError, ConfigError
from prevmatch.models.encoder import PUBLISHED_XCEPTION

ENCODERS = {"resnet50": "resnet50s", "resnet101": "resnet101s", "xception": PUBLISHED_XCEPTION, **DINOV2}
DINOV2_WIDTHS = {384: "dinov2_small", 768: "dinov2_base", 1024: "dinov2_large"}

# UniMatch V2's DPT head; its levels count from 1 in `scratch`.
DPT_NAMES = (
    (r"^head\.projects\.(\d)\.", lambda m: f"decoder.levels.{m[1]}.0."),
    (r"^head\.resize_layers\.(\d)\.", lambda m: f"decoder.levels.{m[1]}.1."),
    (r"^head\.scratch\.layer(\d)_rn\.", lambda m: f"decoder.levels.{int(m[1]) - 1}.2."),
    (r"^head\.scratch\.refinenet(\d)\.", lambda m: f"decoder.fusions.{int(m[1]) - 1}."),
    (r"\.resConfUnit([12])\.conv([12])\.",
     lambda m: f".{('level', 'fused')[int(m[1]) - 1]}.{('first', 'second')[int(m[2]) - 1]}."),
    (r"\.out_conv\.", lambda m: ".out."),
    (r"^head\.scratch\.output_conv\.", lambda m: "decoder.classifier."),
)  # fmt: skip
UNUSED = "head.scratch.refinenet4.resConfUnit1."
"""The deepest level has nothing to join, but the published head keeps tensors for it."""

_scalar: Any = np.float64(0).__reduce__()[0]
NUMBERS: list[Any] = [
    np.dtype, type(np.dtype(np.float64)), *((_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core"))
]  # fmt: skip
"""What unpickles the scores, numbers of numpy, that released checkpoints hold beside their tensors."""

Rules = Sequence[tuple[str, Callable[[re.Match[str]], str]]]

# Longest prefixes first: `head.b4.gap` before `head.b4`.
DECODER_NAMES = {
    "head.b4.gap.": "decoder.aspp.pooling.",
    "head.b0.": "decoder.aspp.branches.0.",
    "head.b1.": "decoder.aspp.branches.1.",
    "head.b2.": "decoder.aspp.branches.2.",
    "head.b3.": "decoder.aspp.branches.3.",
    "head.project.": "decoder.aspp.project.",
    "reduce.": "decoder.reduce.",
    "fuse.": "decoder.fuse.",
    "classifier.": "decoder.classifier.",
}

# Xception in timm's words: the stem counts from 0, `skip` is `shortcut`, conv3-5 are the last block's.
XCEPTION_NAMES = (
    (r"^conv([12])\.", lambda m: f"stem.{int(m[1]) - 1}.conv."),
    (r"^bn([12])\.", lambda m: f"stem.{int(m[1]) - 1}.bn."),
    (r"^block(\d+)\.", lambda m: f"blocks.{int(m[1]) - 1}."),
    (r"^conv([345])\.", lambda m: f"blocks.20.stack.conv{int(m[1]) - 2}."),
    (r"\.skip\.", lambda m: ".shortcut.conv."),
    (r"\.skipbn\.", lambda m: ".shortcut.bn."),
    (r"\.sepconv(\d)\.", lambda m: f".stack.conv{m[1]}."),
    (r"\.(depthwise|pointwise)\.", lambda m: {"depthwise": ".conv_dw.", "pointwise": ".conv_pw."}[m[1]]),
    (r"\.bn([12])\.", lambda m: {"1": ".bn_dw.", "2": ".bn_pw."}[m[1]]),
)


def published_config(backbone: str, num_classes: int) -> SegmenterConfig:
    """Architecture of a released checkpoint; `backbone` is resnet50, resnet101, xception or dinov2_small, _base or
    _large."""
    if backbone not in ENCODERS:
        raise ConfigError(f"backbone {backbone!r} is not published; choose one of {', '.join(ENCODERS)}")
    return SegmenterConfig(encoder=ENCODERS[backbone], num_classes=num_classes)


def published_state(path: str | Path, backbone: str) -> dict[str, Tensor]:
    """Read a released .pth and give its tensors a Segmenter's names; see `read_released` for errors."""
    return segmenter_state(read_released(path), backbone)


def segmenter_state(state: dict[str, Tensor], backbone: str) -> dict[str, Tensor]:
    """The tensors of a released checkpoint under a Segmenter's names."""
    if backbone not in DINOV2:
        return {published_name(name, backbone): tensor for name, tensor in state.items()}
    head = {name: tensor for name, tensor in state.items() if name.startswith("head.")}
    with torch.device("meta"):
        body: Any = timm.create_model(ENCODERS[backbone], num_classes=0, dynamic_img_size=True)
    encoder = checkpoint_filter_fn({k.removeprefix("backbone."): v for k, v in state.items() if k not in head}, body)
    named = {_renamed(name, DPT_NAMES): t for name, t in head.items() if not name.startswith(UNUSED)}
    return named | {f"encoder.body.{name}": tensor for name, tensor in encoder.items()}


def read_released(path: str | Path) -> dict[str, Tensor]:
    """Read a released .pth, weights-only: its tensors by their own names, without the prefix `module.`.

    Of UniMatch V2's two networks it is the moving average that is taken, as for its published scores.

    Raises CheckpointError if the file cannot be read or is no such checkpoint.
    """
    try:
        with torch.serialization.safe_globals(NUMBERS):
            content = torch.load(path, map_location="cpu", weights_only=True)
        content = content.get("model_ema", content.get("model", content))
        state = {name.removeprefix("module."): tensor for name, tensor in content.items()}
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read as a released checkpoint ({type(error).__name__})") from error
    if not state or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise CheckpointError(f"{path} is no released checkpoint: it does not hold tensors by name")
    return state


def backbone_of(state: dict[str, Tensor]) -> str:
    """Which backbone the tensors of a released checkpoint belong to; raises CheckpointError for none of them."""
    names = {name.removeprefix("backbone.") for name in state}
    if "layer3.22.conv1.weight" in names:
        return "resnet101"
    if "layer3.5.conv1.weight" in names:
        return "resnet50"
    if any(name.startswith("block20.") for name in names):
        return "xception"
    class_token = state.get("backbone.cls_token", state.get("cls_token"))
    if class_token is not None and class_token.shape[-1] in DINOV2_WIDTHS:
        return DINOV2_WIDTHS[class_token.shape[-1]]
    raise CheckpointError(
        "the checkpoint has none of the published backbones (ResNet-50, ResNet-101, Xception-65, DINOv2-S, -B, -L)"
    )


def published_name(name: str, backbone: str) -> str:
    """The Segmenter's name for a tensor of a released checkpoint."""
    for theirs, ours in DECODER_NAMES.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    name = name.removeprefix("backbone.")
    if backbone == "xception":
        name = _renamed(name, XCEPTION_NAMES)
    return f"encoder.{name}"


def _renamed(name: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
