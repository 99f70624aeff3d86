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
