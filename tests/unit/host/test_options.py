"""Options of a host: defaults of the contract, and what makes no sense is refused by name."""

from pathlib import Path

import pytest

from procession.host.options import HostOptions
from procession.ipc.core.errors import InvalidRequest


def test_the_defaults() -> None:
    options = HostOptions()
    assert (options.max_sessions, options.parallel_runs, options.spares, options.sandbox) == (100, 16, 0, "off")
    assert not options.serves
    assert HostOptions(data_dir=Path("d")).serves
    assert not HostOptions(data_dir=Path("d"), serve=False).serves
    assert HostOptions(serve=True).serves


@pytest.mark.parametrize("bad", [{"max_sessions": 0}, {"spares": -1}, {"parallel_runs": True}, {"parallel_runs": 1.5}])
def test_nonsense_is_refused_naming_the_option(bad) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(bad))) as caught:
        HostOptions(**bad)
    assert caught.value.code == "invalid_option"
