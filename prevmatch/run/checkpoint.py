"""Checkpoints: everything from which a run goes on bit by bit, in folders that are whole or not there at all.

A folder checkpoints/step_00001234/ holds
  model/                the network as `Segmenter.from_pretrained` loads it
  optimizer.safetensors momentum per parameter
  bank.safetensors      the previous models
  rank_0.safetensors …  per process: random states, and BatchNorm buffers where several processes have their own
  metrics.jsonl         the records so far
  state.json            counters, scores, settings, the bank's ages and generator, records not written yet
  manifest.json         size and sha256 of all of them
Nothing in it is a pickle.
"""

import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prevmatch.bank import PreviousModels
from prevmatch.errors import CheckpointError
from prevmatch.models.frozen import build_skeleton
from prevmatch.models.segmenter import Segmenter
from prevmatch.writing import damage, replace_folder, write_manifest

PREFIX = "step_"


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A run at one moment, in host memory, so that training can go on while it is written."""

    model: Segmenter
    optimizer: dict[str, Tensor]
    bank: dict[str, Tensor]
    ranks: list[dict[str, Tensor]]
    metrics: bytes
    state: dict[str, Any]


def take_snapshot(
    student: Segmenter,
    optimizer: torch.optim.Optimizer,
    bank: PreviousModels,
    *,
    ranks: list[dict[str, Tensor]],
    metrics: bytes,
    state: dict[str, Any],
) -> Snapshot:
    """Copy what changes. `ranks` has an `own_state` of each process, `state` whatever else is to be remembered."""
    model = build_skeleton(student.config)
    model.load_state_dict({name: _copy(tensor) for name, tensor in student.state_dict().items()}, assign=True)
    momentum = {
        f"{number}.{name}": _copy(value)
        for number, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
        if value is not None
    }
    held = bank.state_dict()
    return Snapshot(
        model=model,
        optimizer=momentum,
        bank={f"{i}.{name}": t for i, version in enumerate(held["models"]) for name, t in version.items()},
        ranks=ranks,
        metrics=metrics,
        state=state | {"bank": {"epochs": held["epochs"], "generator": held["generator"], "size": len(bank)}},
    )


def write(snapshot: Snapshot, folder: Path) -> None:
    """Write a checkpoint; raises OSError (or SafetensorError) if that fails, and then leaves nothing."""
    with replace_folder(folder) as aside:
        snapshot.model.save_pretrained(aside / "model")
        tensors = {"optimizer": snapshot.optimizer, "bank": snapshot.bank}
        tensors |= {f"rank_{rank}": own for rank, own in enumerate(snapshot.ranks)}
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
    """The JSON part of a checkpoint."""
    return json.loads((folder / "state.json").read_text())


def restore(
    folder: Path, student: Segmenter, optimizer: torch.optim.Optimizer, bank: PreviousModels, *, rank: int
) -> None:
    """Bring network, optimiser, bank and this process's random states to where they were.

    A process that the checkpoint does not know keeps its random states. Raises CheckpointError for what does not fit.
    """
    try:
        student.load_state_dict(load_file(folder / "model" / "model.safetensors"))
        _restore_optimizer(optimizer, load_file(folder / "optimizer.safetensors"))
        _restore_bank(bank, load_file(folder / "bank.safetensors"), read_state(folder)["bank"])
        path = folder / f"rank_{rank}.safetensors"
        if path.is_file():
            _restore_own(load_file(path), student)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"checkpoint {folder} does not fit this run ({reason})") from error


def own_state(network: nn.Module, *, buffers: bool) -> dict[str, Tensor]:
    """Random states of this process (Python, NumPy, torch, CUDA), and the network's buffers if it has its own."""
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
        state |= {f"buffer.{name}": _copy(tensor) for name, tensor in network.named_buffers()}
    return state


def _restore_own(state: dict[str, Tensor], network: nn.Module) -> None:
    gauss = state["random.python_gauss"].tolist()
    random.setstate((3, tuple(state["random.python"].tolist()), gauss[0] if gauss else None))
    position, has_gauss = state["random.numpy_position"].tolist()
    keys = state["random.numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, position, has_gauss, state["random.numpy_gauss"].item()))
    torch.set_rng_state(state["random.torch"])
    if "random.cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["random.cuda"])
    for name, buffer in network.named_buffers():
        if f"buffer.{name}" in state:
            buffer.copy_(state[f"buffer.{name}"])


def _restore_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Tensor]) -> None:
    content = optimizer.state_dict()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in saved.items():
        number, _, name = key.partition(".")
        # In the parameter's own memory format, as the optimiser would have made it.
        like = torch.empty_like(parameters[int(number)]) if value.ndim else torch.empty_like(value)
        entries.setdefault(int(number), {})[name] = like.copy_(value)
    optimizer.load_state_dict(content | {"state": entries})


def _restore_bank(bank: PreviousModels, saved: dict[str, Tensor], state: dict[str, Any]) -> None:
    versions: list[dict[str, Tensor]] = [{} for _ in range(state["size"])]
    for key, tensor in saved.items():
        number, _, name = key.partition(".")
        # As convolutions had it: safetensors keeps no memory format, and another one is slower.
        like = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
        versions[int(number)][name] = tensor.contiguous(memory_format=like)
    bank.load_state_dict({"models": versions, "epochs": state["epochs"], "generator": state["generator"]})


def differing(now: dict[str, Any], then: dict[str, Any], free: Sequence[str]) -> list[str]:
    """Settings that differ, as `name=now (was then)`, apart from the ones that are free to."""
    now, then = json.loads(json.dumps(now)), json.loads(json.dumps(then))
    names = [name for name in now if name not in free and now[name] != then.get(name)]
    return [f"{name}={now[name]} (was {then.get(name)})" for name in names]


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
