"""Finds the host of an application: imports its module, and takes or calls what has the name."""

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

from wfe_postgres.cli.provider import ExitCode, fail
from wfe_postgres.host import WorkflowHost

_IMPORTERS = ("importlib", "importlib._bootstrap", "importlib._bootstrap_external")


def load_host(target: str) -> WorkflowHost:
    """The host that MODULE:HOST names, from the current directory or what is installed.

    Raises `ValueError` for what is no host. An exception of the application's own code is shown with its traceback, and
    ends the command.
    """
    module, colon, attribute = target.partition(":")
    if not (colon and all(it.isidentifier() for it in [*module.split("."), *attribute.split(".")])):
        raise ValueError(f"{target!r} does not name a host: expected MODULE:HOST, for example shop.workflows:host")
    imported = _import(module)
    try:
        found = attrgetter(attribute)(imported)
    except AttributeError:
        found = None
    if found is None:
        raise ValueError(f"module {module!r} has no {attribute!r}")
    if _can_be_called(found):
        with _shown(f"{target} could not be called"):
            found = found()
    if not isinstance(found, WorkflowHost):
        raise ValueError(f"{target} is not a WorkflowHost, and not a callable without arguments that returns one")
    if not found.definitions:
        raise ValueError(f"the host {target} has no definitions")
    return found


def _import(module: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    with _shown(f"module {module!r} could not be imported"):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
    # The module itself, or a package that it is in; not one that it imports.
    raise ValueError(f"there is no module {module!r}, neither in {here} nor installed")


def _can_be_called(found: Callable[..., object]) -> bool:
    if not callable(found) or isinstance(found, WorkflowHost):
        return False
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):
        return False
    return True


@contextmanager
def _shown(problem: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        traceback.print_exception(_without_own_frames(error))
        fail(problem, ExitCode.USAGE)


def _without_own_frames(error: Exception) -> Exception:
    """The error as it comes from the application, without what has imported or called that."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__") in (__name__, *_IMPORTERS):
        trace = trace.tb_next
    return error.with_traceback(trace or error.__traceback__)
