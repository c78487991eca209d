"""The text of a compiled statement, joined by the name of a schema."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from sqlalchemy import Executable

from wfe_postgres import statements
from wfe_postgres.connections.execution import DIALECT, compiled
from wfe_postgres.orm import SCHEMA
from wfe_postgres.statements import queries, workflows


def all_statements() -> Iterator[tuple[str, Executable]]:
    """The statements of all modules, by name."""
    for module in pkgutil.iter_modules(statements.__path__):
        for name, value in vars(import_module(f"{statements.__name__}.{module.name}")).items():
            if isinstance(value, Executable) and hasattr(value, "compile"):
                yield f"{module.name}.{name}", value
    for form, statement in workflows.SAVES.items():
        yield f"save {form}", statement
    yield "find_workflows", queries.find_workflows(frozenset({"status", "reference"}), "reference")


STATEMENTS = dict(all_statements())


@pytest.mark.parametrize("schema", [SCHEMA, "tenant_7", "a" * 63, "public"])
@pytest.mark.parametrize("name", STATEMENTS)
def test_text_is_what_sqlalchemy_compiles_for_the_schema(name: str, schema: str) -> None:
    """The names of tables and of columns that are qualified by them."""
    statement: Any = STATEMENTS[name]
    translated = statement.compile(dialect=DIALECT, schema_translate_map={SCHEMA: schema}, render_schema_translate=True)
    assert schema.join(compiled(statement)[0]) == str(translated)
