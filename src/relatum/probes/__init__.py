"""Probes: what happens inside a network while it runs, seen without changing it."""
