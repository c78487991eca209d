"""What the tests of the two shops share: a shop that runs, what a page of it says, and what both must do."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, OpenerDirector, Request, build_opener
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql as compose
from sqlalchemy import make_url

from tests.examples.browser import in_chromium
from wfe_postgres import PostgresPersistenceProvider

ROOT = Path(__file__).parents[2]
TIMEOUT = 30.0
COLUMNS = ("number", "product", "quantity", "state", "step", "waits for", "errors")

ORDERS, KILLS = 60, 3
UNRESERVED = "SELECT count(*) FROM wfc.workflows WHERE status = 'Runnable' AND next_execution IS NOT NULL"

Row = dict[str, str]


@dataclass(frozen=True)
class Shop:
    """A shop that is served by two workers of gunicorn, with one host, on a database of its own."""

    address: str
    database_url: str
    log: Path
    process: "subprocess.Popen[bytes]"
    more_hosts: list["subprocess.Popen[bytes]"]

    def page(self) -> str:
        """The page, as the server sends it."""
        with build_opener().open(self.address) as answer:
            return str(answer.read().decode())

    def submit(self, path: str, **fields: object) -> int:
        """Send a form as a browser would, with what is hidden in it; the status at the end of all redirections."""
        browser = build_opener(HTTPCookieProcessor(CookieJar()))
        with browser.open(self.address) as answer:
            hidden = dict(re.findall('type="hidden" name="(.*?)" value="(.*?)"', answer.read().decode()))
        return self._post(browser, Request(self.address + path, urlencode(hidden | fields).encode()))

    def tell(self, payment: str, order: int) -> int:
        """Call the webhook as the payment provider does; the status."""
        body = json.dumps({"payment": payment, "order": order}).encode()
        request = Request(self.address + "/payments", body, {"Content-Type": "application/json"})
        return self._post(build_opener(), request)

    def _post(self, browser: OpenerDirector, request: Request) -> int:
        try:
            with browser.open(request) as answer:
                return int(answer.status)
        except HTTPError as error:
            error.close()
            return error.code

    def order(self, sku: str, quantity: int) -> int:
        """Place an order; its number."""
        before = {number for (number,) in self.rows("SELECT number FROM {orders}")}
        assert self.submit("/orders", sku=sku, quantity=quantity) == 200
        [number] = {number for (number,) in self.rows("SELECT number FROM {orders}")} - before
        return int(number)

    def row_when(self, number: int, wanted: Callable[[Row], bool]) -> Row:
        """The order's row on the page, as soon as it is as wanted."""
        deadline = time.monotonic() + TIMEOUT
        while not wanted(row := rows_of(self.page())[number]):
            assert time.monotonic() < deadline, row
            time.sleep(0.05)
        return row

    def replace_host(self) -> None:
        """Kill the host with -9, and start another by the same command."""
        pid = self.more_hosts[-1].pid if self.more_hosts else self._first_host()
        command = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
        variables = Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0")
        os.kill(pid, signal.SIGKILL)
        with self.log.open("a") as output:
            environment = dict(variable.split("=", 1) for variable in variables)
            self.more_hosts.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output))

    def _first_host(self) -> int:
        """The process that was started to run the shop's workflows."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        [host] = [int(pid) for pid in children if "work\0" in Path(f"/proc/{pid}/cmdline").read_text()]
        return host

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a query, past the shop; `{orders}` and so on are its tables."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            found = connection.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
            there = {name for (name,) in found}
            tables = {f"{it}s": f"{it}s" if f"{it}s" in there else f"django_front_{it}" for it in TABLES}
            return connection.execute(statement.format(**tables).encode()).fetchall()

    def counts(self) -> dict[str, int]:
        """How many there are of what is written together."""
        counted = "SELECT (SELECT count(*) FROM {orders}), (SELECT count(*) FROM wfc.workflows), "
        counted += "(SELECT count(*) FROM {payments}), (SELECT count(*) FROM wfc.events)"
        [found] = self.rows(counted)
        return dict(zip(("orders", "workflows", "payments", "events"), found, strict=True))


TABLES = ("order", "payment", "product")


@contextmanager
def running(front: str, server: str, log: Path) -> Iterator[Shop]:
    """The shop, started as its README says, on a new database; when it ends, nothing but steps may have failed."""
    with _database(server) as url:
        environment = os.environ | {
            "WFE_DATABASE_URL": url,
            "PORT": "0",
            "GUNICORN_CMD_ARGS": "--access-logfile=- --access-logformat='served by %(p)s'",
        }
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "examples.shop", front], cwd=ROOT, env=environment, stdout=output, stderr=output
            )
        more_hosts: list[subprocess.Popen[bytes]] = []
        try:
            yield Shop(_address(process, log), url, log, process, more_hosts)
        finally:
            for each in (*more_hosts, process):
                each.terminate()
                code = each.wait(TIMEOUT)
    tracebacks = log.read_text().count("Traceback (most recent call last)")
    of_steps = re.findall(r"^examples\.shop\.workflow\.OutOfStockError: ", log.read_text(), re.MULTILINE)
    assert (code, tracebacks) == (0, len(of_steps)), log.read_text()


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Where it listens, as soon as it says so."""
    deadline = time.monotonic() + TIMEOUT
    while not (found := re.search(r"Listening at: (\S+)", log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return found[1]


@contextmanager
def _database(server: str) -> Iterator[str]:
    name = f"wfe_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(compose.SQL("CREATE DATABASE {} TEMPLATE template0").format(compose.Identifier(name)))
        try:
            yield make_url(server).set(database=name).render_as_string(hide_password=False)
        finally:
            connection.execute(compose.SQL("DROP DATABASE {} WITH (FORCE)").format(compose.Identifier(name)))


def rows_of(page: str) -> dict[int, Row]:
    """What the page says of each order, by number."""
    found = {}
    for number, row in re.findall(r'<tr id="order-(\d+)">(.*?)</tr>', page, re.DOTALL):
        cells = re.findall("<td.*?>(.*?)</td>", row, re.DOTALL)
        texts = (" ".join(unescape(re.sub("<.*?>", " ", cell)).split()) for cell in cells)
        found[int(number)] = dict(zip(COLUMNS, texts, strict=True))
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    """Look until it is so."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it has not come to that"
        time.sleep(0.005)


class ShopTests:
    """What both shops must do. Subclasses have a fixture `shop`."""

    def test_an_order_goes_its_way(self, shop: Shop) -> None:
        """It waits for its payment, and is shipped when the webhook has told of it."""
        [(stock,)] = shop.rows("SELECT stock FROM {products} WHERE sku = 'mug'")
        number = shop.order("mug", 2)
        row = shop.row_when(number, lambda row: row["state"] == "Waiting")
        assert row == dict(
            zip(COLUMNS, (str(number), "Mug", "2", "Waiting", "await payment", "payment Pay", ""), strict=True)
        )
        assert shop.tell(f"payment-{number}", number) == 204
        row = shop.row_when(number, lambda row: row["state"] == "Complete")
        assert (row["step"], row["waits for"], row["errors"]) == ("ship", "", "")
        shipped = f"SELECT shipped_at IS NOT NULL FROM {{orders}} WHERE number = {number}"
        assert shop.rows(shipped) == [(True,)]
        assert shop.rows("SELECT stock FROM {products} WHERE sku = 'mug'") == [(stock - 2,)]

    def test_errors_are_shown(self, shop: Shop) -> None:
        """A step that fails is tried three times; each failure takes back what the step had written."""
        number = shop.order("vase", 20)
        row = shop.row_when(number, lambda row: row["state"] == "Suspended")
        assert row["errors"] == "OutOfStockError: fewer than 20 of vase in stock (3 times)"
        assert shop.rows("SELECT stock FROM {products} WHERE sku = 'vase'") == [(3,)]

    def test_a_failed_order_that_is_resumed_runs_its_failed_step_again(self, shop: Shop) -> None:
        """It takes its goods from the stock that has come since, before it waits for its payment."""
        [(stock,)] = shop.rows("SELECT stock FROM {products} WHERE sku = 'lamp'")
        number = shop.order("lamp", 1000)
        shop.row_when(number, lambda row: row["state"] == "Suspended")
        shop.rows("UPDATE {products} SET stock = stock + 1000 WHERE sku = 'lamp' RETURNING sku")
        [(id,)] = shop.rows(f"SELECT workflow_id FROM {{orders}} WHERE number = {number}")
        with PostgresPersistenceProvider(shop.database_url) as provider:
            assert provider.resume_workflow(id)
        shop.row_when(number, lambda row: row["state"] == "Waiting")
        assert shop.rows("SELECT stock FROM {products} WHERE sku = 'lamp'") == [(stock,)]

    @pytest.mark.parametrize(("sku", "quantity"), [("mug", 0), ("mug", 2**40), ("nothing", 1)])
    def test_an_order_that_is_rolled_back_takes_its_workflow_with_it(self, shop: Shop, sku: str, quantity: int) -> None:
        """The workflow was stored before the order was refused; the worker serves on."""
        before = shop.counts()
        assert shop.submit("/orders", sku=sku, quantity=quantity) == 422
        assert shop.counts() == before

    def test_a_payment_that_is_told_twice_is_one_event(self, shop: Shop) -> None:
        """The second is refused by the payments' primary key, and its event goes with it."""
        number, before = shop.order("lamp", 1), shop.counts()
        with ThreadPoolExecutor(4) as pool:
            told = list(pool.map(lambda _: shop.tell("twice", number), range(4)))
        assert told == [204] * 4
        assert shop.counts() == before | {"payments": before["payments"] + 1, "events": before["events"] + 1}

    def test_a_payment_of_no_order_is_none(self, shop: Shop) -> None:
        """Neither row nor event."""
        before = shop.counts()
        assert shop.tell("astray", 1_000_000) == 404
        assert shop.counts() == before

    def test_the_button_pays(self, shop: Shop) -> None:
        """Which stands in for the payment provider's page."""
        number = shop.order("lamp", 1)
        assert shop.submit(f"/orders/{number}/pay") == 200
        shop.row_when(number, lambda row: row["state"] == "Complete")

    def test_two_workers_after_one_preload(self, shop: Shop) -> None:
        """Both serve, each on connections of its own, although the program was loaded before the fork."""
        before = shop.counts()
        with ThreadPoolExecutor(8) as pool:
            told = list(pool.map(lambda _: shop.submit("/orders", sku="mug", quantity=1), range(24)))
        assert told == [200] * 24
        assert shop.counts() == before | {"orders": before["orders"] + 24, "workflows": before["workflows"] + 24}
        assert len(set(re.findall(r"served by .*?(\d+)", shop.log.read_text()))) == 2

    def test_hosts_killed_half_way(self, shop: Shop) -> None:
        """However often the host dies, each order takes its goods from the stock once, and goes on."""
        stock = "SELECT stock FROM {products} WHERE sku = 'mug'"
        wait_until(lambda: shop.rows(UNRESERVED) == [(0,)])  # the other tests' orders
        [(before,)] = shop.rows(stock)
        with ThreadPoolExecutor(8) as pool:
            told = pool.map(lambda _: shop.submit("/orders", sku="mug", quantity=1), range(ORDERS))
            for taken in range(1, ORDERS, ORDERS // KILLS):
                wait_until(lambda: shop.rows(stock) <= [(before - taken,)])  # noqa: B023
                shop.replace_host()
            assert list(told) == [200] * ORDERS
        wait_until(lambda: shop.rows(UNRESERVED) == [(0,)])
        assert shop.rows(stock) == [(before - ORDERS,)]

    def test_in_a_browser(self, shop: Shop, tmp_path: Path) -> None:
        """Chromium has the rows that the server sent, and they are where it can show them."""
        number = shop.order("lamp", 3)
        shop.row_when(number, lambda row: row["state"] == "Waiting")
        dom = in_chromium(shop.address, tmp_path)
        assert rows_of(dom)[number] == rows_of(shop.page())[number]
        assert "<button>Place order</button>" in dom
