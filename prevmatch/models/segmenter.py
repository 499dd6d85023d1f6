"""Segmenter: what a user keeps after training; encoder, decoder, class names, palette and normalisation in one."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from prevmatch.config import DecoderKind, PredictConfig, SegmenterConfig
from prevmatch.errors import CheckpointError, ConfigError
from prevmatch.models.deeplab import DeepLabV3PlusDecoder
from prevmatch.models.dpt import DPTDecoder
from prevmatch.models.encoder import build_encoder
from prevmatch.models.linear import LinearDecoder
from prevmatch.models.saved import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    find_folder,
    load_strictly,
    read_config,
    read_weights,
    write_model,
)
from prevmatch.share.pictures import overlay
from prevmatch.use.predict import ImageLike, predict, read_rgb, segments

Perturbation = Callable[[list[Tensor]], list[Tensor]]
"""Features of the encoder, each (B, C, h, w) → features, of as many images or a multiple."""


def at_least_float32(values: Tensor) -> Tensor:
    """Half precisions as float32; what is more precise stays as it is."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def enlarge(logits: Tensor, images: Tensor) -> Tensor:
    """Logits (B, C, h, w) at the size of images (B, 3, H, W) or maps (B, H, W)."""
    # Contiguous: in channels_last a CPU's softmax over classes takes three times as long.
    return interpolate(logits.contiguous(), images.shape[-2:], mode="bilinear", align_corners=True)


def _decoder_kind(config: SegmenterConfig, channels: Sequence[int]) -> DecoderKind:
    """The decoder that the settings mean; raises ConfigError for one that cannot read the encoder's features."""
    fitting: DecoderKind = "dpt" if len(channels) == 4 else "deeplab"
    if config.decoder_kind in ("auto", fitting):
        return fitting
    if config.decoder_kind != "linear":
        features = (
            "features at one stride only" if fitting == "dpt" else "features at strides 4 and 16, is no plain ViT"
        )
        raise ConfigError(
            f"decoder_kind is {config.decoder_kind} but encoder {config.encoder!r} has {features}; choose {fitting}, "
            "linear or another encoder"
        )
    return "linear"


def _build_decoder(config: SegmenterConfig, channels: Sequence[int]) -> nn.Module:
    """The decoder of that kind for features of so many channels, shallow to deep."""
    if config.decoder_kind == "dpt":
        return DPTDecoder(channels, config.num_classes)
    if config.decoder_kind == "linear":
        return LinearDecoder(channels[-1], config.num_classes)
    low, high = channels
    return DeepLabV3PlusDecoder(
        low,
        high,
        config.num_classes,
        channels=config.decoder_channels,
        low_channels=config.low_level_channels,
        rates=config.atrous_rates,
    )


class Segmenter(nn.Module):
    """A semantic segmentation network over any timm encoder.

    Called with normalised images (B, 3, H, W) it gives logits (B, num_classes, H, W).
    `encoder_weights` ("none", "timm" or a file) only matters for a network that is about to be trained.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: SegmenterConfig, *, encoder_weights: str = "none"):
        super().__init__()
        self.encoder, channels = build_encoder(config.encoder, weights=encoder_weights)
        self.encoder_trains = True
        self.config = config = replace(config, decoder_kind=_decoder_kind(config, channels))
        self.decoder = _build_decoder(config, channels)
        # On the device with the network: made anew for each batch they would make the host wait for the copy.
        self.register_buffer("pixel_mean", torch.tensor(config.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(config.std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor, perturb: Perturbation | None = None, *, enlarged: bool = True) -> Tensor:
        """Map normalised images (B, 3, H, W) to logits (B, C, H, W), or as small as the decoder has them.

        `perturb` changes the encoder's features before the decoder sees them. What it adds to the batch (a second copy
        with channels dropped, say) passes the decoder with the rest, so that BatchNorm sees all of it together.
        """
        features = self.encoder(images)
        if perturb is not None:
            features = perturb(features)
        logits = self.decoder(*features)
        return enlarge(logits, images) if enlarged else logits

    def train(self, mode: bool = True) -> Self:
        """Switch train mode on or off; a frozen encoder stays in eval mode."""
        super().train(mode)
        if not self.encoder_trains:
            self.encoder.eval()
        return self

    def freeze_encoder(self) -> None:
        """Leave the encoder as it is from now on: without gradients, in eval mode."""
        self.encoder_trains = False
        self.encoder.eval().requires_grad_(False)

    def checkpoint_encoder(self) -> None:
        """Compute the encoder's blocks a second time in the backward pass instead of keeping their values.

        Raises ConfigError where that would change the result.
        """
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.encoder.modules()):
            raise ConfigError(
                f"gradient_checkpointing would move the BatchNorm statistics of encoder {self.config.encoder!r} twice "
                "in a step; leave it out, or choose an encoder without BatchNorm (a ViT, ConvNeXt)"
            )
        self.encoder.set_grad_checkpointing(True)  # type: ignore[operator]

    def normalize(self, images: Tensor) -> Tensor:
        """Map RGB images (B, 3, H, W), uint8 or float in [0, 255], to what the encoder was trained on.

        Computed in float32; the result has the dtype of the weights.
        """
        return ((images / 255 - self.pixel_mean) / self.pixel_std).to(self.pixel_mean.dtype)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @overload
    def predict(
        self, images: ImageLike, *, probabilities: bool = False, window: int | None = None, size: int | None = None,
        flip: bool = False, scales: Sequence[float] = (1.0,), batch_size: int = 8,
    ) -> np.ndarray: ...  # fmt: skip
    @overload
    def predict(
        self, images: list[ImageLike] | tuple[ImageLike, ...], *, probabilities: bool = False,
        window: int | None = None, size: int | None = None, flip: bool = False, scales: Sequence[float] = (1.0,),
        batch_size: int = 8,
    ) -> list[np.ndarray]: ...  # fmt: skip
    def predict(
        self,
        images: ImageLike | list[ImageLike] | tuple[ImageLike, ...],
        *,
        probabilities: bool = False,
        window: int | None = None,
        size: int | None = None,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        batch_size: int = 8,
    ) -> np.ndarray | list[np.ndarray]:
        """Segment one image, or each of a list or of the image files in a folder.

        An image is a path, a PIL image of any mode, or an array uint8 (H, W, 3) or (H, W). Photos are turned upright
        as their EXIF says, and results have the upright image's size. Returns class ids uint8 (H, W), or, with
        `probabilities`, float32 (C, H, W); a list of them for a list or folder (sorted by path).

        The other arguments are those of `PredictConfig`: sliding `window` (0: none; default: the model's protocol),
        `size`, averaging over `flip` and `scales`, `batch_size`. Images of more than 8 million pixels (after scaling
        to the model's image_size) are segmented in overlapping tiles unless window=0. Raises DataError for what cannot
        be read as an image, ConfigError for a wrong setting.
        """
        config = PredictConfig(window=window, size=size, flip=flip, scales=tuple(scales), batch_size=batch_size)
        return predict(self, images, config, probabilities=probabilities)

    def segments(self, image: ImageLike, **options: Any) -> list[dict]:
        """The classes found in one image, as transformers' image-segmentation pipeline gives them.

        A list of {"score": None, "label": class name, "mask": PIL image of mode L, 255 where the class is}; `options`
        are those of `predict`.
        """
        return segments(self.predict(image, **options), self.config.id2label)

    def overlay(self, image: ImageLike, **options: Any) -> Image.Image:
        """One image under the colours of its classes, with a legend, as an RGB picture; `options` as in `predict`."""
        ids = self.predict(image, **options)
        return overlay(
            read_rgb(image, self.config.image_bits), ids, list(self.config.id2label.values()), self.config.palette
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json, preprocessor_config.json and model.safetensors into `folder`; the rest in it stays.

        Raises CheckpointError if they cannot be written, or such files there belong to something else. A model that
        was there before then stays, or the new one is whole, also after a kill.
        """
        write_model(Path(folder), self.config, self.state_dict())

    @classmethod
    def from_pretrained(
        cls,
        repo_or_folder: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Load a Segmenter, in eval mode, from a folder or a Hub repository.

        `revision` is a branch, tag or commit; `device` defaults to the CPU and `dtype` (of weights and computation,
        such as torch.bfloat16) to float32. Strict: raises CheckpointError if a file or weight is missing, extra, or of
        another shape, or if the repository cannot be read; ConfigError for a device or dtype that cannot be used.
        """
        folder = find_folder(repo_or_folder, revision=revision, token=token, cache_dir=cache_dir)
        config = read_config(folder / CONFIG_FILE)
        state = read_weights(folder / WEIGHTS_FILE)
        try:
            model = cls(config)
        except ConfigError as error:
            raise CheckpointError(f"{folder / CONFIG_FILE}: {error}") from error
        load_strictly(model, state, folder / WEIGHTS_FILE)
        try:
            return model.to(device=device, dtype=dtype).eval()
        except (RuntimeError, AssertionError, TypeError) as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(f"device {device}, dtype {dtype} cannot be used here ({reason})") from error

    @classmethod
    def from_published(cls, path: str | Path, backbone: str, num_classes: int) -> Self:
        """Load a checkpoint as released with the paper; see `prevmatch.models.published`."""
        from prevmatch.models.published import published_config, published_state

        model = cls(published_config(backbone, num_classes))
        load_strictly(model, published_state(path, backbone), path)
        return model.eval()

    def push_to_hub(self, repo_id: str, *, private: bool | None = None, token: str | None = None) -> str:
        """Upload to the Hub repository `repo_id`, created if needed; returns its address.

        A repository without a card gets one; `prevmatch push` writes one with what is known of a run. Raises
        CheckpointError if the Hub cannot be reached or refuses; the same call then tries again.
        """
        from prevmatch.share.hub import collect, first_line, send

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(Path(folder) / "model")
            upload = collect(Path(folder) / "model")
            try:
                return send(upload, repo_id, private=private, token=token, keep_card=True)[1]
            except Exception as error:  # the client raises errors of many families
                raise CheckpointError(
                    f"the model could not be uploaded to {repo_id!r} ({first_line(error)}); check token and "
                    "connection, then repeat"
                ) from error
