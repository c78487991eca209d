"""A Django shop whose orders are workflows. Start with `views.py`; README.md explains how to run it."""
