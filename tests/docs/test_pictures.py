"""The pictures in the documentation are drawn by a browser without a network, and show what the library does."""

import os
import re
import shutil
import sys
from pathlib import Path
from subprocess import run

import pytest
from sqlalchemy.dialects import postgresql

from tests.docs.pages import PAGES, ROOT, blocks
from tests.docs.pointer_lives import changes_of_status
from tests.examples.browser import in_chromium
from wfe_postgres import PointerStatus
from wfe_postgres.orm import Base

SCRIPT = ROOT / ".venv" / "mermaid.min.js"
PICTURES = {page: [block.text for block in blocks(page, "mermaid")] for page in PAGES if blocks(page, "mermaid")}
ARROW = re.compile(r"^    (\S+) --> (\w+)", re.MULTILINE)
ENTITY = re.compile(r"^    (\w+) \{\n(.*?)^    \}", re.DOTALL | re.MULTILINE)
DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
OFFLINE = ("--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=10000")
NOT_ENDED = ("Pending", "Running", "Sleeping", "WaitingForEvent")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not SCRIPT.exists():
        missing = f"{SCRIPT.relative_to(ROOT)} is missing: it is made by make, with npm"
        if os.environ.get("WFE_FAULTS_STRICT") == "1" and shutil.which("npm"):
            pytest.fail(f"{missing}, and WFE_FAULTS_STRICT=1 lets nothing be left out")
        pytest.skip(missing)
    directory = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "-f", ".mkdocs.yml", "-d", str(directory)]
    run(command, cwd=ROOT, check=True, capture_output=True)
    return directory


@pytest.mark.parametrize("page", PICTURES)
def test_pictures_of_page_are_drawn_without_a_network(page: str, site: Path, tmp_path: Path) -> None:
    """The theme replaces the source of a picture by the picture; of one that cannot be parsed the source is left."""
    address = (site / page).with_suffix(".html").as_uri()
    dom = in_chromium(address, tmp_path, *OFFLINE)
    assert dom.count('<div class="mermaid"></div>') == len(PICTURES[page])
    assert '<pre class="mermaid">' not in dom


def arrows() -> set[tuple[str, str]]:
    """The arrows between statuses in the pictures of a pointer's life."""
    found = {arrow for text in PICTURES["how-it-works.md"] if "stateDiagram" in text for arrow in ARROW.findall(text)}
    ended = {(status, "Cancelled") for status in NOT_ENDED} if ("NotEnded", "Cancelled") in found else set()
    return found - {("NotEnded", "Cancelled")} | ended


def test_pictures_and_table_name_every_status_of_a_pointer() -> None:
    statuses = {status.value for status in PointerStatus}
    assert {status for arrow in arrows() for status in arrow} == statuses | {"[*]"}
    assert set(re.findall(r"^\| `(\w+)` \|", PAGES["how-it-works.md"], re.MULTILINE)) == statuses


def test_each_arrow_between_statuses_is_taken_and_no_other() -> None:
    """A save can take two arrows at once, for example when it makes a step ready and claims it."""
    shown = arrows()
    seen, saved = changes_of_status()
    assert shown - seen - saved == set()
    two = {(first, last) for first, middle in shown for other, last in shown if middle == other}
    assert saved - shown - two == set()


def test_pictures_of_the_tables_show_columns_that_exist() -> None:
    """Every table, and of each column its type and whether it is a key."""
    found = {name: rows.split("\n")[:-1] for text in PICTURES["tables.md"] for name, rows in ENTITY.findall(text)}
    tables = {table.name: table for table in Base.metadata.tables.values()}
    assert found.keys() == tables.keys()
    for name, rows in found.items():
        columns = tables[name].columns
        for type, column, *keys in map(str.split, rows):
            compiled = columns[column].type.compile(dialect=DIALECT)
            assert type == compiled.lower().replace("timestamp with time zone", "timestamptz"), column
            assert ("PK" in " ".join(keys)) == columns[column].primary_key, column
            assert ("FK" in keys) == bool(columns[column].foreign_keys), column


def test_keys_of_the_tables_are_complete() -> None:
    pictures = "".join(PICTURES["tables.md"])
    tables = Base.metadata.tables.values()
    assert pictures.count(" PK") == sum(len(table.primary_key) for table in tables)
    assert pictures.count(" FK") == sum(len(table.foreign_keys) for table in tables)
