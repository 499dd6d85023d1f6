"""Text that comes from files, made fit for a terminal."""

import unicodedata

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of control, formatting (such as bidi marks) and surrogate characters and of line breaks."""


def printable(text: object) -> str:
    """`str(text)` with every character escaped that would steer a terminal instead of being shown: one line."""
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in HIDDEN else c for c in str(text))
