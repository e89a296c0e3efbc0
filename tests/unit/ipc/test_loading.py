"""While code of the program's is loaded by one of our processes, no host opens."""

import pytest

from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.loading import check_not_loading, loading


def test_a_module_that_is_loaded_starts_no_host() -> None:
    check_not_loading()
    with loading("my_agents"):
        with pytest.raises(InvalidRequest, match=r"while my_agents is imported.*__main__") as caught:
            check_not_loading()
        assert caught.value.code == "host_while_loading"
    check_not_loading()


def test_one_that_fails_to_load_leaves_nothing() -> None:
    with pytest.raises(ZeroDivisionError), loading("broken"):
        print(1 / 0)
    check_not_loading()
