"""A Flask-SQLAlchemy shop whose orders are workflows. Start with `app.py`; README.md explains how to run it."""
