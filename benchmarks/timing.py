"""Timing side by side: contestants take turns, so that a busy machine slows all of them alike."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch


def take_turns(
    contestants: Mapping[str, Callable[[int], object]], rounds: int, *, warm: int = 1
) -> dict[str, np.ndarray]:
    """Seconds of each contestant in each round (rounds,); each is called with the round's number."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for round_ in range(rounds + warm):
        for name, run in contestants.items():
            wait()
            started = time.perf_counter()
            run(round_)
            wait()
            if round_ >= warm:
                seconds[name].append(time.perf_counter() - started)
    return {name: np.array(values) for name, values in seconds.items()}


class Apart:
    """A function in a process of its own, for as long as the `with` lasts.

    So the baseline has the memory settings of a plain program, whatever ours sets for itself.
    """

    def __init__(self, build: Callable[..., Callable], *arguments: Any):
        """`build(*arguments)` makes the function there; what it takes and returns is pickled."""
        context = get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, build, arguments))
        self.process.start()
        other.close()
        self.pipe.recv()

    def __enter__(self) -> "Apart":
        return self

    def __call__(self, *arguments: Any) -> Any:
        """The function's answer; raises EOFError if its process died."""
        self.pipe.send(arguments)
        return self.pipe.recv()

    def __exit__(self, *_: object) -> None:
        self.pipe.close()
        self.process.join()


def _serve(pipe: Connection, build: Callable[..., Callable], arguments: tuple) -> None:
    function = build(*arguments)
    pipe.send(None)
    while True:
        try:
            given = pipe.recv()
        except EOFError:
            return
        answer = function(*given)
        wait()
        pipe.send(answer)


def wait() -> None:
    """Until the device has done what was asked of it."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Row:
    """One line of the results."""

    what: str
    baseline: str
    ours: str
    ratio: str
    target: str = ""

    def cells(self) -> tuple[str, ...]:
        """The columns."""
        return self.what, self.baseline, self.ours, self.ratio, self.target


def compare(what: str, baseline: np.ndarray, ours: np.ndarray, target: str = "", *, unit: float = 1.0) -> Row:
    """Medians in ms per `unit`, and how many times ours is faster: median and quartiles of the rounds' ratios."""
    return Row(what, _milliseconds(baseline / unit), _milliseconds(ours / unit), spread(baseline / ours, "×"), target)


def spread(values: Sequence[float] | np.ndarray, sign: str) -> str:
    """Median and quartiles."""
    low, median, high = np.percentile(values, [25, 50, 75])
    digits = 2 if sign == "×" else 1
    return f"**{median:.{digits}f} {sign}** ({low:.{digits}f}–{high:.{digits}f})"


def _milliseconds(seconds: np.ndarray) -> str:
    median = 1000 * float(np.median(seconds))
    return f"{median:.1f} ms" if median < 100 else f"{median:.0f} ms"
