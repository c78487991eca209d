"""A shop whose orders are workflows, once with Flask and once with Django; README.md explains how to run it."""
