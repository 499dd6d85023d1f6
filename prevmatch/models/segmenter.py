"""Segmenter: what a user keeps after training; encoder, decoder, class names, palette and normalisation in one."""

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import torch
from huggingface_hub import HfApi, snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import dropout2d, interpolate

from prevmatch.config import SegmenterConfig
from prevmatch.errors import CheckpointError
from prevmatch.files import replace_folder
from prevmatch.models.deeplab import DeepLabV3PlusDecoder
from prevmatch.models.encoder import build_encoder
from prevmatch.predict import ImageLike, predict

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"


class Segmenter(nn.Module):
    """A semantic segmentation network over any timm encoder.

    Called with normalised images (B, 3, H, W) it gives logits (B, num_classes, H, W).
    `encoder_weights` ("none", "timm" or a file) only matters for a network that is about to be trained.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: SegmenterConfig, *, encoder_weights: str = "none"):
        super().__init__()
        self.config = config
        # On the device with the network: made anew for each batch they would make the host wait for the copy.
        self.register_buffer("pixel_mean", torch.tensor(config.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(config.std).view(3, 1, 1), persistent=False)
        self.encoder, (low, high) = build_encoder(config.encoder, weights=encoder_weights)
        self.decoder = DeepLabV3PlusDecoder(
            low,
            high,
            config.num_classes,
            channels=config.decoder_channels,
            low_channels=config.low_level_channels,
            rates=config.atrous_rates,
        )

    @overload
    def forward(self, images: Tensor) -> Tensor: ...
    @overload
    def forward(self, images: Tensor, feature_dropout: float) -> tuple[Tensor, Tensor]: ...
    def forward(self, images: Tensor, feature_dropout: float | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Map normalised images (B, 3, H, W) to logits (B, C, H, W).

        With a `feature_dropout` probability the decoder also answers on features whose channels were dropped
        (UniMatch's feature perturbation); the result is then (logits, perturbed logits). Both halves pass the decoder
        as one batch, so its BatchNorm sees them together.
        """
        features = self.encoder(images)
        if feature_dropout is not None:
            features = [torch.cat([f, dropout2d(f, feature_dropout, self.training)]) for f in features]
        logits = interpolate(self.decoder(*features), images.shape[-2:], mode="bilinear", align_corners=True)
        if feature_dropout is None:
            return logits
        clean, perturbed = logits.tensor_split(2)
        return clean, perturbed

    def normalize(self, images: Tensor) -> Tensor:
        """Map RGB images (B, 3, H, W), uint8 or float in [0, 255], to what the encoder was trained on (float32)."""
        return (images / 255 - self.pixel_mean) / self.pixel_std

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @overload
    def predict(self, images: ImageLike) -> np.ndarray: ...
    @overload
    def predict(self, images: list[ImageLike] | tuple[ImageLike, ...]) -> list[np.ndarray]: ...
    def predict(self, images: ImageLike | list[ImageLike] | tuple[ImageLike, ...]) -> np.ndarray | list[np.ndarray]:
        """Class ids uint8 (H, W) of one image, or of each of a list, at its own size; see `prevmatch.predict`."""
        return predict(self, images)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors` into `folder`, which is replaced as a whole.

        Raises CheckpointError if it cannot be written; what was in the folder then stays.
        """
        config = {"library_name": "prevmatch", **dataclasses.asdict(self.config)}
        try:
            with replace_folder(folder) as aside:
                save_file({k: v.contiguous() for k, v in self.state_dict().items()}, aside / WEIGHTS_FILE)
                (aside / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"model folder {folder} cannot be written ({error}); free space or choose another"
            ) from error

    @classmethod
    def from_pretrained(
        cls,
        repo_or_folder: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
    ) -> Self:
        """Load a Segmenter, in eval mode, from a folder or a Hub repository.

        Strict: raises CheckpointError if a file or weight is missing, extra, or of another shape.
        """
        folder = Path(repo_or_folder)
        if not folder.is_dir():
            folder = _download(str(repo_or_folder), revision=revision, token=token, cache_dir=cache_dir)
        model = cls(_read_config(folder / CONFIG_FILE))
        try:
            state = load_file(folder / WEIGHTS_FILE)
        except Exception as error:
            raise CheckpointError(
                f"{folder / WEIGHTS_FILE} is missing or damaged; save or download it again"
            ) from error
        load_strictly(model, state, folder / WEIGHTS_FILE)
        return model.eval()

    @classmethod
    def from_published(cls, path: str | Path, backbone: str, num_classes: int) -> Self:
        """Load a checkpoint as released with the paper; see `prevmatch.models.published`."""
        from prevmatch.models.published import published_config, published_state

        model = cls(published_config(backbone, num_classes))
        load_strictly(model, published_state(path, backbone), path)
        return model.eval()

    def push_to_hub(self, repo_id: str, *, private: bool | None = None, token: str | None = None) -> str:
        """Upload to the Hub repository `repo_id`, created if needed; returns its address."""
        api = HfApi(token=token)
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(Path(folder) / "model")
            api.upload_folder(
                repo_id=url.repo_id, folder_path=Path(folder) / "model", commit_message="Upload Segmenter"
            )
        return str(url)


def load_strictly(model: nn.Module, state: dict[str, Tensor], source: str | Path) -> None:
    """Load `state`; raises CheckpointError, naming `source`, unless names and shapes agree exactly."""
    own = model.state_dict()
    differences = (
        [f"{k} is missing" for k in own if k not in state]
        + [f"{k} is unknown" for k in state if k not in own]
        + [
            f"{k} has shape {tuple(state[k].shape)} where {tuple(v.shape)} is needed"
            for k, v in own.items()
            if k in state and state[k].shape != v.shape
        ]
    )
    if differences:
        more = f" (and {len(differences) - 1} more differences)" if len(differences) > 1 else ""
        raise CheckpointError(
            f"{source} does not fit this model: {differences[-1]}{more}; check class count and encoder"
        )
    model.load_state_dict(state)


def _download(repo: str, **options: Any) -> Path:
    try:
        return Path(snapshot_download(repo, allow_patterns=[WEIGHTS_FILE, CONFIG_FILE], **options))
    except Exception as error:
        raise CheckpointError(
            f"{repo!r} is neither a folder nor a reachable Hub repository ({type(error).__name__}); check the name"
        ) from error


def _read_config(path: Path) -> SegmenterConfig:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; this is no folder that save_pretrained wrote")
    try:
        given = json.loads(path.read_text())
        given.pop("library_name", None)
        # JSON has lists where the configuration has (nested) tuples.
        return SegmenterConfig(**{k: _tuples(v) for k, v in given.items()})
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is not the configuration of a prevmatch Segmenter ({error})") from error


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
