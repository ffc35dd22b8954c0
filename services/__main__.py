"""Where the command `leadlog` begins, also as `python -m services`."""

import sys

from services.environment import WrongSetting

USAGE = 2


def main() -> None:
    """Runs the command. Settings are read while it is imported: one that cannot be used ends it here."""
    try:
        from services.cli import main as command  # noqa: PLC0415 (an import may fail by a setting)

        command()
    except WrongSetting as wrong:
        print(f"leadlog: {wrong}", file=sys.stderr)
        sys.exit(USAGE)


if __name__ == "__main__":
    main()
