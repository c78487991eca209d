"""The statements of the lock service.

A lock that is held is a row, and a released one is none, so the table is as small as the number of locks. The fencing
numbers are those of a sequence. They are drawn in RETURNING: at that time the row is written, so nobody else can
acquire the lock before the transaction has ended, and the numbers of one lock rise in the order of its acquisitions.
(A default of a column is computed before the row is looked for; between the two others may acquire and release it.)
"""

from sqlalchemy import Executable, Table, any_, delete, func, literal_column, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from wfe_postgres.connections.confirmation import FORCE_SYNCHRONOUS_COMMIT
from wfe_postgres.connections.execution import ANY_SCHEMA
from wfe_postgres.orm.services import LockRow
from wfe_postgres.statements.expressions import (
    bigint_parameter,
    bigints_parameter,
    builtin,
    seconds_parameter,
    text_parameter,
    texts_parameter,
)
from wfe_postgres.statements.tables import table_of

locks: Table = table_of(LockRow)

_now = builtin.clock_timestamp()
_until = _now + seconds_parameter("lease")
_resource, _holder = text_parameter("resource"), bigint_parameter("holder")

# Whoever finds the lock held is answered without a wait for a renewal or a release that has not been committed.
_is_busy = (
    select(locks.c.resource)
    .where(locks.c.resource == _resource, locks.c.expires_at > _now, locks.c.holder != _holder)
    .exists()
)
_row = upsert(locks).from_select(
    [locks.c.resource, locks.c.holder, locks.c.acquired_at, locks.c.expires_at],
    select(_resource, _holder, _now, _until).where(~_is_busy),
)
ACQUIRE: Executable = _row.on_conflict_do_update(
    index_elements=[locks.c.resource],
    set_={name: _row.excluded[name] for name in ("holder", "acquired_at", "expires_at")},
    where=or_(locks.c.expires_at <= _now, locks.c.holder == _row.excluded.holder),
).returning(builtin.nextval(literal_column(f"'{ANY_SCHEMA}.lock_tokens'")), FORCE_SYNCHRONOUS_COMMIT)
"""Of a free lock, or of one whose lease has ended. The same `holder` may repeat it, if the answer was lost."""

_all_mine = (locks.c.resource == any_(texts_parameter("resources"))) & (
    locks.c.holder == any_(bigints_parameter("holders"))
)
RENEW: Executable = (
    update(locks).where(_all_mine).values(expires_at=_until).returning(locks.c.holder, FORCE_SYNCHRONOUS_COMMIT)
)
RELEASE: Executable = delete(locks).where(locks.c.resource == _resource, locks.c.holder == _holder)
RELEASE_ALL: Executable = delete(locks).where(_all_mine)

_ended = (
    select(locks.c.resource)
    .where(locks.c.expires_at < _now - literal_column("interval '1 hour'"))
    .limit(1000)
    .with_for_update(skip_locked=True)
    .scalar_subquery()
)
CLEAN: Executable = delete(locks).where(locks.c.resource.in_(_ended))
"""The rows of processes that died with locks that nobody has wanted since."""

HELD: Executable = select(func.count(), func.min(locks.c.acquired_at)).where(locks.c.expires_at > _now)
