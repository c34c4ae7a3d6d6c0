"""Rows in, episodes out: what a training step is about."""
