"""Progress bars: redrawn in a terminal; a line now and then where the output goes to a file or a pipe."""

import sys
import time
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 15
_LINE = "{desc}{percentage:.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


class Lines:
    """A file for tqdm that turns what would be redrawn into lines of standard error, far enough apart."""

    def __init__(self) -> None:
        self.written, self.line, self.count = 0.0, "", ""

    def write(self, text: str) -> None:
        """Write what there is to read in it, unless the last line is too fresh; at the end of a bar its last state."""
        self.line = text.strip() or self.line
        count = self.line.partition("[")[0]  # what follows changes without a step
        due = count != self.count and time.monotonic() - self.written >= SECONDS_BETWEEN_LINES
        if (self.line and "100%" not in count and due) or text == "\n":  # tqdm's way to end a bar
            print(self.line, file=sys.stderr, flush=True)
            self.written, self.count = time.monotonic(), count

    def flush(self) -> None:
        """Nothing is held back."""


def progress(items: Iterable | None = None, *, desc: str = "", **options: Any) -> tqdm:
    """`tqdm` with its options; where no terminal shows it, nothing in its first 15 seconds, then a line every 15."""
    if sys.stderr.isatty():
        return tqdm(items, desc=desc, dynamic_ncols=True, **options)
    seconds = SECONDS_BETWEEN_LINES
    lines: Any = {"file": Lines(), "mininterval": seconds, "maxinterval": seconds, "delay": seconds}
    return tqdm(items, desc=desc and f"{desc}: ", bar_format=_LINE, **{**options, "leave": True, **lines})
