"""Classifiers: sentences about persons, and the auditor's own texts, labels and groups."""
