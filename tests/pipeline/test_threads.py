"""A limit on the threads of one thread is nobody else's."""

import threading

import pytest
import torch

from hfpipe.pipeline.cpu_threads import limit_threads, limit_to_one_core

THREADS = 3


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


def threads_of_a_new_thread(prepare=lambda: None) -> int:
    counts = []

    def count() -> None:
        prepare()
        torch.ones(100_000).sum()  # as a computation takes the number, not as it is asked for alone
        counts.append(torch.get_num_threads())

    thread = threading.Thread(target=count)
    thread.start()
    thread.join()
    return counts[0]


def test_a_limit_holds_in_its_thread_alone_and_ends_with_its_block():
    with limit_threads(1):
        assert torch.get_num_threads() == 1
        assert threads_of_a_new_thread() == THREADS
        with limit_threads(2):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == THREADS


def test_a_thread_is_limited_for_good():
    assert threads_of_a_new_thread(limit_to_one_core) == 1
    assert threads_of_a_new_thread() == torch.get_num_threads() == THREADS


def test_threads_that_begin_while_others_limit_theirs_keep_their_number():
    over, counts = threading.Event(), []

    def limit() -> None:
        while not over.is_set():
            with limit_threads(1):
                pass

    limiting = [threading.Thread(target=limit) for _ in range(3)]
    for thread in limiting:
        thread.start()
    for _ in range(200):
        counts.append(threads_of_a_new_thread())
    over.set()
    for thread in limiting:
        thread.join()
    assert set(counts) == {THREADS}
