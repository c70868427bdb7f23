"""Counterfactual substitution: identity terms found and exchanged in one pass."""
