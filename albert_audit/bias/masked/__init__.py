"""Masked language models: template gaps, pairs of sentences, completions, pronouns."""
