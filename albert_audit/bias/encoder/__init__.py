"""Encoders: distances between words for groups and words for topics."""
