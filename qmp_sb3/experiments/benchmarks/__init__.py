"""Definitions of tables and figures, and ours beside the published numbers."""
