"""One loader for everything: a sample is a labelled image, an unlabelled one, and its CutMix partner."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from prevmatch.data.crops import crop_image, crop_mask, crop_valid, draw_crop
from prevmatch.data.reading import read_image, read_pair
from prevmatch.data.sources import Source, TrainingData
from prevmatch.errors import DataError, PrevMatchError


class Triple(NamedTuple):
    """One sample: where it stands in the run, and three rows; of an empty list the row is 0, and nobody reads it."""

    epoch: int
    position: int
    labelled: int
    unlabelled: int
    partner: int


class TripleSampler(Sampler[Triple]):
    """Yields the Triples of an epoch, in an order that follows from (seed, epoch) alone.

    There is one per unlabelled image, or per labelled one where none is unlabelled, or `length` of them. Labelled
    images, unlabelled ones and partners are three independent shuffles; a list shorter than the epoch is repeated, of
    a longer one the epoch shows a part.
    """

    def __init__(self, labelled: int, unlabelled: int, *, seed: int, length: int = 0):
        self.labelled, self.unlabelled, self.seed, self.epoch = labelled, unlabelled, seed, 0
        self.length, self.skipped = length or unlabelled or labelled, 0

    def __len__(self) -> int:
        return self.length - self.skipped

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration yields."""
        self.epoch = epoch

    def skip(self, samples: int) -> None:
        """Leave the first `samples` of the next iterations out, as if they had been seen."""
        self.skipped = samples

    def __iter__(self) -> Iterator[Triple]:
        yield from self.order(self.epoch)[self.skipped :]

    def order(self, epoch: int) -> list[Triple]:
        """All Triples of an epoch."""
        rng = np.random.default_rng((self.seed, epoch))
        lists = [self._shuffled(rng, count) for count in (self.labelled, self.unlabelled, self.unlabelled)]
        rows = zip(*(rows.tolist() for rows in lists), strict=True)
        return [Triple(epoch, position, x, u, m) for position, (x, u, m) in enumerate(rows)]

    def _shuffled(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """`length` row numbers below `count`, as evenly as can be."""
        return rng.permutation(np.arange(max(self.length, count)) % max(1, count))[: self.length]


class TripleDataset(Dataset):
    """Decodes and crops triples; every random choice follows from (seed, epoch, position)."""

    def __init__(
        self,
        data: TrainingData,
        *,
        image_size: int | None,
        crop_size: int,
        scale_range: tuple[float, float],
        seed: int,
        unlabelled: bool,
        partners: bool,
    ):
        self.data, self.image_size, self.crop_size, self.scale_range = data, image_size, crop_size, scale_range
        self.seed, self.unlabelled, self.partners = seed, unlabelled, unlabelled and partners

    def __getitem__(self, triple: Triple) -> dict:
        try:
            return self._sample(triple)
        except PrevMatchError:
            raise
        except Exception as error:
            names = ", ".join(map(repr, self.names(triple)))
            where = f"{triple.position} of epoch {triple.epoch}, images {names},"
            raise DataError(f"sample {where} failed ({type(error).__name__}: {error})") from error

    def names(self, triple: Triple) -> list[str]:
        """Ids of the images in a sample: labelled, unlabelled, partner, as far as they are read."""
        rows = [triple.unlabelled][: self.unlabelled] + [triple.partner][: self.partners]
        return [self.data.labelled[triple.labelled]["id"], *(self.data.unlabelled[row]["id"] for row in rows)]

    def _sample(self, triple: Triple) -> dict:
        rng = np.random.default_rng((self.seed, triple.epoch, triple.position, 0))
        image, mask = read_pair(self.data.labelled[triple.labelled], self.data.source, self.image_size)
        crop = draw_crop(rng, *image.size, self.crop_size, self.scale_range)
        sample = {
            "key": (triple.epoch, triple.position),
            "labelled": crop_image(image, crop),
            "mask": crop_mask(mask, crop),
        }
        parts = [("weak", triple.unlabelled, "valid")] if self.unlabelled else []
        parts += [("partner", triple.partner, "partner_valid")] if self.partners else []
        for name, row, valid in parts:
            image = read_image(self.data.unlabelled[row], self.image_size, bits=self.data.source.bits)
            crop = draw_crop(rng, *image.size, self.crop_size, self.scale_range)
            sample |= {name: crop_image(image, crop), valid: crop_valid(crop)}
        return sample


class PairDataset(Dataset):
    """Whole validation images with their masks."""

    def __init__(self, source: Source, *, image_size: int | None):
        self.source, self.image_size = source, image_size

    def __len__(self) -> int:
        return len(self.source.val)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = read_pair(self.source.val[index], self.source, self.image_size)
        return torch.from_numpy(np.array(image).transpose(2, 0, 1).copy()), torch.from_numpy(np.array(mask))


def training_loader(
    data: TrainingData,
    *,
    batch_size: int,
    processes: int,
    image_size: int | None,
    crop_size: int,
    scale_range: tuple[float, float],
    seed: int,
    unlabelled: bool,
    num_workers: int,
    partners: bool = True,
    epoch_images: int = 0,
) -> DataLoader:
    """Batches of `batch_size` triples: dicts of uint8 images (B, 3, S, S), maps (B, S, S) and the samples' keys.

    `processes` of them, one per process, make a step; whoever prepares the loader divides them so.

    Without `unlabelled` only the labelled images are read, without `partners` none to paste into others. The length of
    an epoch stays: `epoch_images`, or one pass over the unlabelled ones, if there are any, else over the labelled. An
    incomplete batch is dropped. Raises DataError if an epoch is shorter than a step.
    """
    sampler = TripleSampler(len(data.labelled), len(data.unlabelled), seed=seed, length=epoch_images)
    if len(sampler) < batch_size * processes:
        kind = "unlabelled" if len(data.unlabelled) else "labelled"
        raise DataError(
            f"an epoch has {len(sampler)} {kind} images but a step takes {batch_size * processes}; lower "
            "batch_size, or repeat the images with epoch_images"
        )
    dataset = TripleDataset(
        data,
        image_size=image_size,
        crop_size=crop_size,
        scale_range=scale_range,
        seed=seed,
        unlabelled=unlabelled,
        partners=partners,
    )
    return DataLoader(
        dataset,
        sampler=sampler,
        batch_size=batch_size,
        drop_last=True,
        collate_fn=collate,
        num_workers=at_most_the_cores(num_workers),
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=partial(_start_worker, Image.MAX_IMAGE_PIXELS),
        generator=torch.Generator(),  # of its own: making an iterator must not draw from the run's random state
    )


def at_most_the_cores(workers: int) -> int:
    """So many loader processes, or as many as this process may use cores: more would only wait for each other."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(workers, cores or 1)


def evaluation_loader(
    source: Source, *, image_size: int | None, rank: int, processes: int, num_workers: int
) -> DataLoader:
    """This process's share of the validation images, one at a time: every processes-th, no image twice."""
    share = Subset(PairDataset(source, image_size=image_size), range(rank, len(source.val), processes))
    return DataLoader(
        share,
        batch_size=None,
        num_workers=at_most_the_cores(num_workers),
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=partial(_start_worker, Image.MAX_IMAGE_PIXELS),
        generator=torch.Generator(),
    )


def validation_images(loader: DataLoader) -> int:
    """Images of an evaluation loader in all processes together; the final model of folds has none."""
    share = loader.dataset
    assert isinstance(share, Subset)
    return len(cast(PairDataset, share.dataset))


def collate(samples: list[dict]) -> dict:
    """Stack arrays to tensors; the keys stay on the host, where the random parameters are drawn from them."""
    batch = {k: torch.from_numpy(np.stack([s[k] for s in samples])) for k in samples[0] if k != "key"}
    return {"keys": [s["key"] for s in samples], **batch}


def images_of(dataset: TripleDataset, sampler: TripleSampler, key: tuple[int, int]) -> str:
    """Ids of the images in the sample at (epoch, position)."""
    return ", ".join(dataset.names(sampler.order(key[0])[key[1]]))


@contextmanager
def loader_deaths_named() -> Iterator[None]:
    """Make a worker process's death a DataError of one line; torch raises it wherever the main process then is."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        reason = str(error).strip().partition("\n")[0]
        raise DataError(
            f"a loader process died ({reason}); it may lack memory or space in /dev/shm: lower --num_workers, 0 loads "
            "in the main process"
        ) from error


def _start_worker(pixels: int | None, _: int) -> None:
    """Keep the limit of pixels where processes inherit nothing, and leave signals to the main process.

    Signals reach a whole process group; workers must live until the main process has saved. Only the SIGTERM by which
    the main process itself ends them counts, so a thread looks who sent one. macOS does not tell who: there a worker
    leaves the group. On Windows only Ctrl-C reaches processes together.
    """
    Image.MAX_IMAGE_PIXELS = pixels
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_the_parent_says_so, daemon=True).start()
    elif hasattr(os, "setpgrp"):
        os.setpgrp()


def _end_when_the_parent_says_so() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
