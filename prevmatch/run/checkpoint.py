"""Checkpoints: everything from which a run goes on bit by bit, in folders that are whole or not there at all.

A folder checkpoints/step_00001234/ holds
  model/                the network as `Segmenter.from_pretrained` loads it; average/ if it has one; model_2/, …
  NAME.safetensors      the tensors of whatever else is remembered: optimizer, previous (the bank), …
  rank_0.safetensors …  per process: random states, and BatchNorm buffers where several processes have their own
  metrics.jsonl         the records so far
  state.json            counters, scores, settings, all that is remembered and no tensor, records not written yet
  manifest.json         size and sha256 of all of them
Nothing in it is a pickle.
"""

import json
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prevmatch.config import SegmenterConfig
from prevmatch.errors import CheckpointError
from prevmatch.models.saved import write_model
from prevmatch.models.segmenter import Segmenter
from prevmatch.run.swap import Packed
from prevmatch.writing import damage, replace_folder, write_manifest

PREFIX = "step_"
FORMAT = 3
"""Of the folder; another one cannot be resumed."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A run at one moment, in host memory, so that training can go on while it is written."""

    networks: dict[str, tuple[SegmenterConfig, dict[str, Tensor]]]
    """What `write_model` writes, by name."""
    tensors: dict[str, dict[str, Tensor]]
    """By the name of what remembers them."""
    ranks: list[dict[str, Tensor]]
    metrics: bytes
    state: dict[str, Any]


def take_snapshot(
    networks: Mapping[str, Segmenter],
    memory: Mapping[str, Any],
    *,
    ranks: list[dict[str, Tensor]],
    metrics: bytes,
    state: dict[str, Any],
) -> Snapshot:
    """Copy what changes: networks, and whatever has a `state_dict`, each by a name.

    `ranks` has an `own_state` of each process, `state` whatever else is to be remembered.
    """
    tensors: dict[str, dict[str, Tensor]] = {name: {} for name in memory}
    plain = {name: divide(thing.state_dict(), tensors[name]) for name, thing in memory.items()}
    return Snapshot(
        networks={
            name: (network.config, {key: _copy(tensor) for key, tensor in network.state_dict().items()})
            for name, network in networks.items()
        },
        tensors={name: own for name, own in tensors.items() if own},
        ranks=ranks,
        metrics=metrics,
        state=state | {"format": FORMAT, "memory": plain},
    )


def write(snapshot: Snapshot, folder: Path) -> None:
    """Write a checkpoint; raises OSError (or SafetensorError) if that fails, and then leaves nothing."""
    with replace_folder(folder) as aside:
        for name, (config, weights) in snapshot.networks.items():
            write_model(aside / name, config, weights)
        tensors = snapshot.tensors | {f"rank_{rank}": own for rank, own in enumerate(snapshot.ranks)}
        for name, content in tensors.items():
            save_file({k: t.contiguous() for k, t in content.items()}, aside / f"{name}.safetensors")
        (aside / "metrics.jsonl").write_bytes(snapshot.metrics)
        (aside / "state.json").write_text(json.dumps(snapshot.state) + "\n")
        write_manifest(aside)


def folder_of(checkpoints: Path, step: int) -> Path:
    """Where the checkpoint after `step` optimiser steps belongs."""
    return checkpoints / f"{PREFIX}{step:08d}"


def newest(checkpoints: Path, tell: Callable[[str], None]) -> Path | None:
    """The newest whole checkpoint; None if there is no checkpoint at all.

    What is wrong with newer ones is told. Raises CheckpointError if there are some but none is whole.
    """
    found = sorted(checkpoints.glob(f"{PREFIX}*"), reverse=True)
    for folder in found:
        problem = damage(folder)
        if problem is None:
            return folder
        tell(f"checkpoint {folder.name} is not used: {problem}")
    if found:
        raise CheckpointError(
            f"none of the {len(found)} checkpoints in {checkpoints} is whole; restore one, or start anew with "
            "--overwrite_output_dir"
        )
    return None


def prune(checkpoints: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, and what killed runs left half-written."""
    for folder in sorted(checkpoints.glob(f"{PREFIX}*"))[:-keep]:
        shutil.rmtree(folder, ignore_errors=True)
    for torn in checkpoints.glob(f".{PREFIX}*"):
        shutil.rmtree(torn, ignore_errors=True)


def read_state(folder: Path) -> dict[str, Any]:
    """The JSON part of a checkpoint; raises CheckpointError if an earlier version of this package wrote it."""
    state = json.loads((folder / "state.json").read_text())
    if state.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder} was written by another version of prevmatch, which alone can go on from it; start anew with "
            f"--overwrite_output_dir, or keep {folder / 'model'}, which loads as a model"
        )
    return state


def restore(folder: Path, networks: Mapping[str, Segmenter], memory: Mapping[str, Any], *, rank: int) -> None:
    """Bring networks, all that is remembered, and this process's random states to where they were.

    A process that the checkpoint does not know keeps its random states. Raises CheckpointError for what does not fit.
    """
    try:
        for name, network in networks.items():
            network.load_state_dict(load_file(folder / name / "model.safetensors"))
        saved = read_state(folder)["memory"]
        for name, thing in memory.items():
            path = folder / f"{name}.safetensors"
            thing.load_state_dict(join(saved[name], load_file(path) if path.is_file() else {}))
        path = folder / f"rank_{rank}.safetensors"
        if path.is_file():
            _restore_own(load_file(path), networks)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"checkpoint {folder} does not fit this run ({reason})") from error


def divide(value: Any, tensors: dict[str, Tensor], path: str = "", *, copy: bool = True) -> Any:
    """Divide a `state_dict` into JSON, which is returned, and tensors, which go into `tensors`, copied to the CPU.

    JSON has lists in place of dicts, because keys may be numbers: ["dict", [[key, value], …]], ["list", …],
    ["tuple", …], and ["tensor", name, whether it is in channels_last], which safetensors does not keep.
    """
    if isinstance(value, Tensor):
        tensors[path] = _copy(value) if copy else value
        return ["tensor", path, value.ndim == 4 and not value.is_contiguous()]
    inside = f"{path}." if path else ""
    if isinstance(value, dict):
        copy = copy and not isinstance(value, Packed)  # a version of the bank, which never changes
        return ["dict", [[k, divide(v, tensors, f"{inside}{k}", copy=copy)] for k, v in value.items()]]
    if isinstance(value, list | tuple):
        parts = [divide(v, tensors, f"{inside}{i}", copy=copy) for i, v in enumerate(value)]
        return ["tuple" if isinstance(value, tuple) else "list", parts]
    return value


def join(plain: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The `state_dict` that `divide` divided."""
    match plain:
        case ["tensor", name, last]:
            layout = torch.channels_last if last else torch.contiguous_format
            return tensors[name].contiguous(memory_format=layout)
        case ["dict", pairs]:
            return {key: join(value, tensors) for key, value in pairs}
        case ["list", parts]:
            return [join(part, tensors) for part in parts]
        case ["tuple", parts]:
            return tuple(join(part, tensors) for part in parts)
    return plain


def own_state(networks: Mapping[str, nn.Module], *, buffers: bool) -> dict[str, Tensor]:
    """Random states of this process (Python, NumPy, torch, CUDA), and the networks' buffers if it has its own."""
    version, words, gauss = random.getstate()
    numpy_state: Any = np.random.get_state(legacy=True)
    name, keys, position, has_gauss, cached = numpy_state
    assert (version, name) == (3, "MT19937")
    state = {
        "random.python": torch.tensor(words),
        "random.python_gauss": torch.tensor([gauss] if gauss is not None else [], dtype=torch.float64),
        "random.numpy": torch.from_numpy(keys.astype(np.int64)),
        "random.numpy_position": torch.tensor([position, has_gauss]),
        "random.numpy_gauss": torch.tensor([cached], dtype=torch.float64),
        "random.torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["random.cuda"] = torch.cuda.get_rng_state()
    if buffers:
        state |= {f"buffer.{name}": _copy(tensor) for name, tensor in _buffers(networks)}
    return state


def _restore_own(state: dict[str, Tensor], networks: Mapping[str, nn.Module]) -> None:
    gauss = state["random.python_gauss"].tolist()
    random.setstate((3, tuple(state["random.python"].tolist()), gauss[0] if gauss else None))
    position, has_gauss = state["random.numpy_position"].tolist()
    keys = state["random.numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, position, has_gauss, state["random.numpy_gauss"].item()))
    torch.set_rng_state(state["random.torch"])
    if "random.cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["random.cuda"])
    for name, buffer in _buffers(networks):
        if f"buffer.{name}" in state:
            buffer.copy_(state[f"buffer.{name}"])


def _buffers(networks: Mapping[str, nn.Module]) -> list[tuple[str, Tensor]]:
    return [(f"{name}.{own}", t) for name, network in networks.items() for own, t in network.named_buffers()]


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
