"""Runs the shop's web server and a worker until Ctrl-C: `python -m examples.shop flask`, or `django`."""

import os
import signal
import subprocess
import sys

from wfe_postgres.embedded import temporary_postgres

BIND = f"--bind=127.0.0.1:{os.environ.get('PORT', '8000')}"
GUNICORN = ["gunicorn", "--preload", "--workers=2", "--no-control-socket", BIND]
APP = "examples.shop.flask_front.app"
FLASK = ["flask", "--app", APP]
FRONTS = {
    "flask": {
        "prepare": [[*FLASK, "wfe", "upgrade"], [*FLASK, "db", "upgrade"]],
        "serve": [[*GUNICORN, f"{APP}:app"], [*FLASK, "wfe", "work"]],
    },
    "django": {
        "prepare": [["django", "migrate", "--verbosity=0"]],
        "serve": [[*GUNICORN, "django.core.wsgi:get_wsgi_application()"], ["django", "wfe_work"]],
    },
}


def main(name: str) -> None:
    """Make the tables, then start the processes, with the database in WFE_DATABASE_URL or a temporary one."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with temporary_postgres("WFE_DATABASE_URL") as url:
        settings = {"WFE_DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "examples.shop.django_front.settings"}
        environment = os.environ | settings
        for command in FRONTS[name]["prepare"]:
            subprocess.run([sys.executable, "-m", *command], env=environment, check=True)
        commands = FRONTS[name]["serve"]
        running = [subprocess.Popen([sys.executable, "-m", *command], env=environment) for command in commands]
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
    if sys.argv[1:] not in ([name] for name in FRONTS):
        sys.exit("usage: python -m examples.shop flask|django")
    main(sys.argv[1])
