"""Taggers of named entities: whose names are found."""
