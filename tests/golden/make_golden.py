"""Writes the models and the texts of this folder with Hugging Face transformers, the reference for GPT-J. README.md
explains them.

    pip install torch transformers safetensors tokenizers
    python tests/golden/make_golden.py
"""

import json
import math
import shutil
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import GPT2Tokenizer, GPTJConfig, GPTJForCausalLM, PreTrainedTokenizerFast, logging

HERE = Path(__file__).resolve().parent
DEMO = HERE.parents[1] / "models" / "shakespeare"

# An engine rounds a little differently, and must generate the same tokens all the same: in every golden, each greedy
# token leads the runner-up by at least this much. The seeds and the demo's prompt were chosen so that they do.
LEAST_MARGIN = 0.1


# ---- checkpoints ----------------------------------------------------------------------------------------------------


@dataclass
class Golden:
    """A small random GPT-J: its shape, how its checkpoint is written, and how long the reference run is."""

    name: str
    seed: int
    shape: dict  # arguments of GPTJConfig
    prompt: int  # tokens
    greedy: int = 24  # tokens generated after the prompt
    dtype: torch.dtype = torch.float16
    shard_size: str = "1GB"
    old_buffers: bool = False  # add the causal masks that older checkpoints carry
    config: dict = field(default_factory=dict)  # written over config.json afterwards
    config_without: tuple = ()  # keys taken out of config.json afterwards


# What the hub's config.json files of GPT-J hold beside the shape.
HUB_KEYS = {
    "gradient_checkpointing": False,
    "rotary": True,
    "scale_attn_weights": True,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50, "temperature": 1.0}},
    "tokenizer_class": "GPT2Tokenizer",
    "torch_dtype": "float16",
}

GOLDENS = [
    Golden(
        "tiny",
        seed=59,
        shape=dict(vocab_size=1024, n_positions=512, n_embd=32, n_layer=5, n_head=4, rotary_dim=4),
        prompt=17,
        dtype=torch.float32,
        config={"n_ctx": 512, "intermediate_size": 37, "type_vocab_size": 16, "pad_token_id": 1023},
    ),
    Golden(
        "wide_head",
        seed=23,
        shape=dict(vocab_size=96, n_positions=128, n_embd=512, n_layer=1, n_head=2, rotary_dim=64, n_inner=64),
        prompt=40,
        config={"n_ctx": 128, **HUB_KEYS},
    ),
    Golden(
        "narrow_mlp",
        seed=54,
        shape=dict(
            vocab_size=200,
            n_positions=24,
            n_embd=48,
            n_layer=2,
            n_head=3,
            rotary_dim=8,
            n_inner=80,
            layer_norm_epsilon=0.01,
        ),
        prompt=1,
        greedy=23,  # to the end of the context
        old_buffers=True,
    ),
    Golden(
        "odd_widths",
        seed=45,
        shape=dict(vocab_size=101, n_positions=96, n_embd=33, n_layer=3, n_head=3, rotary_dim=6, n_inner=77),
        prompt=23,
        dtype=torch.bfloat16,
        config={"use_cache": False},
    ),
    Golden(
        "whole_head",
        seed=35,
        shape=dict(vocab_size=128, n_positions=64, n_embd=64, n_layer=2, n_head=4, rotary_dim=16),
        prompt=12,
        config={"rotary_dim": None},
    ),
    Golden(
        "sharded",
        seed=31,
        shape=dict(vocab_size=256, n_positions=128, n_embd=64, n_layer=3, n_head=4, rotary_dim=8),
        prompt=32,
        shard_size="100KB",
        config_without=("n_inner", "activation_function", "layer_norm_epsilon", "tie_word_embeddings"),
    ),
]


def randomise(model, dtype, seed):
    """Weights under which every part of the model matters.

    Fresh weights (deviation 0.02, biases 0, gains 1) would hide mistakes: all attention uniform, all biases unread.
    Here each matrix keeps the size of its input, except that q and k are larger, so that attention picks its tokens,
    and the heads larger still, so that logits lie apart. All values are exact in f16 and in `dtype`.
    """
    gain = {"q_proj": 1.5, "k_proj": 1.5, "lm_head": 5.0, "score": 2.0, "qa_outputs": 2.0}
    random = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=random)
        layer, kind = name.split(".")[-2:]
        if kind == "bias":
            noise *= 0.2
        elif layer.startswith("ln_"):
            noise = 1 + 0.2 * noise
        elif layer != "wte":
            noise *= gain.get(layer, 1.0) / math.sqrt(weight.shape[1])
        weight.data = noise.half().to(dtype)


def add_old_buffers(file, config):
    """What older versions of transformers saved beside the weights, and every loader has to pass over."""
    tensors = load_file(file)
    n = config.n_positions
    for i in range(config.n_layer):
        tensors[f"transformer.h.{i}.attn.bias"] = torch.ones(1, 1, n, n, dtype=torch.bool).tril()
        tensors[f"transformer.h.{i}.attn.masked_bias"] = torch.tensor(-1e9).half()  # -inf in f16, as in real files
    save_file(tensors, file, metadata={"format": "pt"})


def edit_config(file, golden):
    config = json.loads(file.read_text()) | golden.config
    for key in golden.config_without:
        del config[key]
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def make_checkpoint(golden):
    folder = HERE / golden.name
    shutil.rmtree(folder, ignore_errors=True)

    last = golden.shape["vocab_size"] - 1
    config = GPTJConfig(**golden.shape, bos_token_id=last, eos_token_id=last)
    model = GPTJForCausalLM(config)
    randomise(model, golden.dtype, golden.seed)
    model.save_pretrained(folder, max_shard_size=golden.shard_size)
    if golden.old_buffers:
        add_old_buffers(folder / "model.safetensors", config)

    random = torch.Generator().manual_seed(golden.seed)
    prompt = torch.randint(config.vocab_size, (golden.prompt,), generator=random)
    write_stages(folder, run_reference(folder, prompt, golden.greedy))
    # Only now, because transformers refuses to read whole_head's `rotary_dim: null`.
    edit_config(folder / "config.json", golden)


# ---- the reference run ----------------------------------------------------------------------------------------------


def run_reference(checkpoint, prompt, greedy):
    """What the checkpoint's files compute in f32, from embedding to greedy text, as named arrays."""
    model = GPTJForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager").eval()
    model.generation_config.eos_token_id = None  # generate exactly as many tokens as asked

    # `output_hidden_states` would not do: its last entry is already normalised by ln_f.
    hidden = []

    def record(_module, _inputs, output):
        hidden.append(output[0] if isinstance(output, tuple) else output)

    modules = (model.transformer.wte, *model.transformer.h, model.transformer.ln_f)
    hooks = [module.register_forward_hook(record) for module in modules]
    with torch.no_grad():
        logits = model(prompt[None]).logits[0]
    for hook in hooks:
        hook.remove()
    *hidden, ln_f = (stage[0] for stage in hidden)

    run = model.generate(
        prompt[None],
        attention_mask=torch.ones_like(prompt[None]),
        do_sample=False,
        max_new_tokens=greedy,
        return_dict_in_generate=True,
        output_logits=True,
    )
    best, second = torch.cat(run.logits).topk(2).values.T
    margins = best - second
    assert len(margins) == greedy, f"{checkpoint.name}: {len(margins)} tokens generated, not {greedy}"
    assert margins.min() > LEAST_MARGIN, f"{checkpoint.name}: a margin of {margins.min():.4f}; take another seed"
    print(f"{checkpoint.name}: {len(prompt)} + {greedy} tokens, margins from {margins.min():.3f}")

    stages = {
        "tokens": prompt.int(),
        **{f"hidden.{i}": stage for i, stage in enumerate(hidden)},
        "ln_f": ln_f,
        "logits": logits,
        "greedy": run.sequences[0, len(prompt) :].int(),
        "margins": margins,
    }
    return {name: stage.numpy() for name, stage in stages.items()}


def write_tensors(file, tensors, **metadata):
    """Writes named arrays as safetensors. The library would write the metadata in another order on every run."""
    versions = {name: version(name) for name in ("torch", "transformers")}
    header = {"__metadata__": {"format_version": "1", **versions, **metadata}}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        dtype = {np.float32: "F32", np.int32: "I32"}[tensor.dtype.type]
        header[name] = {"dtype": dtype, "shape": tensor.shape, "data_offsets": [begin, end]}
    header = json.dumps(header).encode()
    header += b" " * (-len(header) % 8)  # the data begins at a multiple of eight

    with open(file, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for tensor in tensors.values():
            file.write(tensor.tobytes())


def write_stages(folder, stages, **metadata):
    folder.mkdir(exist_ok=True)
    write_tensors(folder / "stages.safetensors", stages, **metadata)


def demo_tokenizer():
    return PreTrainedTokenizerFast(tokenizer_file=str(DEMO / "tokenizer.json"))


def make_demo_stages():
    """The reference run of the model that ships with the project. Its checkpoint is in models/."""
    prompt = "JULIET.\nO Romeo, Romeo! wherefore art thou Romeo?\n"
    tokens = demo_tokenizer()(prompt).input_ids
    write_stages(HERE / "shakespeare", run_reference(DEMO, torch.tensor(tokens), greedy=48), prompt=prompt)


# ---- tokenizers -----------------------------------------------------------------------------------------------------

TEXTS = [
    "",
    "To be, or not to be, that is the question:",
    " Shall I compare thee to a summer's day?",
    "  two spaces before, two behind  ",
    "HAMLET.\nWords, words, words.\n\n\n[Exit.]\n",
    "\ttab,\r\nreturn,\x0bvertical tab,\x00nul,\x7fdelete",
    "I'm, you're, he'd, she'll, it's, we've, don't; I'M, DON'T; ow\u2019st",
    "1234567890 3.14159 1,000 x2",
    "snake_case --dashes-- ...dots... <|pipes|> $%&@#",
    "naïve café, e\u0301 combined, Æsop",
    "日本語 русский עברית हिन्दी",
    "😀 \U0001f469\u200d\U0001f680\U0001f3fd",
    "\u00a0no-break\u3000ideographic\u2028line separator\ufefffeff",
    "<|endoftext|>",
    "[Exeunt.]<|endoftext|>THE TEMPEST",
    " <|endoftext|>  <|endoftext|>\n",
    "<|endoftext |> <|ENDOFTEXT|> <|endoftext",
    "<|extratoken_1|>",
    "one<|extratoken_1|>two <|extratoken_12|> three<|extratoken_2|><|extratoken_3|>",
    "<|extratoken_13|> <|extratoken_1",
]

# Of a character's UTF-8 bytes, the last is missing: what a stream of tokens looks like in mid-character.
CUT_OFF = ["é", "日", "😀"]

SONNET = """\
Shall I compare thee to a summer\u2019s day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer\u2019s lease hath all too short a date:
Sometime too hot the eye of heaven shines,
And often is his gold complexion dimm\u2019d;
And every fair from fair sometime declines,
By chance, or nature\u2019s changing course untrimm\u2019d:
But thy eternal summer shall not fade,
Nor lose possession of that fair thou ow\u2019st,
Nor shall death brag thou wander\u2019st in his shade,
When in eternal lines to time thou grow\u2019st,
So long as men can breathe, or eyes can see,
So long lives this, and this gives life to thee.
"""


def make_bpe(folder):
    """The files of GPT-J's own tokenizer, in small: vocab.json, merges.txt, and extra tokens in added_tokens.json."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [SONNET], trainers.BpeTrainer(vocab_size=299, initial_alphabet=alphabet, show_progress=False)
    )
    bpe = json.loads(tokenizer.to_str())["model"]
    vocab = bpe["vocab"] | {"<|endoftext|>": 299}
    added = {f"<|extratoken_{n}|>": 299 + n for n in range(1, 13)}

    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, bpe["merges"]), ""]))
    (folder / "added_tokens.json").write_text(json.dumps(added, sort_keys=True))  # by name: 1, 10, 11, 12, 2, ...


def make_text(file, tokenizer):
    def decode(ids):
        return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    whole = [(text, tokenizer(text).input_ids) for text in TEXTS]
    cut_off = [(None, tokenizer(text).input_ids[:-1]) for text in CUT_OFF]
    write_cases(file, [{"text": text, "ids": ids, "decoded": decode(ids)} for text, ids in whole + cut_off])


# ---- all of it ------------------------------------------------------------------------------------------------------


def write_cases(file, cases):
    """JSON with a case a line, so that a change shows as the case it changes."""
    file.write_text("[\n" + ",\n".join(map(json.dumps, cases)) + "\n]\n")


def numbers(scores):
    """The shortest decimals that give the same f32 back; JSON has no infinity, so a dropped token is null."""
    return [float(str(score)) if np.isfinite(score) else None for score in scores.numpy()]


def set_up():
    torch.set_num_threads(1)  # sums in one order, so that the same machine writes the same bytes
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def main():
    set_up()
    for golden in GOLDENS:
        make_checkpoint(golden)
    make_demo_stages()
    make_text(HERE / "text.json", demo_tokenizer())
    make_bpe(HERE / "bpe")
    make_text(HERE / "bpe" / "text.json", GPT2Tokenizer.from_pretrained(HERE / "bpe"))


if __name__ == "__main__":
    main()
