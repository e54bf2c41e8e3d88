import threading
import time

import pytest

from layerforge.data.in_order import in_order


@pytest.mark.parametrize("threads", [1, 3, None])
@pytest.mark.parametrize("count", [0, 1, 7, 100])
def test_results_come_in_order(threads, count):
    def slow_for_some(i):
        time.sleep(0.002 if i % 7 == 0 else 0)
        return i * i

    assert list(in_order(slow_for_some, iter(range(count)), threads, at_once=3)) == [i * i for i in range(count)]


def test_several_threads_work():
    barrier = threading.Barrier(3, timeout=10)
    list(in_order(lambda i: barrier.wait(), range(3), 3, at_once=1))


def test_no_more_than_a_little_is_done_ahead():
    done = []
    results = in_order(done.append, range(1000), 2, at_once=4)
    next(results)
    time.sleep(0.1)
    assert len(done) <= 4 * (2 * 2 + 1)
    results.close()


def test_little_is_done_ahead_where_each_is_much_work():
    done = []

    def slow(i):
        time.sleep(0.03)
        done.append(i)

    results = in_order(slow, range(1000), 2)
    for taken in range(1, 11):
        next(results)
        assert len(done) <= taken + 2 * 2 + 1
    results.close()


def test_much_is_taken_at_once_where_each_is_little_work():
    done = []
    results = in_order(done.append, range(1000), 2)
    for _ in range(20):
        next(results)
    time.sleep(0.1)
    assert len(done) > 20 + 2 * 16
    results.close()


def test_the_caller_works_while_it_waits():
    """So there are as many threads as were asked for, and not one more that only hands on."""
    seen = set()

    def name(i):
        time.sleep(0.001)
        seen.add(threading.current_thread().name)

    for count in (1, 2, 3):
        seen.clear()
        list(in_order(name, range(200), count, at_once=2))
        assert len(seen) == count and threading.current_thread().name in seen


def test_an_exception_comes_at_its_turn():
    def bad(i):
        if i >= 20:
            raise ValueError(i)
        return i

    results = in_order(bad, range(1000), 3, at_once=8)
    assert [next(results) for _ in range(20)] == list(range(20))
    with pytest.raises(ValueError, match="20"):
        next(results)


def test_closing_it_ends_its_threads():
    before = threading.active_count()
    results = in_order(lambda i: i, range(10**9), 4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()
    assert threading.active_count() == before
