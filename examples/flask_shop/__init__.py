"""A shop on Flask-SQLAlchemy whose orders are workflows. Start reading at `app.py`, and running at README.md."""
