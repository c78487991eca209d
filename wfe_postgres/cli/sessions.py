"""`upgrade --end-sessions-of`: end the sessions of programs that keep prepared statements across an upgrade."""

from datetime import timedelta
from typing import NamedTuple

import typer
from sqlalchemy import Connection, Engine, text

from wfe_postgres import PersistenceError
from wfe_postgres.cli.provider import ask
from wfe_postgres.cli.text import counted, plain, span
from wfe_postgres.schema.revisions import read_in_transaction

# What a role without pg_read_all_stats may not see of others is NULL there.
_OTHERS = """
  FROM pg_catalog.pg_stat_activity
 WHERE datname = current_database() AND (usename = :owner OR application_name = :owner)
   AND pid <> pg_backend_pid() AND coalesce(backend_type, 'client backend') = 'client backend'
"""
_SESSIONS = text(f"""
SELECT pid, usename::text, application_name, coalesce(host(client_addr), 'local'), clock_timestamp() - backend_start,
       pg_has_role(usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE')
       AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE oid = usesysid)
{_OTHERS} ORDER BY backend_start, pid
""")
_END = text(f"SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 5000)) {_OTHERS}")


class Session(NamedTuple):
    """A session of another program."""

    pid: int
    role: str
    application_name: str | None
    address: str
    age: timedelta | None
    may_be_ended: bool


def confirm_end_of_sessions(engine: Engine, owner: str, *, yes: bool) -> None:
    """List the sessions of this role or `application_name`, and ask if there are any. Exits if the answer is no."""

    def read(connection: Connection) -> list[Session]:
        return [Session(*row) for row in connection.execute(_SESSIONS, {"owner": owner})]

    found = read_in_transaction(engine, read)
    typer.echo(f"{counted(len(found), 'session')} of {plain(owner)} in this database{':' if found else '.'}")
    for it in found:
        age = f", for {span(it.age)}" if it.age is not None else ""
        typer.echo(f"  {it.pid}  {plain(it.role)}, {plain(it.application_name or '')}, {it.address}{age}")
    if not all(it.may_be_ended for it in found):
        raise PersistenceError("this role may not end these sessions: that takes the role pg_signal_backend")
    if found and not yes:
        ask("Upgrade the store and end the sessions?")


def end_sessions(engine: Engine, owner: str) -> int:
    """End the sessions, also those that began meanwhile. Returns how many there were."""
    return read_in_transaction(engine, lambda it: it.scalar(_END, {"owner": owner}) or 0)
