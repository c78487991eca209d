"""A shop on Django whose orders are workflows. Start reading at `views.py`, and running at README.md."""
