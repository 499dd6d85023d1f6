"""Networks: encoder (timm), decoder (DeepLabV3+, DPT or linear), and the Segmenter that joins them."""
