"""Generators of the pages and tables that come from the code."""
