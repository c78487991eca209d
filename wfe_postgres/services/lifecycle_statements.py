"""The statements of the lifecycle publisher."""

from sqlalchemy import Executable, Table, Text, any_, delete, func, insert, literal_column, select
from sqlalchemy import cast as sql_cast

from wfe_postgres.orm.services import LifecyclePayloadRow
from wfe_postgres.statements.expressions import bigint_parameter, builtin, text_parameter
from wfe_postgres.statements.tables import table_of

payloads: Table = table_of(LifecyclePayloadRow)

_channel = text_parameter("channel")

NOTIFY: Executable = select(builtin.pg_notify(_channel, text_parameter("payload")))

# A few of the oldest rows are looked at each time, so that rows are deleted faster than they come.
_oldest = select(payloads.c.id).order_by(payloads.c.id).limit(10).with_for_update(skip_locked=True).scalar_subquery()
_is_over = payloads.c.created_at < builtin.clock_timestamp() - literal_column("interval '5 minutes'")
_deleted = delete(payloads).where(payloads.c.id == any_(func.array(_oldest)), _is_over).cte("deleted")
_stored = insert(payloads).values(payload=text_parameter("payload")).returning(payloads.c.id).cte("stored")
NOTIFY_BY_REFERENCE: Executable = select(
    builtin.pg_notify(_channel, func.concat(text_parameter("prefix"), sql_cast(_stored.c.id, Text())))
).add_cte(_deleted)
"""The payload is kept for five minutes: a subscriber reads it as soon as it is told."""

PAYLOAD: Executable = select(payloads.c.payload).where(payloads.c.id == bigint_parameter("id"))
