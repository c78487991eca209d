"""The limits of docs/architecture.md: lengths of modules and functions, and how much of the package a call passes."""

import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Dialect, Engine

from tests.structure.measure import ROOT, Module, modules
from tests.structure.trace import trace
from wfe_postgres import PostgresPersistenceProvider, ScheduledCommand
from wfe_postgres.testing.conformance.support import created, pointer, subscription, workflow

LIMITS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["wfe-structure"]
PACKAGE, TESTS = modules("wfe_postgres"), modules("tests")


def name_of(module: Module) -> str:
    """The id of a test."""
    return module.name


@pytest.mark.parametrize("module", PACKAGE, ids=name_of)
def test_package_module_is_short(module: Module) -> None:
    assert module.lines <= LIMITS["module"]


@pytest.mark.parametrize("module", TESTS, ids=name_of)
def test_test_module_is_short(module: Module) -> None:
    assert module.lines <= LIMITS["test-module"]


def test_functions_are_short() -> None:
    limits = LIMITS["hot-path"]
    found = {name: length for module in PACKAGE for name, length in module.functions()}
    assert {name for name, length in found.items() if length > LIMITS["function"]} <= set(limits)
    assert all(found[name] <= LIMITS["hot-path-function"] for name in limits)
    in_tests = {name: length for module in TESTS for name, length in module.functions()}
    assert {name for name, length in in_tests.items() if length > LIMITS["test-function"]} == set()


def test_core_is_small() -> None:
    assert sum(module.code for module in PACKAGE if module.is_core) <= LIMITS["core"]


def test_a_reader_understands_the_lean_way_alone() -> None:
    [lean] = [module for module in PACKAGE if module.name == "wfe_postgres/connections/lean.py"]
    assert lean.lines <= LIMITS["lean-module"]


Prepare = Callable[[PostgresPersistenceProvider], Callable[[], object]]


def save(provider: PostgresPersistenceProvider) -> Callable[[], object]:
    """A save of a loaded workflow, one pointer and the data of which have changed."""
    instance = created(provider, workflow(pointer("a")))
    instance.data["changed"] = True
    instance.execution_pointers[0].outcome = 1
    return partial(provider.persist_workflow, instance)


def load(provider: PostgresPersistenceProvider) -> Callable[[], object]:
    """A load."""
    return partial(provider.get_workflow_instance, created(provider, workflow()).id)


def token(provider: PostgresPersistenceProvider) -> Callable[[], object]:
    """A subscription that is locked by token."""
    id = provider.create_event_subscription(subscription())
    return partial(provider.set_subscription_token, id, "token", "worker", datetime.now(UTC) + timedelta(minutes=1))


def command(provider: PostgresPersistenceProvider) -> Callable[[], object]:
    """A command that is claimed, handled and removed."""
    provider.schedule_command(ScheduledCommand.process_workflow("workflow", 0))
    return partial(provider.process_commands, datetime.now(UTC), lambda _: None)


@pytest.mark.parametrize("prepare", [save, load, token, command])
def test_call_can_be_followed(
    provider: PostgresPersistenceProvider, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (Engine, Dialect):  # another test may have listened to all engines
        monkeypatch.setattr(kind, "_has_events", False)
    prepare(provider)()
    call = prepare(provider)
    passed = trace(call)
    assert 10 < len(passed.functions) <= LIMITS["functions-of-a-call"], passed.functions
    assert 3 < len(passed.files) <= LIMITS["files-of-a-call"], passed.files
