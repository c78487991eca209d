"""The statements of the queue. What reads the table is in functions of the store, where the planner has no choice.

There is no unique key: a transaction that queues an id must not wait for another one that queues it too, nor rely on
a row that somebody takes before it commits. So an id can have several rows, which are taken together.
"""

from sqlalchemy import Executable, Table, func, insert, literal_column, select

from wfe_postgres.connections.execution import ANY_SCHEMA
from wfe_postgres.orm.services import QueueRow
from wfe_postgres.statements.expressions import builtin, text_parameter
from wfe_postgres.statements.tables import table_of

work: Table = table_of(QueueRow)

_functions = getattr(func, ANY_SCHEMA)
_queue, _id, _channel = text_parameter("queue"), text_parameter("id"), text_parameter("channel")

QUEUE: Executable = select(_functions.queue_work(_queue, _id, _channel))
"""Notifies the channel, unless another id waits; without one (null) it notifies nobody."""

_queued = insert(work).values(queue=_queue, id=_id).returning(literal_column("1")).cte("queued")
QUEUE_IN_TRANSACTION: Executable = (
    select(builtin.pg_notify(_channel, _queue)).select_from(_queued).where(_channel.is_not(None))
)
"""Always a row, and a notification: another row can be taken before this transaction commits."""

TAKE: Executable = select(_functions.take_work(_queue))
"""The first id that nobody else is taking, or null."""

DEPTHS: Executable = select(work.c.queue, func.count(), func.min(work.c.queued_at)).group_by(work.c.queue)
