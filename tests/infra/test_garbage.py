"""The search for reference cycles is put off for a block, and no longer."""

import gc

import pytest

from infra.garbage import no_cycle_search


def fail_in_block() -> None:
    with no_cycle_search():
        assert not gc.isenabled()
        with no_cycle_search():
            assert not gc.isenabled()
        assert not gc.isenabled()
        raise KeyError("in the block")


def test_the_search_is_off_in_the_block_alone_however_it_ends() -> None:
    assert gc.isenabled()
    with pytest.raises(KeyError):
        fail_in_block()
    assert gc.isenabled()
