"""`show` prints a workflow, and summarizes thousands of pointers."""

import json
import re

import pytest

from tests.cli.running import Command, error_line, succeeded
from tests.cli.scenarios import mailing, order, pointer
from wfe_postgres import PointerStatus, PostgresPersistenceProvider, WorkflowInstance
from wfe_postgres.host.tree import MAX_DEPTH

TREE = r"""
do_reserve  Complete  2.5 s  2 retries
├── do_pick  Running  for \d+ d \d+ h  2 of 3 ended
│   ├── do_one  Complete  2.5 s
│   │   └── do_label  Running  for \d+ d \d+ h
│   ├── do_two  Failed  2.5 s
│   │     ValueError: (no such shelf )+no such sh … \(2 errors\)
│   └── do_three  Sleeping
│         slept until 2026-01-31 13:00:00 UTC, \d+ d( \d+ h)? ago
├── do_open  WaitingForEvent
│     waits for event paid / key-open: open
├── do_held  WaitingForEvent
│     waits for event paid / key-held: held by worker-held, expires in (2 d|1 d 23 h)
├── do_lapsed  WaitingForEvent
│     waits for event paid / key-lapsed: open, the token of worker-lapsed expired 2 d ago
└── do_alone  WaitingForEvent
      waits for event paid / nobody, but has no subscription
"""


def test_show_prints_facts_and_pointer_tree(cli: Command, provider: PostgresPersistenceProvider) -> None:
    created = order(provider)
    for id_or_name in created.id, created.name:
        lines = succeeded(cli("show", id_or_name)).lines
        facts, tree = lines[: lines.index("")], lines[lines.index("") + 1 :]
        assert [re.split("  +", line, maxsplit=1)[0] for line in facts] == [
            "workflow", "status", "id", "definition", "reference", "created", "pointers"
        ]  # fmt: skip
        assert facts[0].endswith("  order-4711")
        assert facts[1].endswith("  Runnable  waits")
        assert facts[6].endswith("  10: 4 WaitingForEvent, 2 Complete, 2 Running, 1 Failed, 1 Sleeping")
        for line, pattern in zip(tree, TREE.strip("\n").splitlines(), strict=True):
            assert re.fullmatch(pattern, line), line


def test_id_takes_precedence_over_name(cli: Command, provider: PostgresPersistenceProvider) -> None:
    provider.create_new_workflow(WorkflowInstance("by-id", 1, id="one"))
    provider.create_new_workflow(WorkflowInstance("by-name", 1, id="two", name="three"))
    provider.create_new_workflow(WorkflowInstance("other", 1, id="three", name="four"))
    assert "definition  by-id v1" in succeeded(cli("show", "one")).lines
    assert "definition  other v1" in succeeded(cli("show", "three")).lines


@pytest.mark.usefixtures("columns")
def test_show_summarizes_thousands_of_pointers(cli: Command, provider: PostgresPersistenceProvider) -> None:
    mailing(provider)
    lines = succeeded(cli("show", "mailing")).lines
    assert len(lines) <= 40
    assert any("2,997 of 2,998 ended" in line for line in lines)
    assert any("do_n2500  Running" in line for line in lines)
    assert any("do_n7  Failed" in line for line in lines)
    assert lines[-1] == "⋮ groups similar pointers; --all shows every pointer."
    shown = sum(" do_" in line or line.startswith("do_") for line in lines)
    elided = sum(int(number.replace(",", "")) for number in re.findall(r"─ ⋮ ([\d,]+)", "\n".join(lines)))
    assert shown + elided == 3000


def test_all_option_shows_every_pointer(cli: Command, provider: PostgresPersistenceProvider) -> None:
    created = mailing(provider)
    lines = succeeded(cli("show", "mailing", "--all")).lines
    tree = lines[lines.index("") + 1 :]
    assert re.findall(r"do_\S+", "\n".join(tree)) == [it.step_name for it in created.execution_pointers]


def test_json_output_contains_everything_except_data(cli: Command, provider: PostgresPersistenceProvider) -> None:
    created = order(provider)
    found = json.loads(succeeded(cli("show", created.id, "--json")).output)
    assert [it["id"] for it in found["workflow"]["execution_pointers"]] == [it.id for it in created.execution_pointers]
    assert found["workflow"]["execution_pointers"][4]["end_time"] == "2026-01-31T12:00:02.500000+00:00"
    assert {it["external_worker_id"] for it in found["subscriptions"]} == {None, "worker-held", "worker-lapsed"}
    assert [it["error_time"][:10] for it in found["errors"]] == ["2026-02-01", "2026-01-31"]
    names = set(re.findall('"([a-z_]+)":', json.dumps(found)))
    assert not {"data", "outcome", "context_item", "external_token"} & names


def test_unknown_workflow_is_reported(cli: Command) -> None:
    assert error_line(cli("show", "nobody"), 1) == "there is no workflow 'nobody'"
    assert error_line(cli("errors", "nobody"), 1) == "there is no workflow 'nobody'"


def test_unreadable_workflow_is_reported(cli: Command, provider: PostgresPersistenceProvider) -> None:
    created = order(provider)
    with provider.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE wfc.execution_pointers SET status = 'Odd' WHERE id = 'one'")
    line = error_line(cli("show", created.id), 1)
    assert "cannot be read: column 'status'" in line


@pytest.mark.usefixtures("columns")
def test_deep_nesting_is_truncated_at_maximum_depth(cli: Command, provider: PostgresPersistenceProvider) -> None:
    created = WorkflowInstance("deep", 1, name="deep")
    created.execution_pointers = [
        pointer(f"n{level}", PointerStatus.COMPLETE, None, " ".join(f"n{above}" for above in range(level)))
        for level in range(40)
    ]
    provider.create_new_workflow(created)
    lines = succeeded(cli("show", "deep")).lines
    assert lines[-2].strip() == f"└── ⋮ {40 - MAX_DEPTH} Complete"
    assert f"do_n{MAX_DEPTH - 1}" in "".join(lines[-4:-2])
    everything = "\n".join(succeeded(cli("show", "deep", "--all")).lines)
    assert re.findall(r"do_n\d+", everything) == [it.step_name for it in created.execution_pointers]
