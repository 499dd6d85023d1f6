"""The smallest decoder: one linear map of the deepest feature, by which self-supervised encoders are compared."""

from torch import Tensor, nn


class LinearDecoder(nn.Module):
    """The deepest feature → logits of its size."""

    def __init__(self, channels_in: int, num_classes: int):
        super().__init__()
        self.classifier = nn.Conv2d(channels_in, num_classes, 1)

    def forward(self, *features: Tensor) -> Tensor:
        """Map features, shallow to deep, of which the last is (B, channels_in, h, w), to (B, num_classes, h, w)."""
        return self.classifier(features[-1])
