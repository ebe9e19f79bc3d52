"""The search for reference cycles is put off for a block, and no longer."""

import gc

import pytest

from infra.garbage import no_cycle_search, search_cycles_seldom


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


def test_a_program_that_serves_searches_seldom() -> None:
    before = gc.get_threshold()
    try:
        search_cycles_seldom()
        assert gc.isenabled()
        assert gc.get_threshold() == (50_000, *before[1:])
        assert gc.get_freeze_count() > 0
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
