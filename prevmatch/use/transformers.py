"""Saved models in transformers: after `import prevmatch.transformers` its Auto classes and pipelines load them.

import prevmatch.transformers
from transformers import pipeline

segment = pipeline("image-segmentation", model="outputs/camvid/best")
segment("street.jpg")  # [{"score": None, "label": "road", "mask": <PIL image>}, ...]
"""

import dataclasses
from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForSemanticSegmentation, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SemanticSegmenterOutput
from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES

from prevmatch.config import IGNORE_INDEX, SegmenterConfig
from prevmatch.evaluate import class_scores
from prevmatch.models.encoder import patch_size
from prevmatch.models.saved import tuples
from prevmatch.models.segmenter import Segmenter, enlarge


class PrevMatchConfig(PreTrainedConfig):
    """The config.json of a Segmenter, as transformers reads it; its settings are attributes."""

    model_type = "prevmatch"

    def segmenter_config(self) -> SegmenterConfig:
        """The same for a Segmenter."""
        names = {field.name for field in dataclasses.fields(SegmenterConfig)}
        given = {name: value for name, value in self.to_dict().items() if name in names}
        return SegmenterConfig(**{name: tuples(value) for name, value in given.items()})


class PrevMatchForSemanticSegmentation(PreTrainedModel):
    """A Segmenter's network under transformers' conventions; its tensors have the same names."""

    config_class = PrevMatchConfig
    main_input_name = "pixel_values"

    def __init__(self, config: PrevMatchConfig):
        super().__init__(config)
        segmenter = Segmenter(config.segmenter_config())
        self.encoder, self.decoder = segmenter.encoder, segmenter.decoder
        self.window, self.inside = segmenter.config.eval_window, patch_size(segmenter.config.encoder) > 1
        self.post_init()

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **_: Any) -> SemanticSegmenterOutput:
        """Map normalised images (B, 3, H, W) to logits (B, C, H, W); `labels` (B, H, W), 255 ignored, add a loss.

        In eval mode a model that was evaluated in sliding windows gives the logarithm of their summed probabilities.
        """
        if self.training or self.window is None:
            logits = self._logits(pixel_values)
        else:
            logits = class_scores(self._logits, pixel_values, self.window, inside=self.inside).clamp_min(1e-30).log()
        loss = None if labels is None else cross_entropy(logits, labels.long(), ignore_index=IGNORE_INDEX)
        return SemanticSegmenterOutput(loss=loss, logits=logits)

    def _logits(self, images: Tensor) -> Tensor:
        return enlarge(self.decoder(*self.encoder(images)), images)

    def _init_weights(self, module: Any) -> None:
        """Nothing: a Segmenter initialises itself, and loading replaces every tensor."""


AutoConfig.register("prevmatch", PrevMatchConfig)
AutoModelForSemanticSegmentation.register(PrevMatchConfig, PrevMatchForSemanticSegmentation)
# The pipeline complains of any class that this list of names lacks.
MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES["prevmatch"] = PrevMatchForSemanticSegmentation.__name__
