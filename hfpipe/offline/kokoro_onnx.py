"""Rewrite Kokoro's int8 convolutions as matrix products that processors with VNNI compute twice as fast."""

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

LAST = np.iinfo(np.int64).max  # as the end of a slice, the end of the axis


def multiply_convolutions(data: bytes) -> bytes:
    """Return an ONNX model whose dynamically quantized convolutions of stride 1 are matrix products.

    onnxruntime computes a ConvInteger as a product of two uint8 matrices, for which x86 has no instruction; for uint8
    activations and int8 weights it has, VNNI. So the weights are shifted from uint8 to int8, which is exact, and the
    shifted copies of the input that a kernel meets are concatenated along its channels. MatMulIntegerToFloat then
    scales the product and adds the bias, in float32 instead of rounded to the scale of the product.

    Args:
        data: a serialized model, as onnxruntime's `quantize_dynamic` writes it.
    """
    model = onnx.load_from_string(data)
    graph = model.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    maker = {output: node for node in graph.node for output in node.output}
    users: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    constants: dict[str, np.ndarray] = {}
    nodes: dict[str, NodeProto] = {}  # by output: several convolutions share what is computed of one input

    def constant(name: str, value) -> str:
        constants[name] = np.asarray(value)
        return name

    def add(kind: str, inputs: list[str], output: str, **attributes) -> str:
        nodes[output] = helper.make_node(kind, inputs, [output], name=output, **attributes)
        return output

    replaced = set()
    for conv in graph.node:
        attributes = {each.name: helper.get_attribute_value(each) for each in conv.attribute}
        if conv.op_type != "ConvInteger" or list(attributes["strides"]) != [1] or attributes["group"] != 1:
            continue
        values, scale, zero = maker[conv.input[0]].output  # of DynamicQuantizeLinear
        kernel, kernel_zero = weights[conv.input[1]], int(weights[conv.input[3]])  # uint8 (out, in, size)
        end, bias = users[conv.output[0]][0], ""
        if end.op_type == "Add":  # the bias, quantized in steps: float32, Div, Floor, Cast, Reshape
            step = maker[end.input[1]]
            while step.op_type != "Div":
                step = maker[step.input[0]]
            bias, end = step.input[0], users[end.output[0]][0]
        [end] = users[end.output[0]]  # after the Cast to float32, the Mul by the scales
        [scales] = [maker[factor] for factor in end.input if maker[factor].op_type == "Mul"]
        [kernel_scale] = [name for name in scales.input if name in weights]

        size, dilation, (left, right) = kernel.shape[2], attributes["dilations"][0], attributes["pads"]
        columns = add("Transpose", [values], f"{values}_rows", perm=[0, 2, 1])  # (1, time, channels)
        axis = constant("time_axis", [1])
        if left or right:
            pads = constant(f"pads_{left}_{right}", [left, right])
            columns = add("Pad", [columns, pads, zero, axis], f"{columns}_{left}_{right}")
        if size > 1:
            shifted = []
            for place in range(size):
                start, stop = place * dilation, (place + 1 - size) * dilation or LAST
                bounds = [constant(f"slice_{bound}", [bound]) for bound in (start, stop)]
                shifted.append(add("Slice", [columns, *bounds, axis], f"{columns}_{start}_{stop}"))
            columns = add("Concat", shifted, f"{columns}_of_{size}_by_{dilation}", axis=2)
        matrix = (kernel.astype(np.int16) - 128).astype(np.int8).transpose(2, 1, 0).reshape(-1, kernel.shape[0])
        product = add(
            "MatMulIntegerToFloat",
            [
                columns,
                constant(f"{conv.input[1]}_int8", np.ascontiguousarray(matrix)),
                scale,
                kernel_scale,
                zero,
                constant(f"{conv.input[1]}_int8_zero", np.int8(kernel_zero - 128)),
                *filter(None, [bias]),
            ],
            f"{conv.name}_product",
            domain="com.microsoft",
        )
        add("Transpose", [product], end.output[0], perm=[0, 2, 1])
        replaced.add(end.output[0])

    kept = [node for node in graph.node if not replaced & set(node.output)]
    ordered = _needed_in_order([*kept, *nodes.values()], [output.name for output in graph.output])
    used = {name for node in ordered for name in node.input}
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    tensors += [numpy_helper.from_array(value, name) for name, value in constants.items()]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(ordered)
    graph.initializer.extend(tensors)
    return model.SerializeToString()


def _needed_in_order(nodes: list[NodeProto], outputs: list[str]) -> list[NodeProto]:
    """Return the nodes that the outputs depend on, each after those that it depends on."""
    maker = {output: node for node in nodes for output in node.output}
    ordered: dict[int, NodeProto] = {}
    waiting = [(maker[name], False) for name in outputs]
    while waiting:
        node, is_ready = waiting.pop()
        if id(node) in ordered:
            continue
        if is_ready:
            ordered[id(node)] = node
        else:
            waiting.append((node, True))
            waiting += [(maker[name], False) for name in node.input if name in maker]
    return list(ordered.values())
