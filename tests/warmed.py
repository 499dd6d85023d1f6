"""What the warm parent does once, so that its children need not: find all kinds of pictures, build a first network."""

from PIL import Image

from prevmatch.config import SegmenterConfig
from prevmatch.models.frozen import build_skeleton

Image.init()
build_skeleton(SegmenterConfig(encoder="test_resnet", num_classes=5))
