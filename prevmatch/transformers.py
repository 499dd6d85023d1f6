"""`import prevmatch.transformers` makes transformers load saved models; see `prevmatch.use.transformers`."""

from prevmatch.use.transformers import PrevMatchConfig, PrevMatchForSemanticSegmentation

__all__ = ["PrevMatchConfig", "PrevMatchForSemanticSegmentation"]
