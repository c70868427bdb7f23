"""Audit documents → the card (``html``) and the CI report (``junit``).

The rooms of this package read documents only: they compute no statistic, ask no clock and import
neither torch nor numpy.
"""
