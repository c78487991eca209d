"""`publish` stores an event once, and refuses data that is not JSON without quoting it."""

import json

import pytest

from tests.cli.running import SECRET, Command, error_line, succeeded
from tests.cli.scenarios import HOSTILE, SHOWN_HOSTILE
from wfe_postgres import PostgresPersistenceProvider


def test_event_is_published_once(cli: Command, provider: PostgresPersistenceProvider) -> None:
    arguments = ("publish", "paid", "4711", "--data", '{"amount": 10}', "--id", "webhook-1")
    assert succeeded(cli(*arguments)).output == "The event webhook-1 is published.\n"
    assert provider.get_event("webhook-1").event_data == {"amount": 10}
    assert error_line(cli(*arguments), 1) == "an event with the id 'webhook-1' exists"
    event_id = json.loads(succeeded(cli("publish", "paid", "4712", "--json")).output)["id"]
    assert provider.get_event(event_id).event_data is None
    assert (
        succeeded(cli("publish", "paid", "4712", "--id", HOSTILE)).output
        == f"The event {SHOWN_HOSTILE} is published.\n"
    )


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (f'{{"card": {SECRET}}}', "invalid JSON at character 10"),
        (f'{{"amount": 10,\n "card": {SECRET}}}', "invalid JSON at line 2, column 10"),
        ("", "invalid JSON at character 1"),
        (f'{{"card": "{SECRET}"', "invalid JSON at character 21"),
        ("[" * 100_000, "the JSON is nested too deeply"),
        ("1" * 5000, "a number in the JSON has too many digits"),
        ('{"card": [1, NaN]}', "event_data.card[1]"),
        (f'{{"card": "{SECRET}\\u0000"}}', "event_data.card"),
    ],
)
def test_invalid_event_data_is_refused_without_quoting_it(
    cli: Command, provider: PostgresPersistenceProvider, data: str, problem: str
) -> None:
    result = cli("publish", "paid", "4711", "--data", data)
    assert (result.code, result.output) == (2, "")
    assert problem in " ".join(result.reported_errors.split())
    assert provider.get_statistics().unprocessed_events == 0


def test_empty_id_is_refused(cli: Command, provider: PostgresPersistenceProvider) -> None:
    """A script whose variable is not set would publish the event again under a new id."""
    result = cli("publish", "paid", "4711", "--id", "")
    assert (result.code, result.output) == (2, "")
    assert "the id is empty" in result.reported_errors
    assert provider.get_statistics().unprocessed_events == 0
