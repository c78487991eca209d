"""The 4-byte sequences of scheduled commands and step errors at their end."""

import re
from functools import partial

import pytest

from tests.conftest import Sql
from tests.docs.pages import PAGES
from wfe_postgres import ExecutionError, PersistenceError, PostgresPersistenceProvider
from wfe_postgres.schema import check
from wfe_postgres.testing.conformance.support import command, created, workflow

REMEDIES = re.findall(r"^ALTER SEQUENCE .*;$", PAGES["operations.md"], re.MULTILINE)
INT4 = 2**31


def test_exhausted_sequence_is_not_retried_and_continues_with_the_documented_statements(
    provider: PostgresPersistenceProvider, sql: Sql
) -> None:
    id = created(provider, workflow()).id
    for table in "scheduled_commands", "execution_errors":
        sql(f"SELECT setval('wfc.{table}_id_seq', {INT4 - 2})")
    errors = [ExecutionError(id, "p", "first"), ExecutionError(id, "p", "second")]
    provider.schedule_command(command("first"))
    provider.persist_errors(errors[:1])
    writes = partial(provider.schedule_command, command("second")), partial(provider.persist_errors, errors[1:])
    for write in writes:
        with pytest.raises(PersistenceError) as caught:
            write()
        assert (caught.value.sqlstate, caught.value.retryable) == ("2200H", False)
    assert len(REMEDIES) == 2
    for statement in REMEDIES:
        sql(statement)
    for write in writes:
        write()
    assert sorted(sql("SELECT id, data FROM wfc.scheduled_commands")) == [(-INT4, "second"), (INT4 - 1, "first")]
    assert {error.message for error in provider.get_execution_errors(id)} == {"first", "second"}
    assert check(provider.engine, "wfc") == []
