"""Between contract objects and what the database stores. No database, no SQLAlchemy session: pure functions."""
