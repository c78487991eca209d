"""An application table in the same database, used to check that no effect is lost or duplicated.

The table has no unique constraint, so an effect that is committed twice is visible.
"""

from collections import Counter

from sqlalchemy import Column, Engine, Integer, MetaData, Table, Text, func, insert, select
from sqlalchemy.orm import Session

TABLE = "demo_effects"

Effects = Counter[tuple[str, str]]
"""The number of records for each (workflow id, effect)."""


class Ledger:
    """The table in a schema."""

    def __init__(self, engine: Engine, schema: str) -> None:
        self.engine = engine
        self._table = Table(
            TABLE,
            MetaData(schema=schema),
            Column("id", Integer, primary_key=True),
            Column("workflow_id", Text, nullable=False),
            Column("effect", Text, nullable=False),
            Column("worker", Text, nullable=False),
        )

    def create(self) -> None:
        """Create the table."""
        self._table.create(self.engine)

    def write(self, session: Session, workflow_id: str, effect: str, worker: str) -> None:
        """Add a row in the session's transaction."""
        session.execute(insert(self._table).values(workflow_id=workflow_id, effect=effect, worker=worker))

    def effects(self) -> Effects:
        """The committed effects."""
        columns = self._table.c.workflow_id, self._table.c.effect
        with self.engine.connect() as connection:
            rows = connection.execute(select(*columns, func.count()).group_by(*columns))
            return Counter({(workflow_id, effect): count for workflow_id, effect, count in rows})

    def workers(self, workflow_id: str, effect: str) -> list[str]:
        """The workers that recorded the effect, once for each record."""
        where = self._table.c.workflow_id == workflow_id, self._table.c.effect == effect
        with self.engine.connect() as connection:
            return list(connection.scalars(select(self._table.c.worker).where(*where).order_by(self._table.c.id)))
