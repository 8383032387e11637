"""Convolutions that became matrix products compute the same."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from hfpipe.offline.kokoro_onnx import multiply_convolutions  # noqa: E402

IN, OUT = 6, 4


def quantized_model(size: int, dilation: int, stride: int, has_bias: bool, kernels: int = 1) -> bytes:
    """Return convolutions of one input, as onnxruntime's dynamic quantization writes each of them, and their sum."""
    random = np.random.default_rng(0)
    constants = {"scale": np.float32(0.02), "zero": np.uint8(117), "shape": np.array([1, -1, 1])}
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "q_scale", "q_zero"])]
    nodes.append(helper.make_node("Mul", ["q_scale", "scale"], ["scales"]))
    reach = (size - 1) * dilation // 2
    options = {"kernel_shape": [size], "dilations": [dilation], "strides": [stride], "pads": [reach] * 2, "group": 1}
    for number in range(kernels):
        constants[f"w{number}"] = random.integers(0, 256, (OUT, IN, size)).astype(np.uint8)
        last = f"conv{number}"
        nodes.append(helper.make_node("ConvInteger", ["q", f"w{number}", "q_zero", "zero"], [last], last, **options))
        if has_bias:
            constants[f"b{number}"] = random.normal(size=OUT).astype(np.float32)
            nodes += [
                helper.make_node("Div", [f"b{number}", "scales"], [f"div{number}"]),
                helper.make_node("Floor", [f"div{number}"], [f"floor{number}"]),
                helper.make_node("Cast", [f"floor{number}"], [f"int{number}"], to=TensorProto.INT32),
                helper.make_node("Reshape", [f"int{number}", "shape"], [f"column{number}"]),
                helper.make_node("Add", [last, f"column{number}"], [f"sum{number}"]),
            ]
            last = f"sum{number}"
        nodes.append(helper.make_node("Cast", [last], [f"float{number}"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [f"float{number}", "scales"], [f"y{number}"]))
    nodes.append(helper.make_node("Sum", [f"y{number}" for number in range(kernels)], ["y"]))
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, IN, None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def run(model: bytes, x: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def kinds(model: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_from_string(model).graph.node}


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("size, dilation, kernels", [(1, 1, 1), (3, 1, 1), (3, 5, 2), (11, 3, 1), (7, 1, 3)])
def test_the_result_is_the_same(size, dilation, kernels, has_bias):
    model = quantized_model(size, dilation, 1, has_bias, kernels)
    rewritten = multiply_convolutions(model)
    assert "ConvInteger" in kinds(model) and not {"ConvInteger", "Floor"} & kinds(rewritten)
    for length in (40, 97):
        x = np.random.default_rng(length).normal(size=(1, IN, length)).astype(np.float32)
        wanted, found = run(model, x), run(rewritten, x)
        assert found.shape == wanted.shape == (1, OUT, length)
        step = np.ptp(np.append(x, 0)) / 255 * 0.02  # to which the bias was rounded, down
        assert -1e-4 <= (found - wanted).min() and (found - wanted).max() <= kernels * step * has_bias + 1e-4


def test_a_stride_stays_a_convolution():
    model = quantized_model(4, 1, 2, True)
    rewritten = multiply_convolutions(model)
    assert "ConvInteger" in kinds(rewritten) and "MatMulIntegerToFloat" not in kinds(rewritten)
    x = np.random.default_rng(0).normal(size=(1, IN, 31)).astype(np.float32)
    np.testing.assert_array_equal(run(rewritten, x), run(model, x))
