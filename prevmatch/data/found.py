"""What a reader finds in a folder; all readers end in the same rows."""

from dataclasses import dataclass, field

import datasets

from prevmatch.data.sources import RGB


@dataclass(kw_only=True)
class Found:
    """Images and masks in parts, and what the folder says about classes; empty names mean that the masks must tell."""

    parts: dict[str, datasets.Dataset]
    """Rows by the name of their part (train, valid, test); "" where there are no parts. Without a mask: unlabelled."""
    class_names: tuple[str, ...] = ()
    palette: tuple[RGB, ...] = ()
    colours: tuple[tuple[RGB, int], ...] = ()
    annotated: bool = False
    """Whether masks are annotations, which hold class ids by themselves."""
    tagged: bool = False
    """Whether `class_names` are those of a column `classes`, which may be something else."""
    layout: str = ""
    notes: list[str] = field(default_factory=list)
    """What a user should know about how the data was read."""
