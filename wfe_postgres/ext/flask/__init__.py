"""Workflows in a Flask application: the store on Flask-SQLAlchemy's engine, `db.session` in each step, `flask wfe`."""

from wfe_postgres.ext.flask.extension import WFE, HostOptions

__all__ = ["WFE", "HostOptions"]
