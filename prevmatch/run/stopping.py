"""Ending a run before its end, in order: on SIGTERM, SIGINT, SIGUSR1 (Slurm), or when its time is up.

Windows has no SIGUSR1, and of the others only its Ctrl-C (SIGINT) comes from outside.
"""

import signal
import threading
import time
from types import FrameType
from typing import Any, Self

import torch
from accelerate import Accelerator

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)]

AGREEMENT_STEPS = 10
"""Several processes ask each other every so many steps: asking makes the host wait for the device."""


class StopRequest:
    """Notices that the run should stop; use as a context manager around it.

    The first signal only asks; a second SIGINT (Ctrl-C) stops at once, by KeyboardInterrupt.
    """

    def __init__(self, accelerator: Accelerator, max_hours: float | None):
        self.accelerator = accelerator
        self.deadline = None if max_hours is None else time.monotonic() + 3600 * max_hours
        self.reason: str | None = None
        self.previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers only there
            self.previous = {number: signal.signal(number, self._asked) for number in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.reason is not None:
            raise KeyboardInterrupt
        self.reason = self.reason or signal.Signals(number).name

    def here(self) -> bool:
        """Whether this process was asked to stop, or its time is up."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            self.reason = self.reason or "max_hours"
        return self.reason is not None

    def unasked(self, _: object) -> bool:
        """The contrary of `here`, for whoever takes items while it holds."""
        return not self.here()

    def agreed(self) -> bool:
        """Whether any process was asked to; all of them call this together."""
        if self.accelerator.num_processes == 1:
            return self.here()
        asked = torch.tensor(float(self.here()), device=self.accelerator.device)
        if self.accelerator.reduce(asked, "sum").item() > 0:
            self.reason = self.reason or "another process"
        return self.reason is not None

    def after(self, step: int) -> bool:
        """Whether to stop after optimiser step number `step`; all processes give the same answer."""
        return (self.accelerator.num_processes == 1 or step % AGREEMENT_STEPS == 0) and self.agreed()
