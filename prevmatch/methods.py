"""The methods as values, guides × views × mixing × weights, and the one training step that all of them share.

A step reads: guides label the weak view; mixing pastes images and labels alike; the students answer harder views; each
guide's losses count by its weight. Another method is another `Method`, or one more guide (`guides/`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import dropout2d, nll_loss

from prevmatch.config import GuidanceConfig, Partner, Weighting
from prevmatch.errors import ConfigError
from prevmatch.guides.guide import Builder, Guide
from prevmatch.guides.itself import itself
from prevmatch.guides.outside import outside
from prevmatch.guides.peer import co_student, peer
from prevmatch.guides.previous import previous
from prevmatch.guides.teacher import teacher
from prevmatch.guides.temporary import temporary
from prevmatch.losses import weighted
from prevmatch.mixing import (
    DrawBox,
    Labels,
    Mixing,
    adaptive_cutmix,
    classmix,
    cutmix,
    cutmix_of_one_size,
    cutmix_of_three,
    draw_box,
)
from prevmatch.models.segmenter import Perturbation, at_least_float32, enlarge
from prevmatch.views import DrawStrong, Views, draw_intensities, draw_nothing, draw_strong

SupervisedLoss = Callable[[Tensor, Tensor], Tensor]
"""(logits (B, C, H, W), class ids (B, H, W)) → scalar."""


def with_dropped_channels(features: list[Tensor], *, probability: float) -> list[Tensor]:
    """Beside the features themselves, the same with channels dropped (UniMatch's feature perturbation)."""
    return [torch.cat([feature, dropout2d(feature, probability)]) for feature in features]


def with_complementary_channels(features: list[Tensor]) -> list[Tensor]:
    """Half of the channels, doubled, for the first half of the images, and the other half for the second, which are
    other views of the same (UniMatch V2); a random half of the image pairs keeps all channels.

    Features of as many channels, all four of a ViT, share their masks.
    """
    pairs, device = len(features[0]) // 2, features[0].device
    whole = torch.rand(pairs, device=device).argsort() < pairs // 2
    masks = dict[int, Tensor]()
    for feature in features:
        width = feature.shape[1]
        if width not in masks:
            first = 2 * torch.randint(2, (pairs, width), device=device)
            first = first.masked_fill(whole[:, None], 1)
            masks[width] = torch.cat([first, 2 - first])[:, :, None, None].to(feature.dtype)
    return [feature * masks[feature.shape[1]] for feature in features]


@dataclass(frozen=True)
class Forward:
    """Images that pass a student in training as one batch, and so share BatchNorm's statistics."""

    views: tuple[str, ...]
    """"labelled", "weak", "strong1", "strong2", or "unmixed1" for the first strong view before it is mixed."""
    perturb: Perturbation | None = None
    """What changes the encoder's features before the decoder sees them."""
    outputs: tuple[str, ...] = ()
    """What the equal parts of the logits are called; the views' names where nothing else is said."""

    @property
    def mixed(self) -> bool:
        """Whether it needs what guides say, because mixing comes after labelling."""
        return any(name.startswith("strong") for name in self.views)


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a student answers, what each answer weighs, and who labels."""

    forwards: tuple[Forward, ...] = (Forward(("labelled",)),)
    """In this order; those without strong views first."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Weight of each output that is compared with pseudo-labels."""
    weightings: Mapping[str, Weighting] = field(default_factory=dict)
    """How confidence weighs the loss of an output, where that is not left to the guides."""
    guides: tuple[Builder, ...] = ()
    """Who labels."""
    mixing: Mixing = cutmix
    """How strong views are mixed."""
    partner: Partner = "independent"
    """The image that is pasted into another."""
    draw: DrawStrong = draw_strong
    """What changes a strong view."""
    box: DrawBox | None = draw_box
    """Where another image is shown; None leaves that to the mixing."""
    ema_decay: float = 0.99
    """Cap of the decay of the student's average, where there is one."""
    ema_idle_epochs: int = 0
    """Epochs in which it is a copy of the student."""
    score: Literal["student", "ema"] = "student"
    """What is scored."""
    students: int = 1
    """How many networks train; the first one is scored."""
    averaged: bool = False
    """Whether their losses are averaged, not added."""
    divided: bool = True
    """Whether the sum of the losses is divided by the sum of the guides' weights and 1 (UniMatch, PrevMatch)."""
    alternate: Mapping[str, Any] = field(default_factory=dict)
    """What of it is different in every second epoch, from the second one on."""

    def at(self, epoch: int) -> "Method":
        """What it is in an epoch."""
        return replace(self, **self.alternate) if epoch % 2 else self

    @property
    def uses_unlabelled(self) -> bool:
        """Whether the method looks at unlabelled images at all."""
        return bool(self.weights)

    @property
    def strong_views(self) -> int:
        """How many strong views of an image there are."""
        return sum(name.startswith("strong") for forward in self.forwards for name in forward.views)


SUPERVISED = Method()
FIXMATCH = Method(
    forwards=(Forward(("labelled", "weak")), Forward(("strong1",))), weights={"strong1": 1.0}, guides=(itself,)
)
UNIMATCH = Method(
    forwards=(
        Forward(
            ("labelled", "weak"),
            partial(with_dropped_channels, probability=0.5),
            ("labelled", "weak", "labelled feature", "feature"),
        ),
        Forward(("strong1", "strong2")),
    ),
    weights={"strong1": 0.25, "strong2": 0.25, "feature": 0.5},
    guides=(itself,),
)
PREVMATCH = replace(UNIMATCH, guides=(itself, previous))
# SemiVL's guidance (ECCV 2024) over any encoder; its decoder, and its encoder that begins as CLIP's, are not here.
SEMIVL = replace(UNIMATCH, guides=(itself, outside))
# AugSeg's step (CVPR 2023) without its own augmentations: an EMA teacher, one batch, an undivided sum.
MEAN_TEACHER = Method(
    forwards=(Forward(("labelled", "strong1")),), weights={"strong1": 1.0}, guides=(teacher,), divided=False
)
AUGSEG = replace(
    MEAN_TEACHER,
    mixing=adaptive_cutmix,
    partner="labelled",
    draw=draw_intensities,
    box=None,
    ema_decay=0.999,
    ema_idle_epochs=1,
    score="ema",
)
UNIMATCH_V2 = Method(
    forwards=(Forward(("labelled",)), Forward(("strong1", "strong2"), with_complementary_channels)),
    weights={"strong1": 0.5, "strong2": 0.5},
    guides=(teacher,),
    partner="reversed",
    ema_decay=0.996,
    score="ema",
)
# Dual Teacher (NeurIPS 2023) as its code for ADE20K has it, over any encoder here: the student without stochastic
# depth, images changed before they are mixed, never flipped after it, the partner that of the batch, and pixels of
# the mixed image weighed by what it shows.
DUAL_TEACHER = Method(
    forwards=(Forward(("unmixed1",)), Forward(("labelled", "strong1"))),
    weights={"strong1": 1.0, "unmixed1": 0.2},
    weightings={"strong1": "pixelratio"},
    guides=(temporary,),
    mixing=cutmix_of_one_size,
    partner="batch",
    draw=partial(draw_strong, spread=0.25, greys=0, sigma=(0.15, 1.15)),
    box=None,
    divided=False,
    alternate={"mixing": classmix, "draw": partial(draw_strong, jitters=1, blurs=0)},
)
CPS = Method(
    forwards=(Forward(("labelled",)), Forward(("strong1",))),
    weights={"strong1": 1.0},
    guides=(peer,),
    mixing=cutmix_of_three,
    draw=draw_nothing,
    box=None,
    divided=False,
    students=2,
)
# Diverse Co-training (ICCV 2023): its students have other encoders, as many as the settings name, and learn from each
# other. All see the same strong view, where the published network over coefficients has one of its own.
CO_TRAINING = replace(FIXMATCH, guides=(), partner="batch", divided=False, averaged=True)
METHODS = {
    "supervised": SUPERVISED,
    "fixmatch": FIXMATCH,
    "unimatch": UNIMATCH,
    "prevmatch": PREVMATCH,
    "semivl": SEMIVL,
    "mean_teacher": MEAN_TEACHER,
    "augseg": AUGSEG,
    "unimatch_v2": UNIMATCH_V2,
    "dual_teacher": DUAL_TEACHER,
    "cps": CPS,
    "co_training": CO_TRAINING,
}


def method_of(config: GuidanceConfig) -> Method:
    """The method that the settings name, with the partner, EMA teacher or further guides that they ask for.

    These can guide only where there is a view to answer, so a supervised run gets FixMatch's strong view. Raises
    ConfigError for other students that it has not.
    """
    method = METHODS[config.method]
    others = len(config.co_encoders)
    if others:
        if config.method != "co_training":
            raise ConfigError(
                f"co_encoders are only trained by method co_training, not by {config.method}; leave them out"
            )
        guides: tuple[Builder, ...] = tuple(partial(co_student, ahead=ahead) for ahead in range(1, others + 1))
        method = replace(method, guides=guides, students=others + 1)
    if method.mixing is not adaptive_cutmix:  # which knows labelled images alone
        method = replace(method, partner=config.partner or method.partner)
    if config.ema_decay is not None:
        guides = tuple(teacher if guide is itself else guide for guide in method.guides)
        method = replace(method, guides=guides, ema_decay=config.ema_decay)
    asked = ((previous, config.previous_guidance), (outside, config.outside_model is not None))
    added = tuple(guide for guide, wanted in asked if wanted and guide not in method.guides)
    if added:
        views = method if method.weights else replace(FIXMATCH, partner=method.partner)
        method = replace(views, guides=(*method.guides, *added))
    return method


class Learner(Protocol):
    """A student as the step sees it."""

    @property
    def prepared(self) -> nn.Module:
        """The network as it is called in training."""

    @property
    def guides(self) -> Sequence[Guide]:
        """Who labels for it."""


class Step(NamedTuple):
    """What a step came to."""

    losses: dict[str, Tensor]
    """Scalars: `loss` to be minimised, `supervised`, and per guide and output the loss `GUIDE/strong1` and so on, and
    the accepted share of the weak images' pixels, `GUIDE/mask_ratio`. Those of a second student begin with `2/`."""
    labelled: list[Tensor]
    """What each student said of the labelled images: logits (B, C, h, w), not enlarged (they outlive the step, and
    enlarged ones take much memory), without gradient."""


def step(students: Sequence[Learner], views: Views, *, method: Method, supervised_loss: SupervisedLoss) -> Step:
    """One training step's losses: a pure function of the students, the views and the guides, without a device sync.

    With guides g of weight w_g (the supervised loss has 1), the loss of a student is
    (supervised + Σ_g w_g Σ_outputs weight · loss) / (1 + Σ_g w_g), which is (Lx + Lu + λ Lprev) / (2 + λ), or the
    undivided sum; several students' losses are added, so that each learns as it would alone, or averaged.
    """
    asked = [[guide for guide in student.guides if guide.weight > 0] for student in students]
    read = {guide.reads for guides in asked for guide in guides}
    plans = [_needed(method, guides, own_read=number in read) for number, guides in enumerate(asked)]
    count = len(views.labelled)

    # Guides look first: a student's eval-mode answers must not contain this step's BatchNorm updates.
    with torch.no_grad():
        looks = [[_look(guide, views) for guide in guides] for guides in asked]
    images = {"labelled": views.labelled, "weak": views.weak[:count]}
    images |= {f"unmixed{i}": view.pool[:count] for i, view in enumerate(views.strong, start=1)}
    said = [_answers(student, plan, images, mixed=False) for student, plan in zip(students, plans, strict=True)]

    asking = [pair for own, seen in zip(asked, looks, strict=True) for pair in zip(own, seen, strict=True)]
    logits = [_logits(guide, look, said) for guide, look in asking]
    labels = [_labels(each, views) for each in logits]
    own = [each.first(count) for each in labels]
    pools, targets = [views.pool(each) for each in labels], dict.fromkeys(("weak", *method.weights), own)
    for i, view in enumerate(views.strong if pools else (), start=1):  # all students see the same mixed images
        images[f"strong{i}"], targets[f"strong{i}"] = method.mixing(view, pools, logits)

    losses, labelled, place = dict[str, Tensor](), [], 0
    for number, (student, guides) in enumerate(zip(students, asked, strict=True)):
        told = {name: each[place : place + len(guides)] for name, each in targets.items()}
        place += len(guides)
        answers = said[number] | _answers(student, plans[number], images, mixed=True)
        labelled.append(answers["labelled"].detach())
        terms = {"supervised": supervised_loss(enlarge(answers["labelled"], views.labelled), views.mask)}
        terms |= _terms(method, guides, told, answers, views)
        shares = {f"{g.name}/mask_ratio": _accepted(g, own) for g, own in zip(guides, told["weak"], strict=True)}
        losses |= {f"{number + 1}/{n}" if number else n: v.detach() for n, v in (terms | shares).items()}
        loss = _total(method, guides, terms)
        loss = loss / len(students) if method.averaged else loss
        losses["loss"] = losses["loss"] + loss if number else loss
    return Step(losses, labelled)


def _needed(method: Method, guides: Sequence[Guide], *, own_read: bool) -> list[Forward]:
    """The forwards of which something is read: without guides the labelled images; the weak ones only where a guide,
    perhaps another student's, reads this student's logits, or they are perturbed."""
    if not guides:
        return [Forward(("labelled", "weak") if own_read else ("labelled",))]
    bare = [replace(f, views=tuple(v for v in f.views if v != "weak")) for f in method.forwards]
    return [f if own_read or f.perturb else b for f, b in zip(method.forwards, bare, strict=True)]


def _look(guide: Guide, views: Views) -> Tensor | None:
    """What a guide says of the weak images by itself: of all, or of the partners, if there are any."""
    images = views.weak if guide.reads is None else views.weak[len(views.labelled) :]
    return guide.label(images) if len(images) else None


def _answers(
    student: Learner, plan: Sequence[Forward], images: Mapping[str, Tensor], *, mixed: bool
) -> dict[str, Tensor]:
    """A student's logits (B, C, h, w), not enlarged yet, by the name of each output."""
    found = dict[str, Tensor]()
    for forward in plan:
        if forward.mixed == mixed:
            names = forward.outputs or forward.views
            batch = torch.cat([images[view] for view in forward.views])
            logits = student.prepared(batch, forward.perturb, enlarged=False)
            found |= zip(names, rearrange(logits, "(part b) c h w -> part b c h w", part=len(names)), strict=True)
    return found


def _logits(guide: Guide, look: Tensor | None, said: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """What a guide says of all weak images (N, C, h, w), not enlarged yet."""
    own = [] if guide.reads is None else [said[guide.reads]["weak"].detach()]
    return torch.cat([at_least_float32(part) for part in (*own, look) if part is not None])


def _labels(logits: Tensor, views: Views) -> Labels:
    """The pseudo-labels in that."""
    confidence, ids = enlarge(logits, views.weak).softmax(dim=1).max(dim=1)
    return Labels(ids, confidence, views.valid)


def _accepted(guide: Guide, said: Labels) -> Tensor:
    """The share of real pixels whose pseudo-label counts."""
    return (guide.accepts(said.ids, said.confidence) & said.valid).sum() / said.valid.sum().clamp(min=1)


def _terms(
    method: Method,
    guides: Sequence[Guide],
    targets: Mapping[str, Sequence[Labels]],
    answers: Mapping[str, Tensor],
    views: Views,
) -> dict[str, Tensor]:
    """The loss of each guide on each output."""
    terms = dict[str, Tensor]()
    for name in method.weights if guides else ():
        log_probabilities = enlarge(answers[name], views.labelled).log_softmax(dim=1)  # serve every guide
        for guide, target in zip(guides, targets[name], strict=True):
            terms[f"{guide.name}/{name}"] = weighted(
                nll_loss(log_probabilities, target.ids, reduction="none"),
                target.confidence,
                target.valid,
                guide.accepts(target.ids, target.confidence),
                mode=method.weightings.get(name, guide.weighting),
            )
    return terms


def _total(method: Method, guides: Sequence[Guide], terms: Mapping[str, Tensor]) -> Tensor:
    """The loss of one student."""
    loss = terms["supervised"]
    for guide in guides:
        for name, weight in method.weights.items():
            loss = loss + guide.weight * weight * terms[f"{guide.name}/{name}"]
    return loss / (1 + sum(guide.weight for guide in guides)) if method.divided else loss
