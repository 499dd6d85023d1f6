"""Which code a run was made with: its version, its commit, and what was not committed."""

import subprocess
from pathlib import Path

from prevmatch.writing import write_bytes

PATCH_FILE = "code.patch"
LARGEST_PATCH = 10_000_000
"""Bytes; a larger difference is none of code."""
HERE = Path(__file__).parents[1]


def commit() -> str:
    """Commit of the code, marked `-dirty` if the tree has changes; empty where it runs from no git checkout of its."""
    return _git("describe", "--always", "--dirty", "--abbrev=12").decode().strip() if _is_checkout() else ""


def write_patch(folder: Path) -> None:
    """Write what the code differs in from its commit, new files included, to code.patch; nothing where it does not.

    `git apply code.patch` on that commit gives the code again. Raises OSError.
    """
    (folder / PATCH_FILE).unlink(missing_ok=True)
    if not _is_checkout():  # installed, perhaps into the checkout of something else
        return
    top = _git("rev-parse", "--show-toplevel").decode().strip()
    plain = ("diff", "--no-color", "--no-ext-diff", "--no-textconv", "--binary")
    changed = _git(*plain, "HEAD", at=top)
    new = _git("ls-files", "--others", "--exclude-standard", "-z", "--", "*.py", at=top).decode(
        errors="surrogateescape"
    )
    added = [_git(*plain, "--no-index", "--", "/dev/null", name, at=top) for name in new.split("\0") if name]
    patch = b"".join([changed, *added])
    if patch and len(patch) <= LARGEST_PATCH:
        write_bytes(folder / PATCH_FILE, patch)


def _is_checkout() -> bool:
    """Whether git tracks this package where it lies."""
    return bool(_git("ls-files", "--", "__init__.py"))


def _git(*words: str, at: str | Path | None = None) -> bytes:
    """What git says, empty where it fails (a difference is no failure)."""
    command = ["git", *words]
    try:
        done = subprocess.run(command, cwd=at or HERE, capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout if done.returncode in (0, 1) else b""
