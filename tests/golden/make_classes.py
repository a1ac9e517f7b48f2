"""Writes the folder classes with Hugging Face transformers: GPT-J's other classes, and what the causal one gives
besides logits. README.md explains them.

    python tests/golden/make_classes.py
"""

import json
import shutil
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from make_golden import DEMO, GOLDENS, HERE, demo_tokenizer, numbers, randomise, set_up, write_tensors
from safetensors.torch import load_file
from transformers import (
    GPTJConfig,
    GPTJForCausalLM,
    GPTJForQuestionAnswering,
    GPTJForSequenceClassification,
    GPTJModel,
    TextClassificationPipeline,
)

CLASSES = HERE / "classes"
ODD = dict(n_embd=33, n_head=3, rotary_dim=6, n_inner=77)  # nothing divides by four or eight
THREE_HEADS = dict(n_embd=48, n_head=3, rotary_dim=8, n_inner=80)
FOUR_HEADS = dict(n_embd=64, n_head=4, rotary_dim=16)

GENRES = ["comedy", "history", "tragedy", "romance", "poem"]


@dataclass
class Checkpoint:
    """A small random model of one of GPT-J's classes."""

    name: str
    seed: int
    shape: dict
    config: dict
    dtype: torch.dtype = torch.float16
    config_without: tuple = ()  # keys taken out of config.json afterwards


CLASSIFIERS = [
    Checkpoint(
        "single_label",
        seed=1,
        shape=dict(vocab_size=101, n_positions=96, n_layer=2, **ODD),
        config=dict(
            id2label=dict(enumerate(GENRES)),
            label2id={genre: i for i, genre in enumerate(GENRES)},
            problem_type="single_label_classification",
            pad_token_id=99,
        ),
    ),
    Checkpoint(
        "multi_label",
        seed=2,
        shape=dict(vocab_size=120, n_positions=64, n_layer=2, **THREE_HEADS),
        config=dict(num_labels=3, problem_type="multi_label_classification"),
        dtype=torch.bfloat16,
    ),
    Checkpoint(
        "regression",
        seed=3,
        shape=dict(vocab_size=90, n_positions=64, n_layer=1, **FOUR_HEADS),
        config=dict(num_labels=1, problem_type="regression", pad_token_id=0),
        dtype=torch.float32,
    ),
    Checkpoint(
        "two_labels",
        seed=4,
        shape=dict(vocab_size=90, n_positions=64, n_layer=2, **THREE_HEADS),
        config=dict(num_labels=2, pad_token_id=88),
        config_without=("id2label", "label2id", "problem_type", "num_labels"),
    ),
]

ANSWERERS = [
    Checkpoint(
        "question_answering",
        seed=5,
        shape=dict(vocab_size=101, n_positions=128, n_layer=2, **ODD),
        config={},
        dtype=torch.bfloat16,
    ),
    Checkpoint(
        "question_answering_wide",
        seed=10,
        shape=dict(vocab_size=1024, n_positions=128, n_layer=2, **FOUR_HEADS),  # the demo's vocabulary
        config={},
    ),
]

BASE = Checkpoint(
    "base",
    seed=7,
    shape=dict(vocab_size=101, n_positions=96, n_layer=3, **ODD),
    config={},
    dtype=torch.float32,
)


def make_checkpoint(model_class, checkpoint):
    """Writes the files, and gives the model that is in them, in f32, with its folder."""
    folder = CLASSES / checkpoint.name
    last = checkpoint.shape["vocab_size"] - 1
    model = model_class(GPTJConfig(**checkpoint.shape, **checkpoint.config, bos_token_id=last, eos_token_id=last))
    randomise(model, checkpoint.dtype, checkpoint.seed)
    model.save_pretrained(folder)

    file = folder / "config.json"
    config = json.loads(file.read_text())
    kept = {key: value for key, value in config.items() if key not in checkpoint.config_without}
    file.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
    return load(model_class, folder), folder


def load(model_class, folder, **options):
    return model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", **options).eval()


def write_expected(folder, cases):
    lines = ",\n".join(map(json.dumps, cases))
    (folder / "expected.json").write_text('{"cases": [\n' + lines + "\n]}\n")
    print(f"{folder.name}: {len(cases)} cases")


# ---- sequence classification ----------------------------------------------------------------------------------------

LENGTHS = [1, 2, 9, 17, 40, 60]


def texts_of(random, config):
    """Rows of tokens; some of them hold the pad token, which does not make it padding."""
    pad = config.pad_token_id
    words = torch.tensor([token for token in range(config.vocab_size) if token != pad])
    texts = [words[torch.randint(len(words), (length,), generator=random)].tolist() for length in LENGTHS]
    if pad is None:
        return texts
    return texts + [texts[2] + [pad], texts[3] + [pad] * 3, texts[1] + [pad] + texts[2] + [pad] * 2]


def probabilities(model, logits):
    """What transformers' pipeline makes of logits: it alone knows by which rule."""
    scores = TextClassificationPipeline.postprocess(
        SimpleNamespace(model=model), {"logits": logits[None]}, top_k=None, _legacy=True
    )
    return [score["label"] for score in scores], torch.tensor([score["score"] for score in scores])


@torch.no_grad()
def classify(model, texts, padded):
    """The logits of each text, alone or in one batch."""
    if padded == "none":
        return [model(torch.tensor([text])).logits[0] for text in texts]
    longest = max(map(len, texts))
    rows, masks = [], []
    for text in texts:
        padding, there = [model.config.pad_token_id] * (longest - len(text)), [1] * len(text)
        rows.append(padding + text if padded == "left" else text + padding)
        masks.append([0] * len(padding) + there if padded == "left" else there + [0] * len(padding))
    return list(model(torch.tensor(rows), attention_mask=torch.tensor(masks)).logits)


def make_classifier(checkpoint):
    model, folder = make_checkpoint(GPTJForSequenceClassification, checkpoint)
    pad = model.config.pad_token_id
    random = torch.Generator().manual_seed(checkpoint.seed)
    texts = texts_of(random, model.config)
    alone = classify(model, texts, "none")

    cases = []
    for padded in ("none", "left", "right") if pad is not None else ("none",):
        rows = texts
        if padded == "none" and pad is not None:
            rows = texts + [[pad], [pad] * 4]  # without any other, the first is taken: on the left, that of the padding
        for index, (text, logits) in enumerate(zip(rows, classify(model, rows, padded))):
            if padded != "none":
                assert (logits - alone[index]).abs().max() < 1e-4, f"{checkpoint.name}: padding changes the logits"
            labels, scores = probabilities(model, logits)
            # Without a pad token, the last one; with one, the last that is another.
            pooled = max([i for i, token in enumerate(text) if token != pad], default=0)
            [up_to_there] = classify(model, [text[: pooled + 1]], "none")
            assert (logits - up_to_there).abs().max() < 1e-4, f"{checkpoint.name}: token {pooled} is not the one"
            cases.append(
                {
                    "tokens": text,
                    "padded": padded,
                    "pooled": pooled,
                    "logits": numbers(logits),
                    "probabilities": numbers(scores),
                    "labels": labels,
                }
            )
    write_expected(folder, cases)


# ---- question answering ---------------------------------------------------------------------------------------------

LONGEST_ANSWER = 15
QUESTIONS_AND_CONTEXTS = [(5, 12), (3, 1), (1, 20), (8, 40), (12, 90)]  # tokens

# For the model that reads the demo's tokens.
TEXTS = [
    ("Who is king?", "CYMBELINE, king of Britain.\nCLOTEN, son to the Queen by a former husband.\n"),
    ("Where are we?", "SCENE: Sometimes in Britain; sometimes in Italy."),
    ("What does he fear?", "The crickets sing, and man's o'er-labour'd sense\nRepairs itself by rest."),
    ("Exit, pursued by?", "[Exit, pursued by a bear.]\n"),
    ("What is the question?", "HAMLET.\nTo be, or not to be: that is the question:\nWhether 'tis nobler to suffer"),
]


def best_answer(start, end, first):
    """The likeliest span of the context, its probability, and that of the next one; in f64."""
    start, end = (logits[first:].double().softmax(0) for logits in (start, end))
    spans = (start[:, None] * end[None, :]).triu().tril(LONGEST_ANSWER - 1)
    scores, order = spans.flatten().sort(descending=True)
    begin, stop = divmod(order[0].item(), len(end))
    unbounded = (start.argmax().item(), end.argmax().item()) != (begin, stop)
    return [first + begin, first + stop], scores[0].item(), scores[1:2].sum().item(), unbounded


@torch.no_grad()
def answer(model, question, context):
    """A case, and whether the likeliest start and end are no answer together; None where two are about as likely."""
    output = model(torch.tensor([question + context]))
    start, end = output.start_logits[0], output.end_logits[0]
    best, score, next_score, is_bounded = best_answer(start, end, len(question))
    if next_score > 0.9 * score:
        return None
    case = {
        "question": question,
        "context": context,
        "start": numbers(start),
        "end": numbers(end),
        "best": best,
        "score": score,
    }
    return case, is_bounded


def make_answerer(checkpoint):
    model, folder = make_checkpoint(GPTJForQuestionAnswering, checkpoint)
    random = torch.Generator().manual_seed(checkpoint.seed)

    def draw(length):
        return torch.randint(model.config.vocab_size, (length,), generator=random).tolist()

    answers = []
    for lengths in QUESTIONS_AND_CONTEXTS:
        drawn = None
        while drawn is None:
            drawn = answer(model, *map(draw, lengths))
        answers.append(drawn)
    if model.config.vocab_size == demo_tokenizer().vocab_size:
        for texts in TEXTS:
            drawn = answer(model, *(demo_tokenizer()(text).input_ids for text in texts))
            assert drawn, f"{texts}: two answers are about as likely; take another text"
            answers.append(({"question_text": texts[0], "context_text": texts[1], **drawn[0]}, drawn[1]))
    assert any(is_bounded for _, is_bounded in answers), f"{checkpoint.name}: start and end never conflict"
    write_expected(folder, [case for case, _ in answers])


# ---- hidden states, attentions, losses ------------------------------------------------------------------------------


@torch.no_grad()
def inner_states(model, tokens, **inputs):
    """The output, and its hidden states and attentions as named tensors."""
    output = model(tokens[None], output_hidden_states=True, output_attentions=True, **inputs)
    hidden = {f"hidden_states.{i}": state[0] for i, state in enumerate(output.hidden_states)}
    return output, hidden | {f"attentions.{i}": weights[0] for i, weights in enumerate(output.attentions)}


def as_arrays(tensors):
    return {name: tensor.contiguous().numpy() for name, tensor in tensors.items()}


def make_base():
    model, folder = make_checkpoint(GPTJModel, BASE)
    tokens = torch.randint(model.config.vocab_size, (70,), generator=torch.Generator().manual_seed(BASE.seed))
    output, inner = inner_states(model, tokens)
    last = output.last_hidden_state[0]
    weight = torch.arange(1, len(tokens) + 1).float()[:, None]
    expected = {
        "tokens": tokens.int(),
        **inner,
        "pool.last": last[-1],
        "pool.mean": last.mean(0),
        "pool.weighted": (weight * last).sum(0) / weight.sum(),
    }
    write_tensors(folder / "expected.safetensors", as_arrays(expected))
    print(f"{BASE.name}: {len(tokens)} tokens")


def load_golden(name):
    """A causal model of make_golden.py."""
    folder = DEMO if name == "shakespeare" else HERE / name
    config = json.loads((folder / "config.json").read_text())
    # transformers refuses to read whole_head's `rotary_dim: null`.
    config["rotary_dim"] = config["rotary_dim"] or config["n_embd"] // config["n_head"]
    return load(GPTJForCausalLM, folder, config=GPTJConfig.from_dict(config))


@torch.no_grad()
def make_causal(name, tokens, file=None):
    model = load_golden(name)
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(model.config.vocab_size, tokens.shape, generator=random)
    labels[torch.rand(tokens.shape, generator=random) < 0.3] = -100  # takes no part in the loss
    assert -100 in labels[1:]

    output, inner = inner_states(model, tokens, labels=labels[None])
    loss_self = model(tokens[None], labels=tokens[None]).loss
    logprobs = output.logits[0, :-1].log_softmax(-1).gather(-1, tokens[1:, None])[:, 0]
    assert (loss_self + logprobs.mean()).abs() < 1e-5
    expected = {
        "tokens": tokens.int(),
        **inner,
        "labels": labels.int(),
        "loss": output.loss[None],
        "loss_self": loss_self[None],
        "logprobs": logprobs,
    }
    file = CLASSES / f"{file or name}.safetensors"
    write_tensors(file, as_arrays(expected))
    print(f"{file.stem}: {len(tokens)} tokens, losses {output.loss:.3f} and {loss_self:.3f}")


def make_all_causal():
    for name in [golden.name for golden in GOLDENS] + ["shakespeare"]:
        tokens = load_file(HERE / name / "stages.safetensors")["tokens"].long()
        if name == "narrow_mlp":  # its prompt is a single token
            tokens = torch.randint(200, (20,), generator=torch.Generator().manual_seed(0))
        make_causal(name, tokens)
    held_out = (HERE / "shakespeare" / "held_out.txt").read_text()
    tokens = demo_tokenizer()(held_out[held_out.index("SCENE I.") :][:2000]).input_ids[:200]
    make_causal("shakespeare", torch.tensor(tokens), "shakespeare_200")


# ---- all of it ------------------------------------------------------------------------------------------------------


def main():
    set_up()
    shutil.rmtree(CLASSES, ignore_errors=True)
    for checkpoint in CLASSIFIERS:
        make_classifier(checkpoint)
    for checkpoint in ANSWERERS:
        make_answerer(checkpoint)
    make_base()
    make_all_causal()


if __name__ == "__main__":
    main()
