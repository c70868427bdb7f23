"""Small ALBERT models whose answer is known, to audit the audit.

``grammar``
    the population of templates from which the pronoun pack was drawn
``text``
    the words of the shipped English packs, a tokenizer that knows them all, and training text
``build``
    trains a model with a planted association, and makes its twin that has none
``truth``
    the exact value over the whole population, by a scorer that shares no code with the audit

Importing this package loads none of them, and so neither torch nor transformers.
"""
