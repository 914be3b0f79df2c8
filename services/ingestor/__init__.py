"""Ingestor: hears stream.applied and model.applied; decides which records of data, labels and predictions are good,
keeps them in Delta tables exactly once and parks the others; says dataset.committed.
"""
