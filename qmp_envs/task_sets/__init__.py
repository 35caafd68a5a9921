"""The task sets: one file per family, a folder where a family needs more."""
