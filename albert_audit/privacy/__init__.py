"""Privacy leakage: what a model gives away of the records it was trained on."""
