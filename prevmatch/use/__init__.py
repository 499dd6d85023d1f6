"""Using a finished model: prediction, scores on a data set, other runtimes, transformers."""
