"""Write every generated page: `PYTHONPATH=tests .venv/bin/python -m helpers.pages`. Tests hold the pages to the code."""

from helpers import contract, file_map, limits_page, protocol


def main() -> None:
    """Write them."""
    for page in (protocol, limits_page, file_map, contract):
        page.main()


if __name__ == "__main__":
    main()
