"""Digits that people wrote by hand: which of ten is it? A classification into many classes."""
