"""What steps have done: rows that they write through a connection of their own, or in the transaction of the step."""

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from sqlalchemy import text

from tests.faults.kit.form import runs
from wfe_postgres.host import StepContext

TIMEOUT = runs(30.0, 300.0)  # for busy machines

# Saves are counted by a trigger, so that those of all processes count, and none that was rolled back. What does not
# name the pointers is a renewal.
TABLES = """
    CREATE TABLE public.effects (
        number bigserial PRIMARY KEY, workflow text, what text, pid int, at timestamptz DEFAULT clock_timestamp());
    CREATE TABLE public.gates (name text PRIMARY KEY);
    CREATE TABLE public.saves (workflow text, renewal bool);
    CREATE FUNCTION public.note_save() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO public.saves VALUES (NEW.id, current_query() NOT LIKE '%execution_pointers%');
        RETURN NEW;
    END $$;
    CREATE TRIGGER note_save AFTER UPDATE ON wfc.workflows FOR EACH ROW EXECUTE FUNCTION public.note_save();
"""
INSERT = "INSERT INTO public.effects (workflow, what, pid) VALUES"
GATE = "SELECT 1 FROM public.gates WHERE name = %s"

_connections: list["psycopg.Connection[Any]"] = []


def connect(url: str) -> None:
    """Set the connection on which the steps of this process write their effects."""
    disconnect()
    _connections.append(psycopg.connect(url, autocommit=True))


def disconnect() -> None:
    """Close that connection."""
    while _connections:
        _connections.pop().close()


def note(context: StepContext, what: str) -> None:
    """Write an effect that is committed at once."""
    _connections[0].execute(INSERT + "(%s, %s, %s)", [context.workflow.id, what, os.getpid()])


def note_in_transaction(context: StepContext, what: str) -> None:
    """Write an effect in the transaction of the step."""
    values = {"workflow": context.workflow.id, "what": what, "pid": os.getpid()}
    context.session.execute(text(INSERT + "(:workflow, :what, :pid)"), values)


def times_of(context: StepContext, what: str) -> int:
    """Return how often the effect of this workflow was written."""
    query = "SELECT count(*) FROM public.effects WHERE (workflow, what) = (%s, %s)"
    return int(_connections[0].execute(query, [context.workflow.id, what]).fetchall()[0][0])


def is_open(gate: str) -> bool:
    """Whether the test has opened the gate."""
    return bool(_connections[0].execute(GATE, [gate]).fetchall())


def wait_at(gate: str) -> None:
    """Wait until the test opens the gate."""
    eventually(lambda: is_open(gate))


def eventually(
    condition: Callable[[], object], timeout: float = TIMEOUT, found: Callable[[], object] = lambda: ""
) -> None:
    """Wait until the condition is true; fail after the timeout, and say what was found."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"the condition was not met within {timeout} seconds: {found()}"
        time.sleep(0.01)


class Effects:
    """The effects, gates and saves, seen by the test."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection
        connection.execute(TABLES.encode())

    def counts(self, workflow: str | None = None) -> Counter[str]:
        """Return how often each effect is there, of one workflow or of all."""
        return Counter(self.order(workflow))

    def order(self, workflow: str | None = None) -> list[str]:
        """Return the effects in the order in which they were written."""
        query = "SELECT what FROM public.effects WHERE workflow = coalesce(%s, workflow) ORDER BY number"
        return [what for (what,) in self._connection.execute(query, [workflow]).fetchall()]

    def of_each(self) -> dict[str, Counter[str]]:
        """Return the counts of each workflow."""
        rows = self._connection.execute("SELECT workflow, what FROM public.effects").fetchall()
        found: dict[str, Counter[str]] = {workflow: Counter() for workflow, _ in rows}
        for workflow, what in rows:
            found[workflow][what] += 1
        return found

    def pids(self, what: str) -> list[int]:
        """Return the processes that wrote the effect, in their order."""
        query = "SELECT pid FROM public.effects WHERE what = %s ORDER BY number"
        return [pid for (pid,) in self._connection.execute(query, [what]).fetchall()]

    def wait_for(self, what: str, times: int = 1) -> None:
        """Wait until the effect is there so many times."""
        eventually(lambda: self.counts()[what] >= times, found=self.counts)

    def wait_for_more(self, number: int, timeout: float = 3.0) -> None:
        """Wait until there are so many more effects; not longer than the timeout, because all can be there."""
        expected, deadline = len(self.order()) + number, time.monotonic() + timeout
        while len(self.order()) < expected and time.monotonic() < deadline:
            time.sleep(0.01)

    def open(self, gate: str) -> None:
        """Let the steps pass that wait there."""
        self._connection.execute("INSERT INTO public.gates VALUES (%s)", [gate])

    def statuses(self, ids: Sequence[str]) -> Counter[str]:
        """Return how many of the workflows have each status."""
        query = "SELECT status FROM wfc.workflows WHERE id = ANY(%s)"
        return Counter(status for (status,) in self._connection.execute(query, [list(ids)]).fetchall())

    def saves(self, workflow: str) -> int:
        """Return how often the workflow was saved."""
        return self._count("NOT renewal", workflow)

    def renewals(self, workflow: str) -> int:
        """Return how often the lease of the workflow was renewed."""
        return self._count("renewal", workflow)

    def _count(self, which: str, workflow: str) -> int:
        query = f"SELECT count(*) FROM public.saves WHERE workflow = %s AND {which}"
        return int(self._connection.execute(query.encode(), [workflow]).fetchall()[0][0])
