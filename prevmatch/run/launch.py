"""Starting Accelerate as the settings ask, and noticing a launch that went wrong."""

import atexit
import json
import os
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch.distributed import PrefixStore, Store, rendezvous
from torch.distributed.rendezvous import register_rendezvous_handler

from prevmatch.config import TrainConfig
from prevmatch.errors import ConfigError
from prevmatch.run.processor import keep_freed_memory, tell_slow_bf16


def start_accelerator(config: TrainConfig) -> Accelerator:
    """Return the Accelerator of this process; precision and devices are `accelerate launch`'s business.

    Raises ConfigError for a tracker that is not installed, and where processes that were launched together do not
    find each other.
    """
    for tracker in config.report_to:
        if find_spec(tracker) is None:
            raise ConfigError(f"report_to names {tracker}, which is not installed; run: pip install {tracker}")
    # torch 2.15 renames the DDP option below; Accelerate does not know the new name yet.
    warnings.filterwarnings("ignore", message="`broadcast_buffers`", category=FutureWarning)
    accelerator = Accelerator(
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        log_with=list(config.report_to) or None,
        project_dir=config.output_dir,
        dataloader_config=DataLoaderConfiguration(non_blocking=True),
        # Two training forwards precede one backward: broadcasting BatchNorm's buffers in between would change what
        # the first one saved for its backward.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False), *_meeting_place()],
    )
    if accelerator.device.type == "cpu":
        keep_freed_memory()
        tell_slow_bf16(accelerator, config.guide_precision)
    launched = int(os.environ.get("WORLD_SIZE", 1))
    if launched != accelerator.num_processes:
        raise ConfigError(
            f"{launched} processes were launched but each trains alone; on a CPU set ACCELERATE_USE_CPU=true "
            "and launch with torchrun or accelerate_configs/multi_cpu.yaml"
        )
    return accelerator


def has_gpu(accelerator: Accelerator) -> bool:
    """Whether training is on something faster than a CPU."""
    return accelerator.device.type != "cpu"


def is_first() -> bool:
    """Whether this is the first process of those launched, told without starting anything."""
    return int(os.environ.get("RANK", 0)) == 0


def wait_for_all() -> None:
    """Wait until all processes are here, if several have found each other."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()


def part() -> None:
    """Leave the other processes, which is for the end of the program: a study trains several times before that."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


atexit.register(part)


def _meeting_place() -> list[InitProcessGroupKwargs]:
    """Where processes that torchrun started again find each other.

    Its store outlives them, so there they might find the addresses of dead ones and wait in vain (pytorch issue
    135712): each attempt gets keys of its own. Several machines do not count attempts alike and keep torch's way.
    """
    if not restarted() or os.environ["LOCAL_WORLD_SIZE"] != os.environ["WORLD_SIZE"]:
        return []
    return [InitProcessGroupKwargs(init_method=f"{ANEW}://")]


def _rendezvous_anew(url: str, **options: Any) -> Iterator[tuple[Store, int, int]]:
    for store, rank, size in rendezvous("env://", **options):
        yield PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store), rank, size


ANEW = "prevmatch-anew"
register_rendezvous_handler(ANEW, _rendezvous_anew)


def restarted() -> bool:
    """Whether torchrun's --max_restarts started this process again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def earlier_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings of the run in output_dir, if it is to go on; empty for a new run."""
    try:
        return json.loads((config.output_dir / "config.json").read_text()) if resumes(config) else {}
    except (OSError, ValueError):  # none yet, or torn
        return {}


def resumes(config: TrainConfig) -> bool:
    """Whether to go on from a checkpoint: asked for, or started again by torchrun's --max_restarts."""
    return config.resume or restarted()
