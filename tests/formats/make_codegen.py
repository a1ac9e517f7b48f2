"""Writes tests/formats/codegen with Hugging Face transformers, the reference for CodeGen. README.md explains it.

    pip install torch transformers safetensors tokenizers
    python tests/formats/make_codegen.py
"""

import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import CodeGenConfig, CodeGenForCausalLM, CodeGenTokenizer, logging

HERE = Path(__file__).resolve().parent / "codegen"
sys.path.insert(0, str(HERE.parents[1] / "golden"))
from make_golden import LEAST_MARGIN, make_bpe, randomise, write_cases, write_stages  # noqa: E402


def reference(model, prompt, greedy):
    """What a model computes for a prompt, and how much its greedy tokens lead at least."""
    with torch.no_grad():
        logits = model(prompt[None]).logits[0]
    model.generation_config.eos_token_id = None  # generate exactly as many tokens as asked
    run = model.generate(
        prompt[None],
        attention_mask=torch.ones_like(prompt[None]),
        do_sample=False,
        max_new_tokens=greedy,
        return_dict_in_generate=True,
        output_logits=True,
    )
    best, second = torch.cat(run.logits).topk(2).values.T
    stages = {
        "tokens": prompt.int(),
        "logits": logits,
        "greedy": run.sequences[0, len(prompt) :].int(),
        "margins": best - second,
    }
    return {name: stage.numpy() for name, stage in stages.items()}, float((best - second).min())


def first_clear_seed(make, prompt, greedy):
    """The first seed under which every greedy token leads clearly, the text goes on and is not all the same, with its
    model and what that computes."""
    for seed in range(1000):
        model = make(seed)
        random = torch.Generator().manual_seed(seed)
        tokens = torch.randint(model.config.vocab_size, (prompt,), generator=random)
        stages, margin = reference(model, tokens, greedy)
        text = set(stages["greedy"].tolist())
        if margin > LEAST_MARGIN and model.config.eos_token_id not in text and len(text) >= greedy / 2:
            print(f"seed {seed}: margins from {margin:.3f}")
            return seed, model, stages
    raise SystemExit("no seed gives clear margins")


# ---- a checkpoint as it is saved ------------------------------------------------------------------------------------


def make_checkpoint(name, **shape):
    config = CodeGenConfig(**shape, eos_token_id=shape["vocab_size"] - 1)

    def make(seed):
        model = CodeGenForCausalLM(config)
        randomise(model, torch.float16, seed)
        return model.float().eval()

    _, model, stages = first_clear_seed(make, prompt=19, greedy=16)
    shutil.rmtree(HERE / name, ignore_errors=True)
    model.half().save_pretrained(HERE / name)
    write_stages(HERE / name, stages)


# ---- real heads, with weights by a formula --------------------------------------------------------------------------


def numbers(seed, count):
    """Those of `numbers` in tests/common/numbers.rs."""
    bits = np.arange(count, dtype=np.uint32) * np.uint32(0x9E37_79B9) ^ np.uint32(seed * 0x85EB_CA6B & 0xFFFF_FFFF)
    bits = (bits ^ (bits >> np.uint32(15))) * np.uint32(0x2C1B_3C6D)
    bits ^= bits >> np.uint32(13)
    return torch.from_numpy((bits % np.uint32(129)).astype(np.float32) / 64 - 1)


def weight(name, shape, seed):
    """A tensor that `weight` in tests/model/codegen.rs makes as well. All its numbers are exact in f16."""
    values = numbers(seed, math.prod(shape)).view(shape)
    layer, kind = name.split(".")[-2:]
    if kind == "bias":
        return values / 4
    if layer.startswith("ln_"):
        return 1 + values / 4
    if layer == "wte":
        return values
    gain = 5.0 if layer == "lm_head" else 1.0
    return values * 2.0 ** round(math.log2(gain * math.sqrt(3 / shape[1])))


def make_formula(name, **shape):
    config = CodeGenConfig(**shape, eos_token_id=shape["vocab_size"] - 1)

    def make(seed):
        model = CodeGenForCausalLM(config)
        for i, (name, parameter) in enumerate(sorted(model.named_parameters())):
            parameter.data = weight(name, parameter.shape, 1000 * seed + i)
        return model.eval()

    seed, model, stages = first_clear_seed(make, prompt=17, greedy=12)
    shutil.rmtree(HERE / name, ignore_errors=True)
    model.config.save_pretrained(HERE / name)
    write_stages(HERE / name, stages, seed=str(seed))


# ---- the tokenizer --------------------------------------------------------------------------------------------------

TEXTS = [
    "def f(x):\n    return x",
    "  two\n   three\n                                 thirty-three",
    "\tone\n\t\ttwo\n\t\t\t\t\t\t\t\t\t\televen",
    " \t  \t\t mixed   \n",
    "one two  three   four",
    "x<|endoftext|>  y",
    "        ",
    "\n\n\n  \n",
]


def make_tokenizer(folder):
    """GPT-2's files and CodeGen's own additions, runs of blanks and tabs, the longest first."""
    shutil.rmtree(folder, ignore_errors=True)
    make_bpe(folder)
    runs = [" " * n for n in reversed(range(2, 32))] + ["\t" * n for n in reversed(range(2, 10))]
    (folder / "added_tokens.json").write_text(json.dumps({run: 300 + i for i, run in enumerate(runs)}))
    tokenizer = CodeGenTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(runs)
    assert tokenizer.convert_tokens_to_ids(runs) == list(range(300, 338))

    def decode(ids):
        return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    cases = [(text, tokenizer(text).input_ids) for text in TEXTS]
    write_cases(folder / "text.json", [{"text": text, "ids": ids, "decoded": decode(ids)} for text, ids in cases])
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))


def main():
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    make_checkpoint(
        "padded_head", vocab_size=120, n_positions=64, n_ctx=64, n_embd=48, n_layer=2, n_head=4, rotary_dim=8
    )
    small = dict(vocab_size=96, n_positions=64, n_ctx=64, n_inner=64)
    make_formula("head_64", n_embd=512, n_head=8, n_layer=2, rotary_dim=32, **small)
    make_formula("head_80", n_embd=320, n_head=4, n_layer=2, rotary_dim=64, **small)
    make_formula("head_256", n_embd=1024, n_head=4, n_layer=1, rotary_dim=64, **small)
    make_tokenizer(HERE / "tokenizer")


if __name__ == "__main__":
    main()
