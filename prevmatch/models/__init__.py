"""Networks: encoder (timm), decoder (DeepLabV3+), and the Segmenter that joins them."""
