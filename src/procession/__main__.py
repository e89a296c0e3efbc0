"""``python -m procession`` is the CLI."""

from procession.api.cli.main import main

if __name__ == "__main__":
    main()
