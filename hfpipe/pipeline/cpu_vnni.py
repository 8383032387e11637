"""Multiply int8 weights by float32 rows with AVX-512's VNNI, by which an instruction takes 64 weights.

The compiler finds no use for it in a loop over floats. Here each row is written as integers of 24 bits, which are as
precise as float32, and these as three bytes, or digits. The sums of products by digit are exact.
"""

import functools

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from .cpu_compiled import compiled, run_parallel
from .logs import logger

LANES = 64  # bytes that one instruction multiplies
DIGITS = 3  # bytes of an input
TILE = 4  # outputs that are computed together, since they take the same inputs
HALF = 1 << 23  # is added to inputs, since the instruction takes unsigned ones
TINY = np.finfo(np.float32).tiny
PARALLEL = 1 << 21  # weights from which it is worth waking up a second thread: they take 0.1 ms


@functools.cache
def has_vnni() -> bool:
    """Return whether this CPU has AVX-512's VNNI, and numba compiles for it."""
    if numba.config.CPU_NAME or numba.config.CPU_FEATURES or numba.config.DISABLE_JIT:
        return False  # numba compiles for another CPU than this one, or not at all
    try:
        if not llvmlite.binding.get_host_cpu_features().get("avx512vnni"):
            return False
        return _is_exact()
    except Exception as error:  # LLVM's names of instructions change
        logger.warning("int8 weights are multiplied without VNNI: %s", error)
        return False


def _is_exact() -> bool:
    outputs = np.empty((1, 2), np.float32)
    rounded = pad_weights(np.full((2, 2 * LANES), [[127], [-127]], np.int8))
    ones, zeros = np.ones(2, np.float32), np.zeros(2, np.float32)
    multiply_digits(rounded, ones, zeros, sum_weights(rounded), np.ones((1, 2 * LANES), np.float32), outputs, 1)
    return outputs.tolist() == [[127 * 2 * LANES, -127 * 2 * LANES]]


def pad_weights(rounded: np.ndarray) -> np.ndarray:
    """Return int8 weights (outputs, inputs) padded with zeros to multiples of `TILE` outputs and `LANES` inputs."""
    surplus = -rounded.shape[0] % TILE, -rounded.shape[1] % LANES
    return np.pad(rounded, [(0, size) for size in surplus]) if any(surplus) else rounded


def sum_weights(rounded: np.ndarray) -> np.ndarray:
    """Return the sum of the weights of each output, int64 (outputs,)."""
    return rounded.sum(axis=1, dtype=np.int64)


def multiply_digits(rounded, scales, bias, sums, rows, outputs, threads: int) -> None:
    """Multiply rows by weights.

    Args:
        rounded: int8 weights (outputs, inputs), padded as `pad_weights` does.
        scales, bias: float32 (outputs,).
        sums: what `sum_weights` gave.
        rows: float32 (rows, inputs), without the padding.
        outputs: float32 (rows, outputs), written to.
        threads: to compute on.
    """
    digits = np.zeros((len(rows), DIGITS, rounded.shape[1]), np.uint8)
    arrays = rounded, scales, bias, sums, rows, digits, outputs
    if threads == 1 or rounded.size < PARALLEL:
        _multiply(*arrays)
    else:
        run_parallel(_multiply_shared, *arrays)


@intrinsic
def _dot(typing_context, weights, output, digits, row, totals):
    """Write the sums of the products of a row's inputs and the weights of `TILE` outputs to totals, int64 (TILE,)."""

    def generate(context, builder, signature, arguments):
        byte, integer, long = ir.IntType(8), ir.IntType(32), ir.IntType(64)
        lanes = ir.VectorType(integer, LANES // 4)
        # Declared as up to LLVM 21; later ones, which take vectors of bytes, convert it as they read it.
        product = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(lanes, [lanes] * 3), "llvm.x86.avx512.vpdpbusd.512"
        )
        add_up = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(integer, [lanes]), "llvm.vector.reduce.add.v16i32"
        )
        arrays = [make_array(signature.args[i])(context, builder, arguments[i]) for i in (0, 2, 4)]
        width = cgutils.unpack_tuple(builder, arrays[0].shape)[1]

        def times(number, count):
            return builder.mul(number, ir.Constant(width.type, count))

        def start(array, offset):
            return builder.gep(builder.bitcast(array.data, byte.as_pointer()), [offset])

        def load(address, offset):
            vector = builder.load(builder.bitcast(builder.gep(address, [offset]), lanes.as_pointer()))
            vector.align = 1
            return vector

        first = start(arrays[0], builder.mul(arguments[1], width))
        factors = [builder.gep(first, [times(width, i)]) for i in range(TILE)]
        inputs = [start(arrays[1], times(builder.mul(arguments[3], width), DIGITS))]
        inputs += [builder.gep(inputs[0], [times(width, digit)]) for digit in range(1, DIGITS)]
        sums = [[cgutils.alloca_once_value(builder, ir.Constant(lanes, None)) for _ in inputs] for _ in factors]
        zero, step = ir.Constant(width.type, 0), ir.Constant(width.type, LANES)
        with cgutils.for_range_slice(builder, zero, width, step, width.type) as (offset, _):
            bytes_ = [load(address, offset) for address in inputs]
            for address, places in zip(factors, sums, strict=True):
                loaded = load(address, offset)
                for digit, place in zip(bytes_, places, strict=True):
                    builder.store(builder.call(product, [builder.load(place), digit, loaded]), place)
        for i, places in enumerate(sums):
            total = ir.Constant(long, 0)
            for place in places:  # the highest digit first
                value = builder.sext(builder.call(add_up, [builder.load(place)]), long)
                total = builder.add(builder.shl(total, ir.Constant(long, 8)), value)
            builder.store(total, builder.gep(arrays[2].data, [ir.Constant(long, i)]))
        return context.get_dummy_value()

    return types.void(weights, types.intp, digits, types.intp, totals), generate


@compiled()
def _split(row, digits):
    """Write a row of inputs as digits (digits, inputs), the highest first, and return the value of the lowest."""
    largest, total = np.float32(0), np.float32(0)
    for value in row:
        largest = max(largest, abs(value))
        total += value
    scale = max(largest / np.float32(HALF - 1), TINY)
    factor = 1 / scale
    for j in range(len(row)):
        value = np.int32(np.rint(row[j] * factor)) + HALF
        digits[0, j], digits[1, j], digits[2, j] = value >> 16, value >> 8 & 255, value & 255
    return scale + 0 * total  # not a number, if one of the inputs isn't finite


@compiled()
def _multiply_part(weights, scales, bias, sums, digits, units, outputs, first, last):
    """Compute the outputs from `first` up to `last`."""
    totals = np.empty(TILE, np.int64)
    for tile in range(first, last, TILE):
        for r in range(len(units)):
            _dot(weights, tile, digits, r, totals)
            for i in range(tile, min(tile + TILE, last)):
                total = totals[i - tile] - HALF * sums[i]
                outputs[r, i] = np.float32(total) * (units[r] * scales[i]) + bias[i]


@compiled()
def _multiply(weights, scales, bias, sums, rows, digits, outputs):
    """Compute all outputs in this thread."""
    units = np.empty(len(rows), np.float32)
    for r in range(len(rows)):
        units[r] = _split(rows[r], digits[r])
    _multiply_part(weights, scales, bias, sums, digits, units, outputs, 0, len(scales))


@compiled(parallel=True)
def _multiply_shared(weights, scales, bias, sums, rows, digits, outputs, parts):
    """Compute all outputs in parallel, in `parts` parts."""
    units = np.empty(len(rows), np.float32)
    for r in range(len(rows)):
        units[r] = _split(rows[r], digits[r])
    for part in prange(parts):
        tiles = len(weights) // TILE
        first, last = part * tiles // parts * TILE, (part + 1) * tiles // parts * TILE
        last = min(last, len(scales))
        _multiply_part(weights, scales, bias, sums, digits, units, outputs, first, last)
