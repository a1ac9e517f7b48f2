"""Writes shakespeare/held_out.txt and shakespeare/perplexity.json: how well the demo model, in Hugging Face
transformers, predicts plays that it was not trained on. README.md explains them.

    python tests/golden/make_perplexity.py
"""

import math
import sys
from itertools import groupby

import torch
from make_golden import DEMO, HERE, demo_tokenizer, set_up, write_cases
from transformers import GPTJForCausalLM

sys.path.insert(0, str(DEMO))
from train import download_works  # noqa: E402

BATCH = 16  # windows
EXCERPT = 12_000  # bytes

CASES = [  # bytes, context, stride
    (EXCERPT, 256, 128),
    (EXCERPT, 256, 256),
    (EXCERPT, 512, 512),
    (EXCERPT, 100, 37),
    (None, 256, 256),
]


def windows(n, context, stride):
    """Where each window begins and ends, and how many of its last tokens no earlier window has scored."""
    scored = 1  # nothing predicts the first token
    for begin in range(0, n, stride):
        end = min(begin + context, n)
        # Nor can a window predict its own first token.
        yield begin, end, end - max(scored, begin + 1)
        scored = end
        if end == n:
            return


@torch.no_grad()
def negative_log_likelihood(model, tokens, context, stride):
    """The sum, in nats, and over how many tokens."""
    nll, scored = 0.0, 0
    all_windows = [window for window in windows(len(tokens), context, stride) if window[2] > 0]
    for _, alike in groupby(all_windows, lambda window: window[1] - window[0]):
        alike = list(alike)
        for batch in (alike[i : i + BATCH] for i in range(0, len(alike), BATCH)):
            rows = torch.stack([tokens[begin:end] for begin, end, _ in batch])
            logprobs = model(rows[:, :-1]).logits.log_softmax(-1).gather(-1, rows[:, 1:, None])[..., 0]
            for row, (_, _, count) in zip(logprobs, batch):
                nll -= row[len(row) - count :].double().sum().item()
                scored += count
    return nll, scored


def perplexity_case(model, tokenizer, text, context, stride):
    tokens = torch.tensor(tokenizer(text).input_ids)
    nll, scored = negative_log_likelihood(model, tokens, context, stride)
    print(f"{len(tokens)} tokens, windows of {context} every {stride}: perplexity {math.exp(nll / scored):.4f}")
    return {
        "bytes": len(text.encode()),
        "n_tokens": len(tokens),
        "context": context,
        "stride": stride,
        "scored": scored,
        "nll": nll,
        "perplexity": math.exp(nll / scored),
    }


def main():
    set_up()
    held_out = download_works()[5::12]
    # The poems are left out: half as much text again, and of another kind.
    plays = [work for work in held_out if work.startswith(("CYMBELINE\n", "THE WINTER'S TALE\n"))]
    assert len(plays) == 2
    text = "\n\n".join(plays) + "\n"
    assert text.isascii(), "a cut at any byte leaves whole characters"
    (HERE / "shakespeare" / "held_out.txt").write_text(text, newline="\n")

    model = GPTJForCausalLM.from_pretrained(DEMO, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = demo_tokenizer()
    cases = [perplexity_case(model, tokenizer, text[:size], *window) for size, *window in CASES]
    write_cases(HERE / "shakespeare" / "perplexity.json", cases)


if __name__ == "__main__":
    main()
