"""The setting `WFE`."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from django.conf import settings
from django.utils.module_loading import import_string

from wfe_postgres.codec.validation import schema_name
from wfe_postgres.host import WorkflowHost
from wfe_postgres.orm import SCHEMA
from wfe_postgres.testing import InMemoryPersistenceProvider

_T = TypeVar("_T")

HOST = {"LEASE": "lease", "POLL_INTERVAL": "poll_interval", "THREADS": "threads"}
"""The keys that are parameters of `WorkflowHost`."""
KEYS = ("DATABASE", "SCHEMA", "DEFINITIONS", "MIDDLEWARE", "QUEUE", "PROVIDER", *HOST)


@dataclass(frozen=True)
class Options:
    """What the setting says."""

    database: str
    """The alias in DATABASES."""
    schema: str
    definitions: tuple[str, ...]
    """Dotted paths."""
    middleware: tuple[str, ...]
    """Dotted paths of middleware around each step."""
    queue: bool
    """Whether workers are woken by NOTIFY."""
    provider: Mapping[str, Any] = field(hash=False)
    """Keywords of `PostgresPersistenceProvider`."""
    host: Mapping[str, Any] = field(hash=False)
    """Keywords of `WorkflowHost`."""


def load(paths: Iterable[str], kind: type[_T]) -> list[_T]:
    """What the dotted paths name. ValueError: something else; also what an import raises."""
    found = [(path, import_string(path)) for path in paths]
    for path, it in found:
        if not isinstance(it, kind):
            raise ValueError(f"{path} is not a {kind.__name__}")
    return [it for _, it in found]


def read() -> Options:
    """What the setting says; `problems` tells what is wrong with it."""
    given = _given()
    return Options(
        given.get("DATABASE", "default"),
        given.get("SCHEMA", SCHEMA),
        _listed(given.get("DEFINITIONS")),
        _listed(given.get("MIDDLEWARE")),
        given.get("QUEUE", False),
        given.get("PROVIDER", {}),
        {HOST[name]: value for name, value in given.items() if name in HOST},
    )


def problems() -> Iterator[str]:
    """What is wrong with the setting, apart from what it names."""
    given: Any = getattr(settings, "WFE", {})
    if not isinstance(given, Mapping):
        yield f"WFE is a dict, not {type(given).__name__}"
        return
    for name in given:
        if name not in KEYS:
            yield f"WFE has no key {name!r}; it has {', '.join(KEYS)}"
    for name in ("DEFINITIONS", "MIDDLEWARE"):
        paths = given.get(name, ())
        if not (isinstance(paths, list | tuple) and all(isinstance(it, str) for it in paths)):
            yield f"WFE[{name!r}] is a list of dotted paths"
    if not isinstance(given.get("PROVIDER", {}), Mapping):
        yield "WFE['PROVIDER'] is a dict of keywords"
    try:
        schema_name(given.get("SCHEMA", SCHEMA))
    except ValueError as error:
        yield f"WFE['SCHEMA']: {error}"
    try:
        WorkflowHost(InMemoryPersistenceProvider(), **{HOST[name]: given[name] for name in HOST if name in given})
    except (TypeError, ValueError) as error:
        yield f"WFE: {error}"


def _given() -> Mapping[str, Any]:
    given: Any = getattr(settings, "WFE", {})
    return given if isinstance(given, Mapping) else {}


def _listed(paths: object) -> tuple[Any, ...]:
    # Models read the setting before the checks do: what is no list must not end in a traceback there.
    return tuple(paths) if isinstance(paths, list | tuple) else ()
