"""A page as a browser has it."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

TIMEOUT = 30.0
CHROMIUM = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def in_chromium(address: str, profile: Path, *options: str) -> str:
    """The elements of the page as a browser has them after loading; text that it took for a style is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        if os.environ.get("WFE_FAULTS_STRICT") == "1":
            pytest.fail("Chromium is not installed, and WFE_FAULTS_STRICT=1 lets nothing be left out")
        pytest.skip("Chromium is not installed")
    command = [program, *CHROMIUM, *options, f"--user-data-dir={profile}", "--dump-dom", address]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True).stdout
    return re.sub("<(style|script)>.*?</\\1>", "", dom, flags=re.DOTALL)
