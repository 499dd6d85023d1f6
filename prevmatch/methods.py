"""The methods as values, guides × views × mixing × weights, and the one training step that all of them share.

A step reads: guides label the weak view; the student answers harder views; boxes paste images and labels alike; each
guide's losses count by its weight. Another method is another `Method`, or one more guide (`guides.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import nll_loss

from prevmatch.config import TrainConfig
from prevmatch.guides import Guide
from prevmatch.losses import confidence_weighted
from prevmatch.models.segmenter import at_least_float32, enlarge
from prevmatch.views import Views, paste

SupervisedLoss = Callable[[Tensor, Tensor], Tensor]
"""(logits (B, C, H, W), class ids (B, H, W)) → scalar."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """Which views of an unlabelled image the student answers, what they weigh, and who labels them."""

    strong: tuple[float, ...] = ()
    """One weight per strong view; each is mixed with a partner image by a CutMix box of its own."""
    feature: float = 0.0
    """Weight of a further view, whose encoder features lose channels (UniMatch); 0 leaves it out."""
    feature_dropout: float = 0.5
    """Probability with which that view loses a channel."""
    guides: tuple[str, ...] = ()
    """Whose pseudo-labels the views are compared with: "student", "previous"."""

    @property
    def uses_unlabelled(self) -> bool:
        """Whether the method looks at unlabelled images at all."""
        return bool(self.strong)


SUPERVISED = Method()
FIXMATCH = Method(strong=(1.0,), guides=("student",))
UNIMATCH = Method(strong=(0.25, 0.25), feature=0.5, guides=("student",))
PREVMATCH = replace(UNIMATCH, guides=("student", "previous"))
METHODS = {"supervised": SUPERVISED, "fixmatch": FIXMATCH, "unimatch": UNIMATCH, "prevmatch": PREVMATCH}


def method_of(config: TrainConfig) -> Method:
    """The method that the settings name, with previous guidance added if they ask for it.

    Previous models can guide only where there is a view to answer, so a supervised run gets FixMatch's strong view.
    """
    method = METHODS[config.method]
    if config.previous_guidance and "previous" not in method.guides:
        method = replace(method, strong=method.strong or FIXMATCH.strong, guides=(*method.guides, "previous"))
    return method


class PseudoLabels(NamedTuple):
    """What a guide says of a batch of images."""

    labels: Tensor
    """Class ids (B, H, W), int64."""
    confidence: Tensor
    """Probability of that class (B, H, W), float32 or more precise."""
    valid: Tensor
    """False on padding (B, H, W), bool."""


def step(
    network: nn.Module,
    views: Views,
    *,
    method: Method,
    guides: Sequence[Guide] = (),
    supervised_loss: SupervisedLoss,
) -> dict[str, Tensor]:
    """One training step's losses: a pure function of the network, the views and the guides, without a device sync.

    Returns scalars: `loss` to be minimised, `supervised`, and per guide and view the loss `GUIDE/strong1`,
    `GUIDE/strong2`, `GUIDE/feature` and the accepted share of the weak images' pixels, `GUIDE/mask_ratio`.
    With guides g of weight w_g (the supervised loss has 1):
    loss = (supervised + Σ_g w_g Σ_views weight · loss) / (1 + Σ_g w_g), which is (Lx + Lu + λ Lprev) / (2 + λ).
    """
    if not method.uses_unlabelled:
        loss = supervised_loss(network(views.labelled), views.mask)
        return {"loss": loss, "supervised": loss.detach()}

    # Guides look first: the student's eval-mode answers must not contain this step's BatchNorm updates.
    with torch.no_grad():
        answers = [guide.answer(views.weak, views.partner) for guide in guides]

    images = torch.cat([views.labelled, views.weak])
    coarse: list[tuple[str, float, Tensor, Tensor | None]] = []
    if method.feature:
        logits, perturbed = network(images, method.feature_dropout, enlarged=False)
        coarse.append(("feature", method.feature, perturbed.tensor_split(2)[1], None))
    else:
        logits = network(images, enlarged=False)
    labelled_logits, weak_logits = logits.tensor_split(2)
    strong_logits = network(torch.cat(views.strong), enlarged=False).tensor_split(len(views.strong))
    for i, weight in enumerate(method.strong):
        coarse.append((f"strong{i + 1}", weight, strong_logits[i], views.boxes[i]))
    # Enlarged only now, and only those that a loss reads. Log-probabilities serve every guide.
    students = [(name, w, enlarge(part, views.weak).log_softmax(dim=1), box) for name, w, part, box in coarse]

    supervised = supervised_loss(enlarge(labelled_logits, views.labelled), views.mask)
    total, losses = supervised, {"supervised": supervised.detach()}
    for guide, (weak_answer, partner_answer) in zip(guides, answers, strict=True):
        weak_answer = weak_logits.detach() if weak_answer is None else weak_answer
        weak = _pseudo_labels(enlarge(weak_answer, views.weak), views.valid)
        partner = _labels_of_partners(partner_answer, weak, views)
        for name, weight, log_probabilities, box in students:
            target = (
                weak if box is None else PseudoLabels(*(paste(box, p, w) for p, w in zip(partner, weak, strict=True)))
            )
            loss = confidence_weighted(
                nll_loss(log_probabilities, target.labels, reduction="none"),
                target.confidence,
                target.valid,
                threshold=guide.threshold,
                mode=guide.weighting,
            )
            total = total + guide.weight * weight * loss
            losses[f"{guide.name}/{name}"] = loss.detach()
        accepted = ((weak.confidence >= guide.threshold) & weak.valid).sum()
        losses[f"{guide.name}/mask_ratio"] = accepted / weak.valid.sum().clamp(min=1)
    return {"loss": total / (1 + sum(guide.weight for guide in guides)), **losses}


def _pseudo_labels(logits: Tensor, valid: Tensor) -> PseudoLabels:
    confidence, labels = at_least_float32(logits).softmax(dim=1).max(dim=1)
    return PseudoLabels(labels, confidence, valid)


def _labels_of_partners(answer: Tensor | None, weak: PseudoLabels, views: Views) -> PseudoLabels:
    """One map per image of the batch; where no box shows the partner it is not looked at, and may be anything."""
    if answer is None:
        return PseudoLabels(*(maps.roll(1, dims=0) for maps in weak))
    assert views.partner is not None
    assert views.partner_valid is not None
    found, rows = _pseudo_labels(enlarge(answer, views.partner), views.partner_valid), views.partner_rows
    if rows is None:
        return found
    return PseudoLabels(*(m.index_copy(0, rows, f) for m, f in zip(weak, found, strict=True)))
