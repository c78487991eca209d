"""Scheduled commands: claim, run, finish.

A claim is a random number and a lease by the server's clock, taken in a short statement of its own. A trigger
(migration 0004) records when a claimed command is scheduled again, by any program and for any time; finishing removes
a command only if it was not.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert

from wfe_postgres.connections.confirmation import FORCE_SYNCHRONOUS_COMMIT
from wfe_postgres.statements.expressions import (
    bigint_parameter,
    bigints_parameter,
    builtin,
    parameters,
    seconds_parameter,
    text_parameter,
)
from wfe_postgres.statements.tables import commands

_values = parameters(commands, "id", "claim", "claimed_until", "rescheduled")
_same = (commands.c.command_name == text_parameter("command_name")) & (commands.c.data == text_parameter("data"))

# An upsert alone would take a number from the int4 sequence each time, and one day the last.
_moved = (
    sa.update(commands).where(_same).values(_values).returning(commands.c.id, FORCE_SYNCHRONOUS_COMMIT).cte("moved")
)
_absent = sa.select(*_values.values()).where(~sa.select(_moved.c.id).exists())
_scheduled = upsert(commands).from_select([*_values], _absent)
_stored = _scheduled.on_conflict_do_update(
    index_elements=[commands.c.command_name, commands.c.data], set_={"execute_time": _scheduled.excluded.execute_time}
)
SCHEDULE = sa.select(_moved.c.id).add_cte(_stored.returning(commands.c.id, FORCE_SYNCHRONOUS_COMMIT).cte("stored"))

NEWEST = sa.select(sa.func.max(commands.c.id))

_claim = commands.c.claim
_free = sa.or_(commands.c.claimed_until.is_(None), commands.c.claimed_until <= builtin.clock_timestamp())
_due = (
    sa.select(commands.c.id, _claim.is_not(None).label("taken_over"))
    .where(
        commands.c.execute_time <= bigint_parameter("as_of"),
        commands.c.id <= bigint_parameter("newest"),
        commands.c.id != sa.all_(bigints_parameter("still_there")),
        _free,
    )
    .order_by(commands.c.execute_time, commands.c.id)
    .limit(1)
    .with_for_update(skip_locked=True)
    .cte("due")
)
_columns = (commands.c.id, commands.c.command_name, commands.c.data, commands.c.execute_time)

CLAIM = (
    sa.update(commands)
    .where(commands.c.id == sa.select(_due.c.id).scalar_subquery())
    .values(
        claim=bigint_parameter("claim"),
        claimed_until=builtin.clock_timestamp() + seconds_parameter("lease"),
        rescheduled=sa.false(),
    )
    .returning(*_columns, sa.select(_due.c.taken_over).scalar_subquery(), FORCE_SYNCHRONOUS_COMMIT)
)
CLAIMED = sa.select(*_columns, sa.false(), sa.null()).where(_claim == bigint_parameter("claim"))

# One row each: who locks several in an order of its own makes a deadlock with those who have another.
_mine = (commands.c.id == bigint_parameter("command_id")) & (_claim == bigint_parameter("claim"))
FINISH = sa.delete(commands).where(_mine, ~commands.c.rescheduled).returning(commands.c.id, FORCE_SYNCHRONOUS_COMMIT)
RELEASE = sa.update(commands).where(_mine).values(claim=sa.null(), claimed_until=sa.null(), rescheduled=sa.false())
