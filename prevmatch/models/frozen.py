"""Running any version of a network in eval mode, without touching the one that trains.

One skeleton without memory (on the meta device) is lent the tensors of whichever version is asked: the student's own,
a previous model's, later a teacher's. The student's mode, hooks and autocast wrapper stay as they are.

A `Frozen` goes further: what only looks needs no BatchNorm of its own, because in eval mode that is one more factor
and summand of the convolution before it.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from copy import deepcopy
from typing import NamedTuple

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.func import functional_call

from prevmatch.config import SegmenterConfig
from prevmatch.models.segmenter import Segmenter, at_least_float32, enlarge

LINEAR = (nn.Conv2d, Conv2dSame)
"""Convolutions that are linear in the weights as stored: others (weight standardisation) are left alone."""


def build_skeleton(config: SegmenterConfig) -> Segmenter:
    """A Segmenter of this architecture in eval mode whose tensors take no memory."""
    with torch.device("meta"):
        return Segmenter(config).eval()


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, detached but not copied."""
    return {name: t.detach() for name, t in (*network.named_parameters(), *network.named_buffers())}


@torch.no_grad()
def frozen_logits(skeleton: nn.Module, tensors: dict[str, Tensor], images: Tensor) -> Tensor:
    """Eval-mode logits (B, C, about H/4, about W/4) for normalised images (B, 3, H, W), by the network with `tensors`;
    float32 or more precise."""
    return at_least_float32(functional_call(skeleton, tensors, (images,), {"enlarged": False}))


class Folding(NamedTuple):
    """A convolution and the BatchNorm that alone reads it, by their names in the network."""

    convolution: str
    norm: str
    eps: float


class Frozen:
    """An architecture in the form in which its versions only look: BatchNorm folded, weights in `dtype`.

    Answers equal the network's own up to rounding; where folding would change them, nothing is folded.
    """

    def __init__(
        self,
        network: Segmenter,
        dtype: torch.dtype = torch.float32,
        *,
        side: int = 64,
        context: Callable[[], AbstractContextManager] = nullcontext,
    ):
        """`side` is that of square images which the network takes; `context` (autocast) is around each answer."""
        whole = build_skeleton(network.config)
        folded, self.foldings, self.dtype = deepcopy(whole), [], dtype
        with suppress(RuntimeError, AssertionError, ValueError):  # an encoder that takes no images of this size
            self.foldings = foldings_of(whole, side)
        for folding in self.foldings:
            _replace(folded, folding)
        if self.foldings and not _answer_alike(whole, folded, self.foldings, network, side):
            folded, self.foldings = whole, []
        self.skeleton, self.context = folded, context

    def tensors_of(self, network: nn.Module) -> dict[str, Tensor]:
        """What this form needs of a network's present state; some of it may share the network's memory."""
        return self.form(tensors_of(network))

    @torch.no_grad()
    def form(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same of tensors under a network's own names."""
        tensors = fold(tensors, self.foldings)
        return {name: t.to(self.dtype) if t.is_floating_point() and t.ndim > 1 else t for name, t in tensors.items()}

    def answer(self, network: nn.Module, images: Tensor) -> Tensor:
        """Logits by the network as it is now, before `enlarge`."""
        return self.logits(self.tensors_of(network), images)

    def of(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """The network as it is now, in this form: a function of images (B, 3, H, W) to logits of their size."""
        tensors = self.tensors_of(network)
        return lambda images: enlarge(self.logits(tensors, images), images)

    def logits(self, tensors: dict[str, Tensor], images: Tensor) -> Tensor:
        """Eval-mode logits (B, C, about H/4, about W/4) in float32, before `enlarge`."""
        with self.context():
            return frozen_logits(self.skeleton, tensors, images)


def fold(tensors: dict[str, Tensor], foldings: Sequence[Folding]) -> dict[str, Tensor]:
    """Take BatchNorms into the convolutions before them; returns a new dict without their entries."""
    rest = dict(tensors)
    for convolution, norm, eps in foldings:
        mean, variance = (rest.pop(f"{norm}.running_{name}") for name in ("mean", "var"))
        scale, shift = torch.rsqrt(variance + eps), -mean
        rest.pop(f"{norm}.num_batches_tracked", None)
        if (bias := rest.get(f"{convolution}.bias")) is not None:
            shift = shift + bias
        if (gain := rest.pop(f"{norm}.weight", None)) is not None:
            scale = scale * gain
        shift = shift * scale
        if (offset := rest.pop(f"{norm}.bias", None)) is not None:
            shift = shift + offset
        rest[f"{convolution}.weight"] = rest[f"{convolution}.weight"] * scale.view(-1, 1, 1, 1)
        rest[f"{convolution}.bias"] = shift
    return rest


def foldings_of(skeleton: Segmenter, side: int) -> list[Folding]:
    """Find by one forward which BatchNorms read a convolution's output, and nothing else; costs no arithmetic."""
    names = {module: name for name, module in skeleton.named_modules()}
    made: dict[int, tuple[nn.Module, Tensor]] = {}  # the tensors too, so that no other gets an old one's id
    found, calls = [], []

    def after_convolution(module: nn.Module, _: object, output: Tensor) -> None:
        made[id(output)] = (module, output)
        calls.append(module)

    def before_norm(module: nn.Module, inputs: tuple[Tensor]) -> None:
        if id(inputs[0]) in made:
            found.append((made[id(inputs[0])][0], module))

    handles = []
    for module in names:
        if type(module) in LINEAR:
            handles.append(module.register_forward_hook(after_convolution))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            handles.append(module.register_forward_pre_hook(before_norm))
    skeleton(torch.zeros(1, 3, side, side, device="meta"))
    for handle in handles:
        handle.remove()
    once = [pair for pair in found if all(sum(m in other for other in found) == 1 for m in pair)]
    return [Folding(names[c], names[n], n.eps) for c, n in once if calls.count(c) == 1]  # type: ignore[arg-type]


def _replace(skeleton: Segmenter, folding: Folding) -> None:
    """Give the convolution a bias, and leave of the BatchNorm what timm's also do: dropping and activating."""
    convolution, norm = (skeleton.get_submodule(name) for name in folding[:2])
    assert isinstance(convolution, nn.Conv2d)
    convolution.bias = nn.Parameter(torch.empty(convolution.out_channels, device="meta"))
    rest = nn.Sequential(*(getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)))
    parent, _, name = folding.norm.rpartition(".")
    setattr(skeleton.get_submodule(parent), name, rest.eval())


@torch.no_grad()
def _answer_alike(
    whole: Segmenter, folded: Segmenter, foldings: Sequence[Folding], network: Segmenter, side: int
) -> bool:
    """Compare both forms on noise, with statistics far from a new network's, by which a wrong folding would show."""
    generator = torch.Generator().manual_seed(0)
    tensors = {name: t.cpu() for name, t in tensors_of(network).items()}
    for folding in foldings:
        for name, low in (("running_mean", -0.1), ("running_var", 0.8), ("weight", 0.8), ("bias", -0.1)):
            if f"{folding.norm}.{name}" in tensors:
                old = tensors[f"{folding.norm}.{name}"]
                noise = low + (0.2 if low < 0 else 0.4) * torch.rand(old.shape, generator=generator)
                tensors[f"{folding.norm}.{name}"] = old + noise if low < 0 else old * noise
    images = torch.randn(1, 3, side, side, generator=generator)
    expected, answer = (
        frozen_logits(form, t, images) for form, t in ((whole, tensors), (folded, fold(tensors, foldings)))
    )
    return torch.allclose(expected, answer, rtol=1e-3, atol=1e-3 * expected.abs().max().item())
