"""Loaders of published benchmarks, which are not shipped: read as published, by path."""
