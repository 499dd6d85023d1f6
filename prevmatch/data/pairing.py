"""Which mask belongs to which image: by path, else by a name that is unique; nothing is dropped silently."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prevmatch.data.lists import first_five
from prevmatch.data.parts import part_in, role_of
from prevmatch.errors import DataError

Rule = Callable[[str], str]

PHOTOS = (
    r"(_leftImg8bit|_gtFine|_gtCoarse|_0000|[_-](image|img|rgb|photo|sat|training|test))$|_(?-i:L)$|"
    r"(^|(?<=/))(image|img|photo|picture|rgb|input|original)$"
)
"""What they add to the name of a photo, or leave of that of its mask."""
ADDED = (
    r"([_\-. ]*(masks?|labels?|labelids|labeltrainids|train_ids?|seg|segmentation|semantic|gt|ground[_-]?truth|"
    r"annotation|annotated|anno|manual\d?))+$"
)
SUFFIX = r"\.(jpe?g|png|tiff?|bmp|webp)$"
"""What tools add to the name of an image to name its mask."""
BEFORE = r"(^|/)(masks?|labels?|segmentation|seg|gt|images?|img|photo|frame)([_\-. ]+(?=\w)|(?=\d))"
"""What stands before what photos and masks have in common: image_7, mask_7, mask_tabby."""


OF_A_PHOTO = re.compile(
    r"[_\-. ]+(overlay|vis|visuali[sz]\w*|colou?r\w*|blend\w*|depth|instances?|parts?|superpixels?|edges?|contours?|"
    r"boundar\w+|preview|thumb\w*|heatmap|pred\w*|pseudo|cutout|semantic|panoptic)([_\-. ].*)?",
    re.IGNORECASE,
)
"""What the name of a picture made of a photo adds to that photo's: _overlay, _parts_1."""


@dataclass
class Pairs:
    """Names of masks by the names of their images, and the masks that have none."""

    mask_of: dict[str, str] = field(default_factory=dict)
    orphans: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def pair(images: Iterable[str], masks: Iterable[str], *, where: str) -> Pairs:
    """Pair names (paths below their folders, without suffix): equal paths first, then equal names that are unique.

    Letters count the same however Unicode composes them. Of what is left over, what tools add to names (`_mask`, a
    second suffix) is taken off first; then zeros before numbers are too. A name in another part (train, val, test) is
    another name, and so is one in another folder where photos and masks have folders of the same names.
    Raises DataError, with `where`, if two images or two masks share a path, or two masks are of one image.
    """
    images, masks = list(images), list(masks)
    for kind, names in (("images", images), ("masks", masks)):
        if double := [name for name, same in _by(names, composed).items() if len(same) > 1]:
            raise DataError(
                f"{where} has {kind} that share a name up to the suffix: {first_five(double)}; keep one of each"
            )
    found = Pairs(orphans=masks)
    _match(found, images, str, where)
    for plain in (bare, unpadded):
        before = set(found.mask_of)
        _match(found, images, plain, where)
        if more := [image for image in found.mask_of if image not in before]:
            how = f"{len(more)} masks" if before else "masks"
            found.notes.append(f"{how} are named like {found.mask_of[more[0]]!r} for the image {more[0]!r}")
    return found


def second_masks(names: Iterable[str], mask_of: Mapping[str, str]) -> dict[str, str]:
    """The names that are those of another mask of a photo with one, a_mask_2 beside a, and that photo."""
    return {
        name: owner for name, owner in _owners(names, mask_of).items()
        if re.fullmatch(ADDED.removesuffix("$") + r"[_\-. ]*\d+", name[len(owner) :], re.IGNORECASE)
    }  # fmt: skip


def made_of(images: Mapping[str, Path], mask_of: Mapping[str, str]) -> list[str]:
    """The images that are named as pictures made of photos with masks: a_overlay beside a, where that is of another
    kind of file or others have one too; and a_night where more than half have one, of another kind of file."""
    added, unlike, owners = dict[str, str](), set[str](), defaultdict[str, set[str]](set)
    for name, owner in _owners(images, mask_of).items():
        added[name] = word = re.sub(r"\d+", "0", name[len(owner) :])
        owners[word].add(owner)
        if images[name].suffix.lower() != images[owner].suffix.lower():
            unlike.add(name)
    often = {
        word for word, of in owners.items() if re.search(r"[^\W\d_]", word) and len(of) > max(2, len(mask_of) / 2)
    }
    return [
        name for name, word in added.items()
        if (OF_A_PHOTO.fullmatch(word) and (name in unlike or len(owners[word]) > 1))
        or (name in unlike and word in often)
    ]  # fmt: skip


def _owners(names: Iterable[str], mask_of: Mapping[str, str]) -> dict[str, str]:
    """The photo with a mask whose name each of these begins with, where they go on after a mark."""
    found = {}
    for name in names:
        if name not in mask_of:
            cuts = (i for i in reversed(range(len(name))) if name[i] in "_-. ")
            if cut := next((i for i in cuts if name[:i] in mask_of), 0):
                found[name] = name[:cut]
    return found


def made_note(made: Sequence[str]) -> list[str]:
    """What to tell of them."""
    what = f"WARNING: {len(made)} images are named as pictures made of labelled photos and left out: "
    return [what + first_five(made)] * bool(made)


def before_upload(name: str) -> str:
    """The name, in small letters, of a file before Label Studio put `1a2b3c4d-` before it.

    To be asked of what names a photo, not of the photo: a date (`20240101-`) looks alike, and two days would be one.
    """
    return re.sub(r"^[0-9a-f]{8}-", "", name).casefold()


def _match(found: Pairs, images: list[str], plain: Rule, where: str) -> None:
    rules: list[tuple[str, Rule]] = [
        ("", lambda name: plain(composed(name))),
        ("but for small and capital letters", lambda name: plain(composed(name)).casefold()),
        ("by their names alone, in other folders", lambda name: plain(composed(name)).casefold().rpartition("/")[2]),
    ]
    folders = [{_folder(name) for name in names} for names in (images, [*found.mask_of.values(), *found.orphans])]
    shared = (folders[0] & folders[1]) - {""}
    for told, rule in rules:
        free = _by((name for name in images if name not in found.mask_of), rule)
        count = 0
        for key, masks in _by(found.orphans, rule).items():
            there = free.get(key, [])
            if len(there) == 1 < len(masks) and all(_folder(name) == _folder(there[0]) for name in masks):
                raise DataError(
                    f"{where} has {len(masks)} masks for the image {there[0]!r}: {first_five(masks)}; keep one, or "
                    "join them into one mask of class ids"
                )
            if len(masks) == len(there) == 1 and _may_pair(masks[0], there[0], shared):
                found.mask_of[there[0]] = masks[0]
                count += 1
        taken = set(found.mask_of.values())
        found.orphans = [name for name in found.orphans if name not in taken]
        if count and told:
            found.notes.append(f"{count} masks and images have equal names {told}")


def _folder(name: str) -> str:
    return composed(name).casefold().rpartition("/")[0]


def _may_pair(mask: str, image: str, shared: set[str]) -> bool:
    """Whether their folders let them be of one photo: not if one is in another part, or where its own would be."""
    if _folder(mask) != _folder(image) and {_folder(mask), _folder(image)} & shared:
        return False
    roles = {role_of(part_in(mask)), role_of(part_in(image))}
    return len(roles) == 1 or None in roles


def _by(names: Iterable[str], rule: Rule) -> dict[str, list[str]]:
    groups = defaultdict(list)
    for name in names:
        groups[rule(name)].append(name)
    return groups


def composed(name: str) -> str:
    """A path with slashes, its letters composed as Unicode's NFC has them."""
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def unpadded(name: str) -> str:
    """The same without zeros before numbers."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", bare(name))


def bare(name: str) -> str:
    """A name without what tools add: `a.jpg`, `a_mask`, `a_gtFine_labelIds`, `a_leftImg8bit` are all `a`."""
    for added in (SUFFIX, ADDED, SUFFIX):
        name = re.sub(added, "", name, flags=re.IGNORECASE)
    name = re.sub(BEFORE, r"\1", name, flags=re.IGNORECASE)
    return re.sub(PHOTOS, "", name, flags=re.IGNORECASE)
