"""The few exceptions that a user can meet; each message is one line that names the file or setting and the remedy."""

from prevmatch.printable import printable


class PrevMatchError(Exception):
    """Base of everything this package raises on purpose."""

    status = 1
    """Exit status of a command that ends with it."""

    def __init__(self, message: str = ""):
        # A DataLoader worker re-raises with its whole traceback as the message; the user's line is the last one.
        _, kind, line = message.rpartition(f"\n{type(self).__module__}.{type(self).__qualname__}: ")
        super().__init__(printable(line.strip() if kind else message.strip()))


class ConfigError(PrevMatchError):
    """A setting, or a combination of settings, that cannot work."""


class DataError(PrevMatchError):
    """An image, mask, list or folder that is missing, unreadable or contradicts the settings."""


class CheckpointError(PrevMatchError):
    """Weights or a model folder that do not fit."""


class TrainingError(PrevMatchError):
    """Training that cannot go on."""


class Stopped(PrevMatchError):  # noqa: N818, it is no error
    """A run that was asked to end early, with a checkpoint from which it goes on."""

    status = 75  # EX_TEMPFAIL of sysexits.h: try again
