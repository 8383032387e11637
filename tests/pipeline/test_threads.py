"""A limit on the threads of one thread is nobody else's, and what torch leaves in a thread isn't onnxruntime's."""

import subprocess
import sys
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


# The product of Whisper base's encoder for 5 s leaves tiles of 10 rows, where a processor has AMX.
AFTER_TORCH = """
import numpy as np, onnx, onnxruntime, torch
from onnx import TensorProto, helper
from hfpipe.pipeline.cpu_threads import run_onnx
from hfpipe.pipeline.internals import multiply_bfloat16, pack_bfloat16

chance = np.random.default_rng(0)
weight = chance.integers(-127, 127, (512, 512), dtype=np.int8)
graph = helper.make_graph(
    [helper.make_node("MatMulInteger", ["inputs", "weight"], ["product"])], "product",
    [helper.make_tensor_value_info("inputs", TensorProto.UINT8, [None, 512])],
    [helper.make_tensor_value_info("product", TensorProto.INT32, [None, 512])],
    [helper.make_tensor("weight", TensorProto.INT8, weight.shape, weight.tobytes(), raw=True)],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
inputs = chance.integers(0, 255, (200, 512), dtype=np.uint8)
torch.set_num_threads(2)
packed, bias = pack_bfloat16(torch.randn(512, 2048)), torch.randn(512).bfloat16()
with torch.inference_mode():
    for _ in range(20):
        multiply_bfloat16(torch.randn(1, 250, 2048).bfloat16(), packed, bias)
        [product] = run_onnx(session, {"inputs": inputs})
        assert (product == inputs.astype(np.int32) @ weight).all()
"""


def test_onnxruntime_computes_after_torch_in_one_thread():
    pytest.importorskip("onnx")
    if not torch.backends.mkldnn.is_available():
        pytest.skip("torch has no oneDNN here")
    done = subprocess.run([sys.executable, "-c", AFTER_TORCH], capture_output=True, text=True)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"
