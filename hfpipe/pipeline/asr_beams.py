"""Search for the likeliest text of what Whisper's encoder heard, several beams at a time."""

import torch
import torch.nn.functional as F

from .engine_cancel import raise_if_cancelled

BEAMS = 5  # openai/whisper's own, transcribe.py


class Decoder:
    """Whisper's decoder, for beams that all hear the same audio: one copy of its keys and values serves them.

    transformers' own decoding repeats them for each beam, and reads all of these in each step.

    Args:
        model: a `WhisperForConditionalGeneration`, in any precision.
        states: what the encoder gave for one question, (1, positions, d_model).
    """

    def __init__(self, model, states: torch.Tensor):
        self.decoder, self.head = model.get_decoder(), model.proj_out
        self.heads, self.length = model.config.decoder_attention_heads, 0
        self.heard, self.said = [], []  # keys and values of each layer
        for layer in self.decoder.layers:
            attention, nothing = layer.encoder_attn, self._split(states[:, :0])
            self.heard.append((self._split(attention.k_proj(states)), self._split(attention.v_proj(states))))
            self.said.append((nothing, nothing))

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the log probability of each next token, float32 (beams, vocabulary), after tokens (beams, length).

        They follow those of the calls before; the first call is for the prompt, which the beams have in common.
        """
        rows, length = tokens.shape
        end = self.length + length
        positions = self.decoder.embed_positions.weight[self.length : end]
        states = self.decoder.embed_tokens(tokens) + positions
        for i, (layer, heard) in enumerate(zip(self.decoder.layers, self.heard, strict=True)):
            attention, normed = layer.self_attn, layer.self_attn_layer_norm(states)
            keys, values = self.said[i]
            keys = torch.cat([keys, self._split(attention.k_proj(normed))], dim=2)
            values = torch.cat([values, self._split(attention.v_proj(normed))], dim=2)
            self.said[i] = keys, values
            queries = self._split(attention.q_proj(normed))
            attended = F.scaled_dot_product_attention(queries, keys, values, is_causal=length > 1)
            states = states + attention.out_proj(self._join(attended))

            attention, normed = layer.encoder_attn, layer.encoder_attn_layer_norm(states)
            queries = self._split(attention.q_proj(normed).view(1, rows * length, -1))  # of all beams as of one text
            attended = self._join(F.scaled_dot_product_attention(queries, *heard))
            states = states + attention.out_proj(attended.view(rows, length, -1))

            normed = layer.final_layer_norm(states)
            states = states + layer.fc2(layer.activation_fn(layer.fc1(normed)))
        self.length = end
        return self.head(self.decoder.layer_norm(states[:, -1])).float().log_softmax(dim=-1)

    def follow(self, beams: torch.Tensor) -> None:
        """Go on from these of the beams, (beams,), in this order; each may come several times."""
        self.said = [(keys[beams], values[beams]) for keys, values in self.said]

    def _split(self, states: torch.Tensor) -> torch.Tensor:
        """Bring (rows, length, d_model) into the shape (rows, heads, length, d_model / heads)."""
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _join(self, attended: torch.Tensor) -> torch.Tensor:
        return attended.transpose(1, 2).flatten(2)


@torch.inference_mode()
def search(
    model, states: torch.Tensor, prompt: list[int], suppress, max_new_tokens: int | None
) -> tuple[list[int], bool]:
    """Search for the text that is likeliest for its length, with `BEAMS` beams.

    A text's score is the mean log probability of its tokens, its end counted in the sum alone, as openai/whisper has
    it (decoding.py, `MaximumLikelihoodRanker`). The search ends when no beam is better than the best text that ended.

    Args:
        model: a `WhisperForConditionalGeneration`.
        states: what its encoder gave for one question, (1, positions, d_model).
        prompt: token ids.
        suppress: a logits processor.
        max_new_tokens: None is as many as the Whisper has positions for.

    Returns:
        The tokens after the prompt, without the end; and whether the limit was reached before any text ended.
    """
    limit, length = model.config.max_target_positions, len(prompt)
    if max_new_tokens is not None:
        limit = min(limit, length + max_new_tokens)
    decoder, device = Decoder(model, states), states.device
    ends = torch.tensor(model.generation_config.eos_token_id, device=device)
    tokens = given = torch.tensor([prompt], device=device)
    totals = torch.zeros(1, device=device)
    best_score, best = -torch.inf, None
    while tokens.shape[1] < limit:
        raise_if_cancelled()
        gains = suppress(tokens, decoder(given))
        count = (1 + ends.numel()) * BEAMS
        gains, candidates = gains.topk(count)  # of each beam, which is faster than of all at once
        sums, places = (totals[:, None] + gains).flatten().topk(count)
        rows, next_tokens = places // count, candidates.flatten()[places]
        is_end = torch.isin(next_tokens, ends)
        said = tokens.shape[1] - length
        for place in is_end[:BEAMS].nonzero()[:, 0].tolist():
            score = float(sums[place]) / max(1, said)
            if score > best_score:
                best_score, best = score, tokens[rows[place], length:].tolist()
        live = (~is_end).nonzero()[:BEAMS, 0]
        rows, given, totals = rows[live], next_tokens[live, None], sums[live]
        if best_score >= float(totals[0]) / (said + 1):
            break
        tokens = torch.cat([tokens[rows], given], dim=1)
        decoder.follow(rows)
    return (tokens[0, length:].tolist(), True) if best is None else (best, False)
