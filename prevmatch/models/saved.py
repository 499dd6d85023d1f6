"""A model folder: its files, how they are fetched from the Hub, and what is wrong with one that is not ours."""

import dataclasses
import errno
import json
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prevmatch.config import SegmenterConfig
from prevmatch.errors import CheckpointError, PrevMatchError
from prevmatch.writing import finish_files, replace_files

WEIGHTS_FILE, CONFIG_FILE, PREPROCESSOR_FILE = "model.safetensors", "config.json", "preprocessor_config.json"
PICKLES = (".bin", ".pth", ".pt", ".ckpt", ".pkl")

TRANSFORMERS_KEYS = {
    "library_name": "prevmatch",
    "model_type": "prevmatch",
    "architectures": ["PrevMatchForSemanticSegmentation"],
}
"""What other libraries read in config.json; no setting of a Segmenter, like dtype and version when they write it."""


def config_json(config: SegmenterConfig) -> str:
    """The text of config.json: the settings, and what transformers and the Hub want to know besides."""
    names = {"id2label": config.id2label, "label2id": config.label2id}
    return json.dumps(TRANSFORMERS_KEYS | dataclasses.asdict(config) | names, indent=2) + "\n"


def preprocessor_json(config: SegmenterConfig) -> str:
    """The text of preprocessor_config.json, in the form of transformers' Segformer."""
    side = config.image_size
    content = {
        "image_processor_type": "SegformerImageProcessor",
        "do_convert_rgb": True,
        "do_resize": side is not None,
        "size": {"height": 512, "width": 512} if side is None else {"max_height": side, "max_width": side},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": config.mean,
        "image_std": config.std,
        "do_reduce_labels": False,
    }
    return json.dumps(content, indent=2) + "\n"


def write_model(folder: Path, config: SegmenterConfig, state: dict[str, Tensor]) -> None:
    """Write the three files of a model; what `Segmenter.save_pretrained` says of failures holds."""
    check_place(folder)
    try:
        with replace_files(folder) as aside:
            save_file({k: v.contiguous() for k, v in state.items()}, aside / WEIGHTS_FILE)
            (aside / CONFIG_FILE).write_text(config_json(config))
            (aside / PREPROCESSOR_FILE).write_text(preprocessor_json(config))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"model folder {folder} cannot be written ({error}); free space or choose another"
        ) from error


def check_place(folder: Path) -> None:
    """Raise CheckpointError if files that a model folder has are in `folder`, but belong to something else."""
    there = [name for name in (CONFIG_FILE, PREPROCESSOR_FILE, WEIGHTS_FILE) if (folder / name).exists()]
    try:
        content = json.loads((folder / CONFIG_FILE).read_text()) if (folder / CONFIG_FILE).is_file() else None
        ours = isinstance(content, dict) and {"encoder", "num_classes"} <= content.keys()
    except (OSError, ValueError, RecursionError):
        ours = False
    if there and not ours:
        raise CheckpointError(f"{folder / there[0]} is of something else; choose another folder, or remove it")


def read_config(path: Path) -> SegmenterConfig:
    """Read config.json; raises CheckpointError if it is missing or not that of a Segmenter."""
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; this is no folder that save_pretrained wrote")
    try:
        given = json.loads(path.read_text())
        names = given.pop("id2label", None)
        owner = [str(given[k]) for k in ("library_name", "model_type", "architecture") if k in given]
        if owner and owner[0] != "prevmatch":
            raise CheckpointError(f"{path} is the configuration of a {owner[0]} model, not of a prevmatch Segmenter")
        for key in ("label2id", "dtype", "transformers_version", *TRANSFORMERS_KEYS):
            given.pop(key, None)
        # JSON has lists where the configuration has (nested) tuples, and strings where id2label has numbers.
        config = SegmenterConfig(**{k: tuples(v) for k, v in given.items()})
        contradiction = names and config.class_names and {int(k): v for k, v in names.items()} != config.id2label
    except CheckpointError:
        raise
    except (OSError, TypeError, ValueError, AttributeError, RecursionError, PrevMatchError) as error:
        reason = str(error)[:300]
        raise CheckpointError(f"{path} is not the configuration of a prevmatch Segmenter ({reason})") from error
    if contradiction:
        raise CheckpointError(f"{path} names its classes differently in class_names and id2label; make them equal")
    return config


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read model.safetensors, on the CPU; raises CheckpointError if it is missing, damaged or a pickle."""
    if not path.is_file():
        pickles = [file.name for file in sorted(path.parent.iterdir()) if file.suffix in PICKLES]
        raise CheckpointError(
            f"{path} is missing; {pickles[0]} beside it is a pickle, which could run code and is never loaded"
            if pickles
            else f"{path} is missing; save or download the model again"
        )
    with path.open("rb") as file:
        if file.read(2) in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05"):
            raise CheckpointError(
                f"{path} is a pickle under another name, which could run code; only safetensors are loaded"
            )
    try:
        return load_file(path)
    except Exception as error:
        raise CheckpointError(
            f"{path} is missing or damaged ({type(error).__name__}); save or download it again"
        ) from error


def load_strictly(model: nn.Module, state: dict[str, Tensor], source: str | Path) -> None:
    """Load `state`; raises CheckpointError, naming `source`, unless names and shapes agree and all is finite."""
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
    for name, values in state.items():
        real = values.float() if values.is_floating_point() else values
        if values.is_complex() or not real.isfinite().all():
            raise CheckpointError(f"{source} holds values in {name} that are not finite; the model is of no use")
    model.load_state_dict(state)


def best_of_run(name: str | Path) -> str:
    """The best model of a run where `name` is its output folder; any other name as it is."""
    best = Path(name) / "best"
    return str(best if not (Path(name) / WEIGHTS_FILE).exists() and (best / WEIGHTS_FILE).exists() else name)


def find_folder(name: str | Path, **options: Any) -> Path:
    """The model folder of that name, or a local copy of the Hub repository; `options` are snapshot_download's.

    Raises CheckpointError, with what to do, if there is neither.
    """
    folder = Path(name)
    if folder.is_dir():
        try:
            finish_files(folder)
        except OSError as error:
            raise CheckpointError(f"{folder} holds a model that is half saved ({error}); save it again") from error
        return folder
    if folder.is_file():
        hint = "; `prevmatch convert` reads a released .pth" if folder.suffix in PICKLES else ""
        raise CheckpointError(f"{folder} is a file; give the folder that save_pretrained wrote{hint}")
    try:
        return Path(snapshot_download(str(name), allow_patterns=[WEIGHTS_FILE, CONFIG_FILE], **options))
    except Exception as error:
        raise CheckpointError(_what_failed(str(name), options, error)) from error


def _what_failed(name: str, options: dict[str, Any], error: Exception) -> str:
    token = "log in with `hf auth login` or give token=" if not options.get("token") else "check the token's rights"
    if isinstance(error, HFValidationError):
        return f"{name!r} is neither a folder nor a reachable Hub repository; check the path, or give user/name"
    if isinstance(error, GatedRepoError):
        return f"Hub repository {name!r} is gated: ask for access on its page, then {token}"
    if isinstance(error, RepositoryNotFoundError):
        return f"{name!r} is neither a folder nor a Hub repository that you may read; check the name; private: {token}"
    if isinstance(error, RevisionNotFoundError):
        return f"Hub repository {name!r} has no revision {options.get('revision')!r}; check the branch, tag or commit"
    if isinstance(error, HfHubHTTPError):
        return f"Hub repository {name!r} could not be read (status {error.response.status_code}); try again"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
        return f"{name!r} cannot be stored in the cache ({error}); free space or choose another cache_dir"
    kind = type(error).__name__
    return f"{name!r} is neither a folder nor a reachable Hub repository ({kind}); check name and connection"


def tuples(value: Any) -> Any:
    """JSON's lists as tuples, nested ones too."""
    return tuple(tuples(v) for v in value) if isinstance(value, list) else value
