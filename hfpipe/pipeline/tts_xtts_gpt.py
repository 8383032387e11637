"""Generate audio tokens with XTTS's GPT-2: from a text and a voice to the latents that the vocoder decodes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .cpu_int8 import Int8Linear
from .cpu_precision import LAYERS, Conv1D
from .engine_cancel import raise_if_cancelled
from .tts_xtts_steps import Steps, normalize

# Placeholder for the prompt in coqui's input ids (coqui-tts 0.28, compute_embeddings), to which the repetition penalty
# applies as to any other token.
PREFIX_TOKEN = 1
GRAPH_LENGTHS = 256  # the attention length of a CUDA graph is a multiple of this
MAX_IDLE = 8  # batch shapes whose CUDA graphs are kept


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters of the audio tokens; the defaults are those of XTTS v2.

    Attributes:
        temperature: divides the logits.
        top_k: number of most likely tokens to keep; 0 keeps all.
        top_p: keep the most likely of these tokens, up to this cumulative probability.
        repetition_penalty: divides the positive and multiplies the negative logits of tokens generated before.
        do_sample: False selects the most likely token (greedy decoding).
    """

    temperature: float = 0.75
    top_k: int = 50
    top_p: float = 0.85
    repetition_penalty: float = 10.0
    do_sample: bool = True


class Decoder:
    """XTTS's GPT-2 with a decoding loop of its own, over a static KV cache.

    The latents for the vocoder are the hidden states from which the tokens were sampled, whereas coqui-tts computes
    them in a second forward pass. The rows of a batch may have different texts and voices: prompts are left-padded,
    and the padding is masked. On a CUDA GPU a decoding step, including sampling, is a single CUDA graph.

    Args:
        gpt: coqui's `GPT` module, on the CPU; its parameters aren't modified.
        precision: "float32", "int8", "mixed", "bfloat16" or "float16".
        device: device to run on.
    """

    def __init__(self, gpt, precision: str = "float32", device="cpu"):
        self.device, self.precision = torch.device(device), precision
        on_cpu = self.device.type == "cpu"
        self.dtype = torch.float32 if on_cpu else getattr(torch, precision)
        kind = precision if on_cpu else "float32"
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # quantizing and packing are single-threaded
            self.blocks = list(pool.map(lambda block: _Block(block, kind, self.device, self.dtype), gpt.gpt.h))
        self.norm_blocks = _Norm(gpt.gpt.ln_f, self.device, self.dtype)
        self.final_norm = _Norm(gpt.final_norm, self.device, self.dtype)
        self.head = _linear(gpt.mel_head, kind, self.device, self.dtype)
        self.has_int8 = isinstance(self.head, Int8Linear)
        tables = (gpt.text_embedding, gpt.text_pos_embedding.emb, gpt.mel_embedding, gpt.mel_pos_embedding.emb)
        self.text, self.text_positions, self.audio, self.audio_positions = (
            table.weight.detach().to(self.device, self.dtype) for table in tables
        )
        self.start_text, self.stop_text = gpt.start_text_token, gpt.stop_text_token
        self.start_audio, self.stop_audio = gpt.start_audio_token, gpt.stop_audio_token
        self.heads, self.limit = gpt.heads, gpt.max_gen_mel_tokens
        self.channels = self.audio.shape[1]
        self.has_graphs = self.device.type == "cuda"
        self._idle: dict[tuple, list[_Batch]] = {}  # for reuse with their graphs, by rows, length and sampling

    @torch.inference_mode()
    def read_voice(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the KV cache of a voice's conditioning latents, for reuse in every text spoken in that voice.

        Args:
            latents: float32 of shape (1, positions, channels).

        Returns:
            Keys and values of shape (layers, 2, heads, positions, channels / heads).
        """
        states = latents.to(self.device, self.dtype)
        cache = self.new_cache(1, states.shape[1])
        self.forward(states, cache, 0)
        return cache[:, :, 0]

    @torch.inference_mode()
    def generate(
        self,
        texts: list[torch.Tensor],
        voices: list[torch.Tensor],
        sampling: Sampling,
        max_new_tokens: int | None = None,
        min_new_tokens: int = 0,
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, bool]]:
        """Generate audio tokens for a batch of texts, until every row has generated the stop token.

        Args:
            texts: text token ids of each row, integers of shape (tokens,).
            voices: KV cache of each row's voice, from `read_voice`.
            sampling: the sampling parameters.
            max_new_tokens: maximum number of steps; by default, and at most, coqui's own limit.
            min_new_tokens: number of steps in which the stop token is suppressed.

        Yields:
            For each step: the latents, float32 of shape (rows, channels); the tokens sampled from them, of shape
            (rows,); and whether it is the last step. Rows that have finished repeat the stop token.
        """
        steps = min(max_new_tokens or self.limit, self.limit)
        prompts = [self._embed_text(text) for text in texts]
        width = max(voice.shape[3] + len(prompt) for voice, prompt in zip(voices, prompts, strict=True))
        length = width + steps
        if self.has_graphs:  # round up, so that graphs can be reused
            length = -(-length // GRAPH_LENGTHS) * GRAPH_LENGTHS
        key = len(texts), length, sampling
        try:
            batch = self._idle[key].pop()
        except (KeyError, IndexError):
            batch = _Batch(self, *key)
        batch.begin(prompts, voices, min_new_tokens)
        for step in range(steps):
            raise_if_cancelled()
            is_last = step + 1 == steps or bool(batch.done.all())
            yield batch.latents.clone(), batch.tokens.clone(), is_last
            if is_last:
                break
            batch.advance()
        if self.has_graphs:
            if len(self._idle) >= MAX_IDLE:
                self._idle.clear()
            self._idle.setdefault(key, []).append(batch)

    def _embed_text(self, text: torch.Tensor) -> torch.Tensor:
        """Embed the prompt of a row that follows the voice: start, text and stop tokens, and the audio start token."""
        ends = [torch.tensor([token]) for token in (self.start_text, self.stop_text)]
        tokens = torch.cat([ends[0], text.long().cpu(), ends[1]]).to(self.device)
        words = self.text[tokens] + self.text_positions[: len(tokens)]
        return torch.cat([words, (self.audio[self.start_audio] + self.audio_positions[0])[None]])

    def forward(self, states: torch.Tensor, cache: torch.Tensor, start: int) -> torch.Tensor:
        """Run the blocks on a prompt (rows, length, channels), writing the KV cache from position `start` on."""
        end = start + states.shape[1]
        positions = torch.arange(start, end, device=self.device)
        return self.run_blocks(states, cache[..., :end, :], positions, self._causal(start, end))

    def read_prompts(self, prompts: list[torch.Tensor], cache: torch.Tensor, spans: list[tuple[int, int]]):
        """Run the blocks on the prompts of several rows, and read their weights once for all of them.

        Args:
            prompts: of each row, embedded, of shape (length, channels).
            cache: keys and values, of shape (layers, 2, rows, heads, positions, channels / heads), which is written.
            spans: the position that each row attends to first, and that of its prompt; all prompts end at the same.

        Returns:
            The states at each row's last position, of shape (rows, channels).
        """
        lengths = [len(prompt) for prompt in prompts]
        end = spans[0][1] + lengths[0]
        masks = [self._causal(start - first, end - first) for first, start in spans]
        states = torch.cat(prompts)[None]
        for block, (keys, values) in zip(self.blocks, cache[..., :end, :], strict=True):
            raise_if_cancelled()
            states = block.read(states, keys, values, spans, masks, self.heads)
        return self.norm_blocks(states)[0, np.cumsum(lengths) - 1]

    def _causal(self, start: int, end: int) -> torch.Tensor:
        """Return the additive mask, (end - start, end), of positions that attend to none after their own."""
        ahead = torch.ones(end - start, end, dtype=torch.bool, device=self.device).triu(start + 1)
        return torch.zeros(end - start, end, dtype=self.dtype, device=self.device).masked_fill(ahead, -torch.inf)

    def run_blocks(self, states, cache: torch.Tensor, positions: torch.Tensor, bias) -> torch.Tensor:
        """Run the blocks, writing `cache` at `positions` and attending to all of it under the additive mask `bias`."""
        for block, (keys, values) in zip(self.blocks, cache, strict=True):
            raise_if_cancelled()
            states = block(states, keys, values, positions, bias, self.heads)
        return self.norm_blocks(states)

    def new_cache(self, rows: int, length: int) -> torch.Tensor:
        """Return an uninitialized KV cache of shape (layers, 2, rows, heads, length, channels / heads)."""
        shape = (len(self.blocks), 2, rows, self.heads, length, self.channels // self.heads)
        return torch.empty(shape, dtype=self.dtype, device=self.device)


class _Batch:
    """The state of a batch during decoding, in tensors at fixed addresses, so that CUDA graphs can replay its steps.

    Attributes:
        tokens: the tokens sampled last, of shape (rows,).
        latents: the states from which they were sampled, float32 of shape (rows, channels).
        done: the rows that have generated the stop token, bool of shape (rows,).
    """

    def __init__(self, decoder: Decoder, rows: int, length: int, sampling: Sampling):
        self.decoder, self.sampling, self.length = decoder, sampling, length
        device = decoder.device
        self.cache = decoder.new_cache(rows, length)
        self.mask = torch.empty(rows, 1, 1, length, dtype=decoder.dtype, device=device)
        self.position, self.count, self.min_count = torch.zeros(3, 1, dtype=torch.long, device=device)
        self.seen = torch.zeros(rows, decoder.audio.shape[0], dtype=torch.bool, device=device)
        self.done = torch.zeros(rows, dtype=torch.bool, device=device)
        self.tokens = torch.zeros(rows, dtype=torch.long, device=device)
        self.latents = torch.zeros(rows, decoder.channels, device=device)
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self.steps = Steps(decoder.blocks, self.cache) if decoder.has_int8 else None

    def begin(self, prompts: list[torch.Tensor], voices: list[torch.Tensor], min_new_tokens: int) -> None:
        """Fill the KV cache with the voices and prompts, and sample the first token of each row."""
        widths = [voice.shape[3] + len(prompt) for voice, prompt in zip(voices, prompts, strict=True)]
        self.written = max(widths)
        self.is_padded = min(widths) < self.written
        self.first = self.written - np.array(widths)
        self.mask.fill_(-torch.inf)
        spans = []
        for row, (voice, width) in enumerate(zip(voices, widths, strict=True)):
            padding, cache = self.written - width, self.cache[:, :, row]
            start = padding + voice.shape[3]
            cache[..., :padding, :] = 0  # masked, but uninitialized memory times 0 may be NaN
            cache[..., padding:start, :] = voice
            self.mask[row, ..., padding : self.written] = 0
            spans.append((padding, start))
        last = self.decoder.read_prompts(prompts, self.cache, spans)
        if self.decoder.has_graphs:
            self.cache[..., self.written :, :] = 0  # a graph attends to all of it
        self.position.fill_(self.written)
        self.count.zero_()
        self.min_count.fill_(min_new_tokens)
        self.done.fill_(False)
        self.seen.fill_(False)
        self.seen[:, [PREFIX_TOKEN, self.decoder.start_audio]] = True
        self._sample(last)

    def advance(self) -> None:
        """Sample the next token of each row."""
        self.written += 1
        if not self.decoder.has_graphs:
            return self._step(self.written)
        end = min(-(-self.written // GRAPH_LENGTHS) * GRAPH_LENGTHS, self.length)
        if end in self.graphs:
            self.graphs[end].replay()
        else:
            self.graphs[end] = self._capture(end)

    def _step(self, end: int) -> None:
        """Sample the next tokens, attending to the first `end` positions of the cache."""
        decoder = self.decoder
        inputs = decoder.audio[self.tokens] + decoder.audio_positions[self.count + 1]
        if self.steps is not None:
            states = decoder.norm_blocks(self.steps(inputs, self.first, end - 1))
        else:
            self.mask.index_fill_(3, self.position, 0)
            bias = self.mask[..., :end] if self.is_padded or decoder.has_graphs else None
            states = decoder.run_blocks(inputs[:, None], self.cache[..., :end, :], self.position, bias)[:, -1]
        self.position += 1
        self.count += 1
        self._sample(states)

    def _sample(self, states: torch.Tensor) -> None:
        latents = self.decoder.final_norm(states)
        logits = self.decoder.head(latents).float()
        stop = self.decoder.stop_audio
        logits[:, stop] = torch.where(self.count < self.min_count, -torch.inf, logits[:, stop])
        self.latents.copy_(latents)
        self.tokens.copy_(torch.where(self.done, stop, sample_tokens(logits, self.seen, self.sampling)))
        self.seen.scatter_(1, self.tokens[:, None], True)
        self.done |= self.tokens == stop

    def _capture(self, end: int) -> "torch.cuda.CUDAGraph":
        """Run a step on a side stream, as capturing requires, and return the graph of the following steps."""
        side, current = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            self._step(end)
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step(end)
        return graph


class _Norm:
    """A copy of a layer norm on another device or in another dtype."""

    def __init__(self, norm: nn.LayerNorm, device, dtype):
        self.weight, self.bias = norm.weight.detach().to(device, dtype), norm.bias.detach().to(device, dtype)
        self.epsilon = norm.eps

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(states, self.weight.shape, self.weight, self.bias, self.epsilon)

    def write(self, rows: np.ndarray, outputs: np.ndarray) -> None:
        """Normalize rows of shape (rows, channels), and write the result to an array of the same shape."""
        normalize(rows, self.weight.numpy(), self.bias.numpy(), self.epsilon, outputs)


class _Block:
    """A GPT-2 block over a static KV cache."""

    def __init__(self, block, precision: str, device, dtype):
        self.norm_1, self.norm_2 = (_Norm(norm, device, dtype) for norm in (block.ln_1, block.ln_2))
        layers = (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj)
        self.qkv, self.attention_output, self.mlp_input, self.mlp_output = (
            _linear(layer, precision, device, dtype) for layer in layers
        )

    def __call__(self, states, keys, values, positions: torch.Tensor, bias, heads: int) -> torch.Tensor:
        rows, length, channels = states.shape
        qkv = self.qkv(self.norm_1(states)).view(rows, length, 3, heads, channels // heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        keys.index_copy_(2, positions, key)
        values.index_copy_(2, positions, value)
        attended = F.scaled_dot_product_attention(query, keys, values, bias)
        return self._finish(states, attended.transpose(1, 2).reshape(rows, length, channels))

    def read(self, states, keys, values, spans: list[tuple[int, int]], masks: list[torch.Tensor], heads: int):
        """Run on the prompts of several rows, one after the other in `states` (1, tokens, channels).

        Args:
            keys, values: the cache of all rows up to the end of the prompts, which is written.
            spans: for each row, the first position to attend to, and that of its prompt.
            masks: the additive mask of each row's attention.
        """
        _, tokens, channels = states.shape
        qkv = self.qkv(self.norm_1(states)).view(1, tokens, 3, heads, channels // heads)
        lengths = [len(mask) for mask in masks]
        attended = []
        for row, part in enumerate(qkv.permute(2, 0, 3, 1, 4).split(lengths, dim=3)):
            (query, key, value), (first, start) = part, spans[row]
            keys[row, :, start:], values[row, :, start:] = key[0], value[0]
            visible = slice(row, row + 1), slice(None), slice(first, None)
            attended.append(F.scaled_dot_product_attention(query, keys[visible], values[visible], masks[row]))
        return self._finish(states, torch.cat(attended, dim=2).transpose(1, 2).reshape(states.shape))

    def _finish(self, states: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        states = states + self.attention_output(attended)
        return states + self.mlp_output(F.gelu(self.mlp_input(self.norm_2(states)), approximate="tanh"))


def sample_tokens(logits: torch.Tensor, seen: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Sample a token from each row of logits, equivalent to transformers' logits processors in their order.

    Args:
        logits: float32 of shape (rows, vocabulary).
        seen: bool of the same shape; the tokens that the repetition penalty applies to.
        sampling: the sampling parameters.

    Returns:
        Token ids, int64 of shape (rows,).
    """
    penalty = sampling.repetition_penalty
    logits = torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)
    if not sampling.do_sample:
        return logits.argmax(dim=-1)
    count = min(sampling.top_k or logits.shape[-1], logits.shape[-1])
    values, tokens = (logits / sampling.temperature).topk(count, dim=-1)
    probabilities = values.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    probabilities = probabilities.masked_fill(before >= sampling.top_p, 0.0)
    # The argmax of p / noise with exponential noise is a sample from p; `multinomial` would synchronize with the GPU.
    chosen = (probabilities / torch.empty_like(probabilities).exponential_()).argmax(dim=-1, keepdim=True)
    return tokens.gather(-1, chosen)[:, 0]


def _linear(layer: nn.Linear | Conv1D, precision: str, device, dtype):
    """Return a copy of a linear layer in a precision, leaving the original unchanged."""
    if precision in LAYERS:
        return LAYERS[precision](layer)
    weight = layer.weight.detach().to(device, dtype)
    bias = None if layer.bias is None else layer.bias.detach().to(device, dtype)
    if isinstance(layer, Conv1D):
        return lambda states: torch.addmm(bias, states.flatten(0, -2), weight).unflatten(0, states.shape[:-1])
    return lambda states: F.linear(states, weight, bias)
