"""An application on the database of the test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from tests.ext.flask.application import Shop

Run = Callable[..., Flask]


@pytest.fixture
def make_app() -> Iterator[Run]:
    """Makes an application of a shop; its connections are closed after the test, and all are in their pools by then."""
    made: list[tuple[Shop, Flask]] = []

    def make(shop: Shop, url: str, **config: Any) -> Flask:
        made.append((shop, shop.make(url, **config)))
        return made[-1][1]

    yield make
    for shop, app in made:
        with app.app_context():
            engines: list[Any] = [*shop.db.engines.values()]
        for engine in engines:
            left = engine.pool.checkedout() if engine.name == "postgresql" else 0
            engine.dispose()
            assert left == 0


@pytest.fixture
def shop() -> Shop:
    """See `Shop`."""
    return Shop()


@pytest.fixture
def app(make_app: Run, shop: Shop, database_url: str) -> Flask:
    """The shop's application, whose store exists."""
    return make_app(shop, database_url)
