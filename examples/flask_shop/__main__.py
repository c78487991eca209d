"""Runs the web server and a host until Ctrl-C: `python -m examples.flask_shop`."""

import os
import signal
import subprocess
import sys

from wfe_postgres.embedded import temporary_postgres

APP = "examples.flask_shop.app"
PREPARE = [["flask", "--app", APP, "db", "upgrade"]]
GUNICORN = ["gunicorn", "--preload", "--workers=2", "--no-control-socket"]
SERVE = [
    [*GUNICORN, f"--bind=127.0.0.1:{os.environ.get('PORT', '8000')}", f"{APP}:app"],
    ["wfe_postgres", "work", f"{APP}:host"],
]


def main() -> None:
    """Migrate, then start the processes, with the database in WFE_DATABASE_URL or a temporary one."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with temporary_postgres("WFE_DATABASE_URL") as url:
        environment = os.environ | {"WFE_DATABASE_URL": url}
        for command in PREPARE:
            subprocess.run([sys.executable, "-m", *command], env=environment, check=True)
        running = [subprocess.Popen([sys.executable, "-m", *command], env=environment) for command in SERVE]
        try:
            running[0].wait()
        except KeyboardInterrupt:
            pass
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait()


if __name__ == "__main__":
    main()
