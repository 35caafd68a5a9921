"""One training run: its specification, directory, lock, checkpoints and results."""
