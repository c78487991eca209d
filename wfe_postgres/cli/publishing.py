"""`publish`: store an event."""

import json
from typing import Annotated, Any

import typer

from wfe_postgres import Event
from wfe_postgres.cli.options import Json, Schema, Url
from wfe_postgres.cli.provider import provider_on, reported_errors
from wfe_postgres.cli.screen import print_json, print_sentence
from wfe_postgres.cli.text import plain
from wfe_postgres.orm import SCHEMA


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"character {error.colno}"
        problem = f"invalid JSON at {place}"
    except RecursionError:
        problem = "the JSON is nested too deeply"
    except ValueError:
        problem = "a number in the JSON has too many digits"
    raise typer.BadParameter(problem)


def publish(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="The event's name.")],
    key: Annotated[str, typer.Argument(metavar="KEY", show_default=False, help="The event's key.")],
    data: Annotated[
        str, typer.Option("--data", metavar="JSON", parser=_parsed, show_default="null", help="The event's data.")
    ] = "null",
    id: Annotated[
        str | None, typer.Option("--id", metavar="TEXT", show_default="a new UUID", help="The event's id.")
    ] = None,
    url: Url = None,
    schema: Schema = SCHEMA,
    as_json: Json = False,
) -> None:
    """Store an event.

    A host hands it to the workflows that wait for this name and key. An id that is stored already is refused, so that
    a command with --id can be repeated.

    \b
    Example:
      wfe-postgres publish paid 4711 --data '{"amount": 10}'
    \b
    Exit codes:
      0  the event is stored
      1  an event with this id is stored already
      2  the store is missing, or at another schema revision
      3  the database is unreachable, or refused the call
    """
    if id == "":  # such as an unset variable: a new id each time would publish the event twice
        raise typer.BadParameter("the id is empty", param_hint="--id")
    with reported_errors(url), provider_on(url, schema) as provider:
        event_id = provider.create_event(Event(name, key, data, id=id or ""))
    if as_json:
        print_json({"id": event_id})
    else:
        print_sentence(f"The event {plain(event_id)} is published.")
