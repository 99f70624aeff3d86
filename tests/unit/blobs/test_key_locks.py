from __future__ import annotations

import threading

from quantry_blobs.key_locks import KeyLocks


def test_holders_of_one_key_take_turns_and_others_do_not_wait() -> None:
    locks = KeyLocks()
    inside, others = threading.Event(), threading.Event()

    def second() -> None:
        with locks.hold("a"):
            inside.set()

    def other() -> None:
        with locks.hold("b"):
            others.set()

    threads = [threading.Thread(target=second), threading.Thread(target=other)]
    with locks.hold("a"):
        for thread in threads:
            thread.start()
        assert others.wait(5)
        assert not inside.is_set()
    for thread in threads:
        thread.join(5)
    assert inside.is_set()
    # Nothing is kept of keys that nobody holds.
    assert locks._locks == {}


def test_a_key_is_taken_only_where_it_is_free() -> None:
    locks = KeyLocks()
    inside = threading.Event()

    def wait_for_it() -> None:
        with locks.hold("a"):
            inside.set()

    with locks.hold_if_free("a") as is_held, locks.hold_if_free("a") as is_held_twice, locks.hold_if_free("b") as is_other_held:
        assert (is_held, is_held_twice, is_other_held) == (True, False, True)
        waiting = threading.Thread(target=wait_for_it)
        waiting.start()
        assert not inside.wait(0.05)
    assert inside.wait(5)
    waiting.join(5)
    assert locks._locks == {}
