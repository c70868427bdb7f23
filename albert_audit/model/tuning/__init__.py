"""Fine-tune a checkpoint on given texts: reference and control models for the privacy tests.

A reference model must come of the audited model's own recipe, or it tells how models of another
training answer. What `tune` writes is a checkpoint that `albert_audit.model.load.load` takes.
"""

from albert_audit.model.tuning.job import Job
from albert_audit.model.tuning.linear import heads
from albert_audit.model.tuning.many import tune_many
from albert_audit.model.tuning.one import forecast, tune
from albert_audit.model.tuning.recipe import Recipe
from albert_audit.model.tuning.training import Stopped, held_out

__all__ = ["Job", "Recipe", "Stopped", "forecast", "heads", "held_out", "tune", "tune_many"]
