"""The command `wfe-postgres`, also as `python -m wfe_postgres`."""

import sys


def main() -> None:
    """Run the command; where its extra is not installed, say so in one line."""
    try:
        from wfe_postgres.cli import run

        run()
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in {"typer", "rich"}:
            raise
        sys.exit("wfe-postgres: the command needs typer and rich: pip install 'wfe-postgres[cli]'")


if __name__ == "__main__":
    main()
