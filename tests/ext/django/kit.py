"""Runs `manage.py` of the project in `shop`, each time in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
TIMEOUT = 60.0


def environment(url: str, **vary: Any) -> dict[str, str]:
    """The environment of the project on this database."""
    return os.environ | {
        "SHOP_URL": url,
        "SHOP_VARY": json.dumps(vary),
        "DJANGO_SETTINGS_MODULE": "tests.ext.django.shop.settings",
        "PYTHONWARNINGS": "error",
    }


def start(url: str, *arguments: str, **vary: Any) -> "subprocess.Popen[str]":
    """`manage.py` with these arguments; `vary` changes the settings."""
    return subprocess.Popen(
        [sys.executable, "-m", "django", *arguments],
        cwd=ROOT,
        env=environment(url, **vary),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def manage(url: str, *arguments: str, code: int = 0, **vary: Any) -> str:
    """What it prints, on both streams. The test fails if it ends with another exit code."""
    process = start(url, *arguments, **vary)
    out, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == code, out + err
    return out + err


def python(url: str, program: str, **vary: Any) -> str:
    """What a program prints in a process that Django was set up in."""
    done = subprocess.run(
        [sys.executable, "-c", f"import django; django.setup()\n{program}"],
        cwd=ROOT,
        env=environment(url, **vary),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
