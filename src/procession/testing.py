"""What a test-suite that uses procession needs: a way to end the process-wide default host of ``@isolated``.

Thin: it holds no code of its own. Its names load on first use, like those of ``procession`` itself.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from procession.api.isolated import shutdown_default_host

__all__ = ["shutdown_default_host"]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Load a public name on first use and keep it."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from procession.api import isolated

        value: object = getattr(isolated, name)
        globals()[name] = value
        return value
