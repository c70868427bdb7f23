"""Checkpoint to scores: the only rooms that import transformers.

Importing this package loads nothing; the modules do.
"""
