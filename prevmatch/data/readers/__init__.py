"""One small file for each layout of data: `read(folder)` gives what was found, or None if the folder is not so."""
