"""Writes processors.json and generate.json with Hugging Face transformers: what the options of `generate` do to logits,
and to greedy text. README.md explains them.

    python tests/golden/make_processors.py
"""

from collections import Counter
from dataclasses import dataclass

import torch
import transformers
from make_golden import DEMO, HERE, LEAST_MARGIN, demo_tokenizer, numbers, set_up, write_cases
from transformers import GenerationConfig, GPTJConfig, GPTJForCausalLM

VOCAB = 50

# transformers' class for each option, and its own name for it where that is another one.
CLASSES = {
    "logit_bias": "SequenceBiasLogitsProcessor",
    "repetition_penalty": "RepetitionPenaltyLogitsProcessor",
    "no_repeat_ngram_size": "NoRepeatNGramLogitsProcessor",
    "bad_words_ids": "NoBadWordsLogitsProcessor",
    "min_length": "MinLengthLogitsProcessor",
    "min_new_tokens": "MinNewTokensLengthLogitsProcessor",
    "forced_bos_token_id": "ForcedBOSTokenLogitsProcessor",
    "forced_eos_token_id": "ForcedEOSTokenLogitsProcessor",
    "exponential_decay_length_penalty": "ExponentialDecayLengthPenalty",
    "suppress_tokens": "SuppressTokensLogitsProcessor",
    "begin_suppress_tokens": "SuppressTokensAtBeginLogitsProcessor",
    "temperature": "TemperatureLogitsWarper",
    "top_k": "TopKLogitsWarper",
    "top_p": "TopPLogitsWarper",
    "min_p": "MinPLogitsWarper",
    "typical_p": "TypicalLogitsWarper",
    "epsilon_cutoff": "EpsilonLogitsWarper",
    "eta_cutoff": "EtaLogitsWarper",
}
CLASSES = {option: getattr(transformers, name) for option, name in CLASSES.items()}
CUTS = ("top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")  # these rule out by probability
THEIR_NAMES = {"logit_bias": "sequence_bias"}


# ---- what is processed ----------------------------------------------------------------------------------------------


@dataclass
class Case:
    """Options, and the text whose next token they are for. Logits, and what else of the text is open, are drawn."""

    options: dict
    prompt: int = 7  # tokens
    generated: int = 12  # tokens after the prompt
    room: int = 50  # tokens that still fit
    tail: tuple = ()  # the last tokens of the text
    alphabet: int = VOCAB  # the text's other tokens are below; with few of them, runs come again
    eos: tuple = (49,)
    spread: float = 2.0  # the deviation of the logits


FLAT, PEAKED = 0.3, 5.0

# Each option by itself, where it acts and where it does not. Factors of the exponential decay are exact in f32, since
# powers of others would depend on whether an engine keeps them in f32 or, as Python does, in f64.
SINGLE = [
    *(Case({"repetition_penalty": penalty}) for penalty in (1.2, 0.8, 5.0, 1.0)),
    Case({"repetition_penalty": 1.3}, prompt=1, generated=0),
    Case({"repetition_penalty": 1.05}, prompt=90, alphabet=40),
    # ----
    Case({"no_repeat_ngram_size": 1}),
    Case({"no_repeat_ngram_size": 1}, prompt=1, generated=0),
    Case({"no_repeat_ngram_size": 2}, alphabet=4),
    Case({"no_repeat_ngram_size": 2}, prompt=1, generated=0),
    Case({"no_repeat_ngram_size": 2}, prompt=25, generated=0, alphabet=6),
    Case({"no_repeat_ngram_size": 2}, tail=(5, 5, 5)),  # the prefix lies in the run that it may complete
    Case({"no_repeat_ngram_size": 3}, tail=(5, 6, 5, 6, 5)),
    Case({"no_repeat_ngram_size": 3}, generated=30, alphabet=3),
    Case({"no_repeat_ngram_size": 4}, generated=60, alphabet=3),
    Case({"no_repeat_ngram_size": 4}, prompt=3, generated=0, tail=(5, 5, 5)),  # the text is the prefix
    Case({"no_repeat_ngram_size": 4}, prompt=3, generated=1, tail=(5, 5, 5, 5)),
    Case({"no_repeat_ngram_size": 4}, prompt=2, generated=0),
    # ----
    Case({"bad_words_ids": [[3], [44]]}),
    Case({"bad_words_ids": [[7, 8, 9], [8, 10], [6, 8, 11], [12], [8, 7, 13]]}, tail=(7, 8)),
    Case({"bad_words_ids": [[7, 8, 9], [1, 8, 9], [9, 9]]}, tail=(1, 8)),  # two words that end alike
    Case({"bad_words_ids": [[49], [4]]}),  # what ends texts is not ruled out,
    Case({"bad_words_ids": [[48], [49]]}, eos=(48, 49)),
    Case({"bad_words_ids": [[2, 49], [48]]}, eos=(48, 49), tail=(2,)),  # but is as the end of a word
    Case({"bad_words_ids": [[1, 2, 3]]}, prompt=2, generated=0, tail=(1, 2)),  # the text is all that precedes
    Case({"bad_words_ids": [[0, 1, 2, 3]]}, prompt=2, generated=0, tail=(1, 2)),  # the text is too short
    Case({"bad_words_ids": [[1, 1], [1, 1, 1], [1, 1, 1, 2]]}, prompt=1, generated=1, tail=(1, 1)),
    # ----
    Case({"min_length": 19}),  # reached
    Case({"min_length": 20}),
    Case({"min_length": 3}),
    Case({"min_length": 40}, eos=(0, 49)),
    Case({"min_length": 7}, generated=0),
    Case({"min_length": 8}, generated=0, eos=(30, 2, 17)),
    # ----
    Case({"min_new_tokens": 12}),  # reached
    Case({"min_new_tokens": 13}),
    Case({"min_new_tokens": 1}, generated=0),
    Case({"min_new_tokens": 40}, eos=(0, 49)),
    Case({"min_new_tokens": 2}, prompt=1, generated=1, eos=(30, 2, 17)),
    # ----
    Case({"forced_bos_token_id": 5}, prompt=1, generated=0),
    Case({"forced_bos_token_id": 49}, prompt=1, generated=0),
    Case({"forced_bos_token_id": 5}, prompt=1, generated=1),
    Case({"forced_bos_token_id": 5}, prompt=2, generated=0),
    Case({"forced_bos_token_id": 5}),
    # ----
    Case({"forced_eos_token_id": 49}, room=1),
    Case({"forced_eos_token_id": 49}, room=2),
    Case({"forced_eos_token_id": 3}, room=1),
    Case({"forced_eos_token_id": 0}, prompt=1, generated=0, room=1),
    Case({"forced_eos_token_id": 49}, prompt=30, generated=0),
    # ----
    Case({"exponential_decay_length_penalty": [5, 1.5]}),
    Case({"exponential_decay_length_penalty": [12, 2.0]}),  # not yet
    Case({"exponential_decay_length_penalty": [11, 1.25]}),
    Case({"exponential_decay_length_penalty": [0, 1.0625]}, generated=40, eos=(0, 49)),
    Case({"exponential_decay_length_penalty": [3, 0.5]}),
    Case({"exponential_decay_length_penalty": [0, 1.5]}, generated=0),
    Case({"exponential_decay_length_penalty": [0, 4.0]}, prompt=1, generated=1, eos=(30, 2, 17)),
    # ----
    Case({"suppress_tokens": [3]}),
    Case({"suppress_tokens": [0, 49, 48]}),
    Case({"suppress_tokens": list(range(1, 41))}, prompt=1, generated=0),
    Case({"suppress_tokens": [7, 7, 21]}),
    # ----
    Case({"begin_suppress_tokens": [3, 44]}, generated=0),
    Case({"begin_suppress_tokens": [3, 44]}, generated=1),
    Case({"begin_suppress_tokens": [49]}, prompt=1, generated=0),
    Case({"begin_suppress_tokens": [49]}, prompt=1, generated=1),
    Case({"begin_suppress_tokens": list(range(0, 50, 2))}, prompt=30, generated=0),
    # ----
    Case({"logit_bias": {"3": 2.5}}),
    Case({"logit_bias": {"0": -100.0, "49": 100.0}}, prompt=1, generated=0),
    Case({"logit_bias": {str(token): token / 8 - 3 for token in range(0, 50, 5)}}),
    Case({"logit_bias": {"7": 0.0, "8": -0.3}}),
    # ----
    *(Case({"temperature": temperature}) for temperature in (0.5, 0.7, 1.0, 1.5, 2.0)),
    Case({"temperature": 0.1}, spread=FLAT),
    # ----
    *(Case({"top_k": k}) for k in (0, 1, 5, 20, 49, 60)),
    Case({"top_k": 10}, spread=FLAT),
    # ----
    *(Case({"top_p": p}) for p in (0.01, 0.5, 0.9, 0.99, 1.0)),
    Case({"top_p": 0.7}, spread=FLAT),
    Case({"top_p": 0.5}, spread=PEAKED),
    # ----
    *(Case({"min_p": p}) for p in (0.0, 0.01, 0.05, 0.3)),
    Case({"min_p": 0.7}, spread=FLAT),
    Case({"min_p": 0.001}, spread=PEAKED),
    # ----
    *(Case({"typical_p": p}) for p in (0.05, 0.2, 0.5, 0.9, 0.99, 1.0)),
    Case({"typical_p": 0.6}, spread=FLAT),
    Case({"typical_p": 0.3}, spread=PEAKED),
    # ----
    *(Case({"epsilon_cutoff": epsilon}) for epsilon in (0.0, 0.0003, 0.003, 0.02, 0.1)),
    Case({"epsilon_cutoff": 0.02}, spread=FLAT),
    Case({"epsilon_cutoff": 0.5}, spread=0.1),  # all are less likely; the most likely ones stay
    # ----
    *(Case({"eta_cutoff": epsilon}) for epsilon in (0.0, 0.0003, 0.003, 0.02, 0.1)),
    Case({"eta_cutoff": 0.6}, spread=FLAT),
    Case({"eta_cutoff": 0.003}, spread=PEAKED),  # the entropy is low, and epsilon the smaller of the two
    # ----
    *(Case({"presence_penalty": penalty}, alphabet=12) for penalty in (0.5, -0.6, 2.0)),
    Case({"presence_penalty": 1.5}, generated=0),
    Case({"presence_penalty": 0.9}, prompt=1, generated=40),
    # ----
    *(Case({"frequency_penalty": penalty}, alphabet=6) for penalty in (0.5, -0.3, 2.0)),
    Case({"frequency_penalty": 1.5}, generated=0),
    Case({"frequency_penalty": 0.1}, prompt=1, generated=40),
]

CHAINED = [
    # Up to the end of a text, and at it.
    Case({"repetition_penalty": 1.2, "temperature": 0.9, "top_k": 40, "top_p": 0.9}),
    Case({"repetition_penalty": 0.8, "temperature": 1.2, "top_k": 30, "top_p": 0.7}),
    Case({"repetition_penalty": 1.5, "temperature": 2.0, "top_k": 25, "top_p": 0.3, "min_p": 0.1}),
    Case({"repetition_penalty": 1.2, "temperature": 0.1, "top_k": 15, "top_p": 0.99}),
    Case({"logit_bias": {"3": 4.0, "8": -4.0}, "repetition_penalty": 1.3, "temperature": 0.8}, tail=(3, 8)),
    Case({"logit_bias": {"49": -3.5}, "exponential_decay_length_penalty": [4, 1.5], "top_p": 0.95}),
    Case({"min_length": 30, "exponential_decay_length_penalty": [2, 1.5], "temperature": 1.5}),  # of minus infinity
    Case({"min_new_tokens": 20, "exponential_decay_length_penalty": [0, 1.25], "min_p": 0.02}, eos=(0, 49)),
    # generate() forgets min_length where min_new_tokens is set too.
    Case({"min_length": 30, "min_new_tokens": 12, "top_k": 20}),
    Case({"min_length": 5, "min_new_tokens": 13, "top_k": 20}, eos=(0, 49)),
    Case({"forced_eos_token_id": 49, "exponential_decay_length_penalty": [1, 2.0], "temperature": 0.7}, room=1),
    Case(
        {"forced_eos_token_id": 48, "min_length": 25, "suppress_tokens": [1, 2], "typical_p": 0.9}, room=1, eos=(48, 49)
    ),
    Case({"forced_bos_token_id": 5, "begin_suppress_tokens": [5, 6, 7], "top_p": 0.9}, prompt=1, generated=0),
    Case({"forced_bos_token_id": 5, "begin_suppress_tokens": [5, 6, 7], "top_p": 0.9}, prompt=1, generated=1),
    Case({"forced_bos_token_id": 5, "begin_suppress_tokens": [5, 6, 7], "top_k": 0}, prompt=2, generated=0),
    Case({"forced_bos_token_id": 5, "forced_eos_token_id": 49, "temperature": 0.5}, prompt=1, generated=0, room=1),
    # Tokens ruled out, and then the cuts.
    Case({"no_repeat_ngram_size": 2, "repetition_penalty": 1.1, "top_k": 12, "typical_p": 0.8}, alphabet=3),
    Case({"no_repeat_ngram_size": 1, "bad_words_ids": [[8, 9]], "temperature": 1.3, "epsilon_cutoff": 0.1}, tail=(8,)),
    Case(
        {"bad_words_ids": [[7, 8, 9], [49]], "suppress_tokens": [0, 1], "min_length": 25, "eta_cutoff": 0.1},
        tail=(7, 8),
    ),
    Case({"suppress_tokens": list(range(20)), "temperature": 1.7, "typical_p": 0.5}),
    Case({"temperature": 1.5, "top_k": 30, "min_p": 0.03, "epsilon_cutoff": 0.02}),
    Case({"temperature": 0.6, "top_k": 40, "top_p": 0.97, "typical_p": 0.9, "eta_cutoff": 0.02}),
    Case({"temperature": 3.0, "top_k": 45, "top_p": 0.95, "min_p": 0.1, "typical_p": 0.9, "epsilon_cutoff": 0.01}),
    Case({"top_k": 35, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.95, "epsilon_cutoff": 0.008, "eta_cutoff": 0.3}),
    # Nearly all of them together.
    *(
        Case(
            {
                "logit_bias": {"3": 1.5, "8": -2.5, "30": 0.7},
                "repetition_penalty": penalty,
                "no_repeat_ngram_size": 2,
                "bad_words_ids": [[8, 9], [49], [7, 8, 11], [20]],
                "min_new_tokens": min_new_tokens,
                "forced_bos_token_id": 4,
                "forced_eos_token_id": 49,
                "exponential_decay_length_penalty": [6, 1.25],
                "suppress_tokens": [12, 13],
                "begin_suppress_tokens": [14, 15],
                "temperature": temperature,
                "top_k": 30,
                "top_p": 0.95,
                "min_p": 0.01,
                "typical_p": 0.95,
                "epsilon_cutoff": 0.003,
                "eta_cutoff": 0.01,
            },
            generated=generated,
            room=room,
            tail=(7, 8),
            alphabet=12,
            eos=(48, 49),
        )
        for penalty, min_new_tokens, temperature, generated, room in [
            (1.2, 5, 1.4, 12, 40),
            (1.2, 20, 1.4, 12, 40),
            (0.9, 0, 0.7, 0, 40),
            (1.5, 3, 1.1, 30, 1),
        ]
    ),
]


# ---- how generate processes it --------------------------------------------------------------------------------------


def their_options(options):
    theirs = {THEIR_NAMES.get(option, option): value for option, value in options.items()}
    if bias := theirs.get("sequence_bias"):
        theirs["sequence_bias"] = [[[int(token)], value] for token, value in bias.items()]
    return theirs


def processors_of(model, options, case):
    """The processors that `generate(do_sample=True)` would make for these options, in its order."""
    options = {option: value for option, value in options.items() if option in CLASSES}
    max_length = case.prompt + case.generated + case.room
    config = GenerationConfig(
        do_sample=True, eos_token_id=list(case.eos), max_length=max_length, **their_options(options)
    )
    config, _ = model._prepare_generation_config(config)
    model._prepare_special_tokens(config, device="cpu")
    config = model._prepare_generated_length(
        config,
        has_default_max_length=False,
        has_default_min_length="min_length" not in options,
        model_input_name="input_ids",
        input_ids_length=case.prompt,
        inputs_tensor=None,
    )
    mask = {"attention_mask": torch.ones(1, case.prompt, dtype=torch.long)}
    return model._get_logits_processor(config, input_ids_seq_length=case.prompt, device="cpu", model_kwargs=mask)


def process_alone(model, option, case, history, logits):
    value = case.options[option]
    if option in ("presence_penalty", "frequency_penalty"):  # OpenAI's
        counts = history[case.prompt :].bincount(minlength=VOCAB)
        return logits - value * (counts > 0 if option == "presence_penalty" else counts)
    # A forced first token moves the beginning at which tokens are suppressed.
    options = {o: v for o, v in case.options.items() if o in (option, "forced_bos_token_id")}
    processor = [p for p in processors_of(model, options, case) if type(p) is CLASSES[option]]
    return processor[0](history[None], logits[None])[0] if processor else logits


def is_clear_cut(option, value, before, after):
    """Whether what an option kept of `before` cannot change by rounding, or by the order in which equals are sorted."""
    if option not in CUTS:
        return True

    def apart(numbers, threshold):
        return bool(((numbers - threshold).abs() > 1e-4 * threshold).all())

    survivors = before[before.isfinite()].double()
    p = survivors.softmax(0)
    entropy = -(p * p.log()).sum()

    if option == "typical_p" and value < 1:
        distances, order = (-p.log() - entropy).abs().sort()
        gaps = distances.diff()[survivors[order].diff() != 0]  # equal logits stay together
        return bool((gaps > 1e-4).all()) and apart(p[order].cumsum(0), value)

    kept = after.isfinite()
    dropped = before[before.isfinite() & ~kept]
    if len(dropped) > 0 and before[kept].min() - dropped.max() < 1e-3:
        return False
    if option == "top_p" and value < 1:
        return apart(p.sort().values.cumsum(0), 1 - value)
    if option == "min_p" and value > 0:
        return apart(p, value * p.max())
    if option == "epsilon_cutoff":
        return apart(p, value)
    if option == "eta_cutoff":
        return apart(p, min(value, value**0.5 * torch.exp(-entropy)))
    return True


def draw(model, random, case):
    """One drawing of a case; None where it leaves a cut to rounding, or no token at all."""
    # One decimal, so that the fifty logits hold many equals.
    logits = (case.spread * torch.randn(VOCAB, generator=random)).round(decimals=1)
    length = case.prompt + case.generated - len(case.tail)
    history = torch.cat([torch.randint(case.alphabet, (length,), generator=random), torch.tensor(case.tail).long()])

    alone = {option: process_alone(model, option, case, history, logits) for option in case.options}
    if not all(is_clear_cut(option, case.options[option], logits, scores) for option, scores in alone.items()):
        return None

    chained = logits
    for processor in processors_of(model, case.options, case):
        before, chained = chained, processor(history[None], chained[None])[0]
        option = next(option for option, its_class in CLASSES.items() if type(processor) is its_class)
        # Only top_k has a default under which it is a processor.
        clear_cut = is_clear_cut(option, case.options.get(option, 50), before, chained)
        if not clear_cut or not chained.isfinite().any():
            return None

    return {
        "prompt_length": case.prompt,
        "max_length": case.prompt + case.generated + case.room,
        "end_of_text": list(case.eos),
        "history": history.tolist(),
        "logits": numbers(logits),
        "options": case.options,
        "alone": {option: numbers(scores) for option, scores in alone.items()},
        "chained": numbers(chained),
    }


def make_processors():
    # Only its methods are used, not its weights.
    model = GPTJForCausalLM(
        GPTJConfig(vocab_size=VOCAB, n_positions=256, n_embd=8, n_layer=1, n_head=1, rotary_dim=4, eos_token_id=49)
    )
    random = torch.Generator().manual_seed(0)
    cases = []
    for case in SINGLE + CHAINED:
        drawn = None
        while drawn is None:
            drawn = draw(model, random, case)
        cases.append(drawn)
    write_cases(HERE / "processors.json", cases)

    acts = Counter((option, scores != case["logits"]) for case in cases for option, scores in case["alone"].items())
    for option in (*CLASSES, "presence_penalty", "frequency_penalty"):
        assert acts[option, True] >= 2, f"{option} hardly ever acts"
    print(f"processors.json: {len(cases)} cases")


# ---- greedy text ----------------------------------------------------------------------------------------------------

NEW_TOKENS = 32
END_OF_TEXT, COMMA, FULL_STOP, COLON, QUESTION, CAPITAL_I, NEWLINE = 0, 12, 14, 26, 31, 41, 199

GREEDY = [  # prompt, options, what ends texts
    ("GLOUCESTER & CLARENCE.\nGood morrow, cousin.\n", {"repetition_penalty": 1.3}, [END_OF_TEXT]),
    ("CHARMIAN.\nPeace, peace, Iras!\n", {"no_repeat_ngram_size": 3}, [END_OF_TEXT]),
    (
        "PEDANT.\nHe's within, sir, but not to be spoken withal.\n",
        {"bad_words_ids": [[447], [456, 259], [COMMA, 293]]},  # " man", " am a", ", I"
        [END_OF_TEXT],
    ),
    ("HELENA.\nYou are too young, too happy, and too good,\n", {"min_new_tokens": 20}, [NEWLINE]),
    (
        "VALENTINE.\nNot for the world: why, man, she is mine own;\n",
        {"suppress_tokens": [COMMA, NEWLINE, 546]},
        [END_OF_TEXT],
    ),
    ("OBERON\nTarry, rash wanton: am not I thy lord?\n", {"forced_eos_token_id": END_OF_TEXT}, [END_OF_TEXT]),
    ("CLEOPATRA.\nO, 'tis treason!\n", {"exponential_decay_length_penalty": [6, 1.25]}, [FULL_STOP]),
    (
        "KING RICHARD.\nI partly know the man: go, call him hither, boy.\n",
        {"logit_bias": {COMMA: -2.5, 293: -4.0, 312: 1.5}},  # " I", " my"
        [END_OF_TEXT],
    ),
    (
        "DUKE.\nAy, with my heart;\n",
        {"repetition_penalty": 1.2, "begin_suppress_tokens": [CAPITAL_I, NEWLINE]},
        [FULL_STOP, QUESTION],
    ),
    (
        "BASSET.\nYes, sir; as well as you dare patronage\n",
        {
            "repetition_penalty": 1.2,
            "no_repeat_ngram_size": 2,
            "min_new_tokens": 24,
            "forced_eos_token_id": END_OF_TEXT,
        },
        [END_OF_TEXT, 546],
    ),
    (
        "TIMON.\nGo to my steward.\n",
        {
            "logit_bias": {COMMA: -1.0, 312: 1.0},
            "repetition_penalty": 1.1,
            "no_repeat_ngram_size": 3,
            "bad_words_ids": [[447], [312, 460], [FULL_STOP]],  # " man", " my lord"; the last ends texts, and stays
            "min_new_tokens": 8,
            "forced_eos_token_id": QUESTION,
            "exponential_decay_length_penalty": [12, 1.125],
            "suppress_tokens": [COLON],
            "begin_suppress_tokens": [CAPITAL_I, NEWLINE],
        },
        [FULL_STOP, QUESTION],
    ),
]


def generate_case(model, tokenizer, prompt, options, eos):
    """Greedy text under options, of which every token leads the runner-up clearly; they must make a difference."""

    def generate(options):
        return model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            do_sample=False,
            max_new_tokens=NEW_TOKENS,
            eos_token_id=eos,
            return_dict_in_generate=True,
            output_scores=True,
            **their_options(options),
        )

    tokens = torch.tensor([tokenizer(prompt).input_ids])
    run = generate(options)
    best, second = torch.cat(run.scores).topk(2).values.T
    margin = (best - second).min()
    assert margin > LEAST_MARGIN, f"{prompt!r}: a margin of {margin:.4f}; take another prompt"
    assert not torch.equal(run.sequences, generate({}).sequences), f"{prompt!r}: the options do nothing"
    return {
        "prompt": prompt,
        "tokens": tokens[0].tolist(),
        "end_of_text": eos,
        "max_new_tokens": NEW_TOKENS,
        "options": options,
        "generated": run.sequences[0, tokens.shape[1] :].tolist(),
    }


def make_generate():
    model = GPTJForCausalLM.from_pretrained(DEMO, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = demo_tokenizer()
    cases = [generate_case(model, tokenizer, *case) for case in GREEDY]
    write_cases(HERE / "generate.json", cases)
    print(f"generate.json: {len(cases)} cases, {[len(case['generated']) for case in cases]} tokens")


def main():
    set_up()
    make_processors()
    make_generate()


if __name__ == "__main__":
    main()
