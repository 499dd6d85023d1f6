"""A trained model for other runtimes: ONNX, TorchScript or torch.export, checked against the model before use."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from prevmatch.config import ExportFormat
from prevmatch.errors import CheckpointError, ConfigError
from prevmatch.models.segmenter import Segmenter

Run = Callable[[Tensor], Tensor]

SUFFIXES = {"onnx": ".onnx", "torchscript": ".pt", "torch_export": ".pt2"}

CHECKED_SIZES = ((2, 96, 128), (1, 65, 97), (3, 160, 64), (1, 33, 400))
"""Batch, height, width; the model is exported with the first."""
TOLERANCE = 1e-3
"""How far logits may be off, in standard deviations of the logits."""


class WithNormalization(nn.Module):
    """RGB images float32 (B, 3, H, W) in [0, 255] → logits float32 (B, C, H, W)."""

    def __init__(self, model: Segmenter):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Normalise and segment."""
        return self.model(self.model.normalize(images))


def export(model: Segmenter, format: ExportFormat, output: Path, *, overwrite: bool = False) -> float:
    """Write the model, normalisation included, as a function of RGB images float32 (B, 3, H, W) in [0, 255] to logits.

    Batch, height and width stay free. Returns the largest difference of a logit from the model's, over several sizes.
    Raises ConfigError if a package is missing or, without `overwrite`, the file is there; CheckpointError, leaving
    nothing behind, if the export fails, its outputs differ or the file cannot be written.
    """
    if output.exists() and not overwrite:
        raise ConfigError(f"{output} is there already; choose another --output, or add --overwrite")
    network = WithNormalization(model.cpu().float()).eval()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
            aside = Path(folder) / f"model{SUFFIXES[format]}"
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                run = _EXPORTERS[format](network, torch.rand(_shape(CHECKED_SIZES[0])) * 255, aside)
                difference = _compare(network, run)
            aside.rename(output)
    except (CheckpointError, ConfigError):
        raise
    except ImportError as error:
        raise ConfigError(f"format {format} needs {error.name}; pip install 'prevmatch[export]'") from error
    except OSError as error:
        raise CheckpointError(f"{output} cannot be written ({error.strerror or error}); choose another") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise CheckpointError(
            f"a model with encoder {model.config.encoder!r} cannot be exported as {format} ({reason}); try "
            f"--format {'torchscript' if format == 'onnx' else 'onnx'}"
        ) from error
    return difference


def _compare(network: nn.Module, run: Run) -> float:
    largest = 0.0
    for size in CHECKED_SIZES:
        images = torch.rand(_shape(size), generator=torch.Generator().manual_seed(0)) * 255
        expected, found = network(images), run(images)
        if found.shape != expected.shape:
            raise CheckpointError(
                f"the exported model gives {tuple(found.shape)} at (batch, height, width) {size}; nothing is written"
            )
        difference = float((found - expected).abs().max())
        if not difference <= TOLERANCE * float(expected.std()):
            raise CheckpointError(
                f"the exported logits are off by {difference:.3g} at (batch, height, width) {size}; nothing is written"
            )
        largest = max(largest, difference)
    return largest


def _shape(size: tuple[int, int, int]) -> tuple[int, int, int, int]:
    batch, height, width = size
    return batch, 3, height, width


def _dynamic() -> dict[str, dict[int, object]]:
    return {"images": dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)}


def _torch_export(network: nn.Module, images: Tensor, path: Path) -> Run:
    torch.export.save(torch.export.export(network, (images,), dynamic_shapes=_dynamic()), path)
    return torch.export.load(path).module()


def _torchscript(network: nn.Module, images: Tensor, path: Path) -> Run:
    torch.jit.save(torch.jit.trace(network, images), path)
    return torch.jit.load(path)


def _onnx(network: nn.Module, images: Tensor, path: Path) -> Run:
    import onnxruntime

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.onnx.export(
        network, (images,), path, dynamo=True, dynamic_shapes=_dynamic(), input_names=["images"],
        output_names=["logits"], external_data=False, verbose=False,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


_EXPORTERS = {"onnx": _onnx, "torchscript": _torchscript, "torch_export": _torch_export}
