"""Streams and models on real data, each with its feeder."""
