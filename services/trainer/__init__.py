"""Trainer: hears training.requested, decides which of the declared estimators learns a cut best, says model.trained."""
