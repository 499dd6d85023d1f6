"""The checkpoints released with the paper: their names, and how they map onto a Segmenter's."""

import re
from pathlib import Path

import torch
from torch import Tensor

from prevmatch.config import SegmenterConfig
from prevmatch.errors import CheckpointError, ConfigError
from prevmatch.models.encoder import PUBLISHED_XCEPTION

ENCODERS = {"resnet50": "resnet50s", "resnet101": "resnet101s", "xception": PUBLISHED_XCEPTION}

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
    """Architecture of a released checkpoint; `backbone` is resnet50, resnet101 or xception."""
    if backbone not in ENCODERS:
        raise ConfigError(f"backbone {backbone!r} is not published; choose one of {', '.join(ENCODERS)}")
    return SegmenterConfig(encoder=ENCODERS[backbone], num_classes=num_classes)


def published_state(path: str | Path, backbone: str) -> dict[str, Tensor]:
    """Read a released .pth and give its tensors a Segmenter's names; see `read_released` for errors."""
    return {published_name(name, backbone): tensor for name, tensor in read_released(path).items()}


def read_released(path: str | Path) -> dict[str, Tensor]:
    """Read a released .pth, weights-only: its tensors by their own names, without the prefix `module.`.

    Raises CheckpointError if the file cannot be read or is no such checkpoint.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        content = content.get("model", content)
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
    raise CheckpointError("the checkpoint has none of the published backbones (ResNet-50, ResNet-101, Xception-65)")


def published_name(name: str, backbone: str) -> str:
    """The Segmenter's name for a tensor of a released checkpoint."""
    for theirs, ours in DECODER_NAMES.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    name = name.removeprefix("backbone.")
    if backbone == "xception":
        for pattern, replacement in XCEPTION_NAMES:
            name = re.sub(pattern, replacement, name)
    return f"encoder.{name}"
