"""The statements of `find_workflows`, with the index that each must use."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Executable

from wfe_postgres.statements import queries

TIME = "2025-06-01T00:00:00+00:00"
NEXT_DAY = "2025-06-02T00:00:00+00:00"
AFTER = {"later page": {"before_time": TIME, "before_id": "w20000"}}


@dataclass(frozen=True)
class Case:
    """A statement with its parameter values, and the indexes that it must use."""

    name: str
    statement: Executable
    values: dict[str, Any]
    indexes: set[str] = field(default_factory=set)
    rows: int = 200
    """The maximum number of rows that it may read."""


def _find(index: str, page: str = "", **filters: Any) -> Case:
    """`find_workflows` with these filters and a page size of 100; `page` names a start position in `AFTER`."""
    values = {"limit": 101, **filters, **(AFTER[page] if page else {})}
    name = f"find_workflows by {', '.join(f'{key} {value}' for key, value in filters.items())} {page}"
    return Case(name, queries.find_workflows(frozenset(values.keys() - {"limit"})), values, {index}, 400)


FIND_CASES = [
    _find("idx_workflows_create_time"),
    _find("idx_workflows_create_time", "later page"),
    _find("idx_workflows_create_time", created_from=TIME),
    _find("idx_workflows_create_time", created_to=TIME),
    _find("idx_workflows_create_time", created_from=TIME, created_to="2025-06-02Z"),
    _find("idx_workflows_status_create_time", status=["Complete"]),
    _find("idx_workflows_status_create_time", "later page", status=["Runnable"]),
    _find("idx_workflows_status_create_time", status=["Terminated"], created_to="2025-10-21Z"),
    _find("idx_workflows_definition", definition_id="definition 3"),
    _find("idx_workflows_definition", definition_id="definition 3", version=1),
    _find("idx_workflows_definition", "later page", definition_id="definition 3"),
    _find("idx_workflows_definition", definition_id="rare"),
    _find("idx_workflows_definition", definition_id="none"),
    _find("idx_workflows_reference", reference="order 777"),
    _find("idx_workflows_reference", "later page", reference="order 777"),
    _find("idx_workflows_reference", reference="order 777", status=["Complete"], definition_id="definition 7"),
    _find("idx_workflows_status_create_time", status=["Complete", "Runnable"]),
    _find("idx_workflows_finished", status=["Complete", "Terminated"], completed_from=TIME, completed_to="2025-06-02Z"),
    _find("idx_workflows_name_prefix", name_prefix="name 4500", name_prefix_end="name 4501"),
    _find("idx_workflows_reference_prefix", reference_prefix="order 4500", reference_prefix_end="order 4501"),
    _find("idx_workflows_root", root_workflow_id="w777"),
    _find("idx_workflows_root", "later page", root_workflow_id="w777"),
]
