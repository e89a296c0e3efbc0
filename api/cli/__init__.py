"""The command line, `procession`: one file per group of verbs, `app.py` the table of them, `main.py` the way in."""
