"""The statements of `find_workflows`, with the index that each must use."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Executable

from wfe_postgres.statements import queries

TIME = "2025-06-01T00:00:00+00:00"
AFTER = {"later page": {"before_time": TIME, "before_id": "w20000"}}
ANY_STATUS = ["Complete", "Runnable", "Suspended", "Terminated"]
PREFIXES: dict[str, Any] = {
    "few": {"name_prefix": "name 4500", "name_prefix_end": "name 4501"},
    "all": {"name_prefix": "name ", "name_prefix_end": "name!"},
    "few references": {"reference_prefix": "order 4500", "reference_prefix_end": "order 4501"},
    "all references": {"reference_prefix": "order ", "reference_prefix_end": "order!"},
}
ONE_DAY: dict[str, Any] = {"completed_from": TIME, "completed_to": "2025-06-02Z", "statuses": ANY_STATUS}
ALL_DAYS: dict[str, Any] = {"completed_from": "-infinity", "completed_to": "infinity", "statuses": ANY_STATUS}


@dataclass(frozen=True)
class Case:
    """A statement with its parameter values, and the indexes that it must use."""

    name: str
    statement: Executable
    values: dict[str, Any]
    indexes: set[str] = field(default_factory=set)
    rows: int = 200
    """The maximum number of rows that it may read."""


def _find(index: str, by: str, page: str = "", *, newest_first: bool = True, rows: int = 400, **filters: Any) -> Case:
    """`find_workflows` with these filters and a page size of 100; `page` names a start position in `AFTER`."""
    values = {"limit": 101, **filters, **(AFTER[page] if page else {})}
    name = f"find_workflows by {by} {filters} {page} {'' if newest_first else 'oldest first'}"
    statement = queries.find_workflows(frozenset(values.keys() - {"limit"}), by, newest_first=newest_first)
    return Case(name, statement, values, {index}, rows)


def _count(index: str, rows: int, name: str, **filters: Any) -> Case:
    """The look at how many match, before a page is read."""
    return Case(f"count of {name} {filters}", queries.count_matches((name,)), filters, {index}, rows)


WINDOW = queries.WINDOW + 10
BOTH_WAYS = [
    case
    for newest_first in (True, False)
    for page in ("", "later page")
    for case in (
        _find("idx_workflows_create_time", "created", page, newest_first=newest_first),
        _find("idx_workflows_create_time", "created", page, newest_first=newest_first, created_from="2025-03-01Z"),
        _find("idx_workflows_create_time", "created", page, newest_first=newest_first, created_to="2025-09-01Z"),
        _find("idx_workflows_create_time", "created", page, newest_first=newest_first, rows=WINDOW, version=77),
        _find("idx_workflows_status_create_time", "status", page, newest_first=newest_first, status=["Runnable"]),
        _find("idx_workflows_status_create_time", "status", page, newest_first=newest_first, status=ANY_STATUS[:2]),
        _find(
            "idx_workflows_status_create_time",
            "status",
            page,
            newest_first=newest_first,
            rows=2 * WINDOW,
            status=ANY_STATUS[:2],
            untouched_since="2020-01-01Z",
        ),
        _find("idx_workflows_definition", "definition_id", page, newest_first=newest_first, definition_id="none"),
        _find("idx_workflows_definition", "definition_id", page, newest_first=newest_first, definition_id="rare"),
        _find(
            "idx_workflows_definition", "definition_id", page, newest_first=newest_first, definition_id="definition 3"
        ),
        _find(
            "idx_workflows_definition",
            "definition_id",
            page,
            newest_first=newest_first,
            rows=3 * WINDOW,  # of some thousands the planner sorts all
            definition_id="definition 3",
            untouched_since="2020-01-01Z",
        ),
        _find("idx_workflows_reference", "reference", page, newest_first=newest_first, reference="order 777"),
        _find("idx_workflows_root", "root_workflow_id", page, newest_first=newest_first, root_workflow_id="w777"),
        _find("idx_workflows_name_prefix", "name_prefix", page, newest_first=newest_first, **PREFIXES["few"]),
        _find(
            "idx_workflows_reference_prefix",
            "reference_prefix",
            page,
            newest_first=newest_first,
            **PREFIXES["few references"],
        ),
        _find("idx_workflows_finished", "completed_from", page, newest_first=newest_first, **ONE_DAY),
    )
]
FIND_CASES = [
    *BOTH_WAYS,
    _find("idx_workflows_create_time", "created", created_from=TIME, created_to="2025-06-02Z"),
    _find("idx_workflows_status_create_time", "status", status=["Terminated"], created_to="2025-10-21Z"),
    _find("idx_workflows_definition", "definition_id", rows=WINDOW, definition_id="definition 3", version=1),
    # Filters that all match, or none beside a frequent one: the look ends all the same.
    _find("idx_workflows_create_time", "created", rows=WINDOW, **PREFIXES["all"]),
    _find("idx_workflows_create_time", "created", rows=WINDOW, **PREFIXES["all references"]),
    _find("idx_workflows_create_time", "created", rows=WINDOW, **ALL_DAYS),
    _find("idx_workflows_status_create_time", "status", rows=WINDOW, status=["Complete"], **PREFIXES["all"]),
    _find("idx_workflows_definition", "definition_id", rows=WINDOW, status=["Runnable"], definition_id="definition 3"),
    _find("idx_workflows_reference", "reference", reference="order 777", status=["Complete"], definition_id="none"),
    _find("idx_workflows_name_prefix", "name_prefix", status=["Complete"], version=1, **PREFIXES["few"]),
    _find("idx_workflows_finished", "completed_from", status=["Complete"], definition_id="none", **ONE_DAY),
    _count("idx_workflows_reference", 1, "reference", reference="order 777"),
    _count("idx_workflows_root", 5, "root_workflow_id", root_workflow_id="w777"),
    _count("idx_workflows_name_prefix", 20, "name_prefix", **PREFIXES["few"]),
    _count("idx_workflows_name_prefix", 10_001, "name_prefix", **PREFIXES["all"]),
    _count("idx_workflows_reference_prefix", 10_001, "reference_prefix", **PREFIXES["all references"]),
    _count("idx_workflows_finished", 150, "completed_from", **ONE_DAY),
    _count("idx_workflows_finished", 10_001, "completed_from", **ALL_DAYS),
    _count("idx_workflows_definition", 5000, "definition_id", definition_id="definition 3"),
]
