"""Frames of any task set, with or without a window."""
