"""Data: sources (images and masks as `datasets.Dataset`), splits, crops and the loader. Knows no method."""
