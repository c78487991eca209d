"""Implementations of the same operations, with a common interface."""
