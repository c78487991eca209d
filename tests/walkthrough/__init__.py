"""Runs all commands of the README, docs/ and the examples on a system without any preparation."""
