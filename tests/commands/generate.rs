//! `gptj generate`: what is generated is compared with the goldens (`tests/golden/README.md`), whose every greedy token
//! leads by so much that any GPU must choose it.

use std::collections::HashSet;

use gptj::{AdapterInfo, Tokenizer};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::golden::{self, Golden};
use crate::common::gpu::gpu;
use crate::common::model_dir::{ModelDir, NARROW, text};
use crate::common::program::{gptj, ids, run, run_json};

/// What `generate --json` prints: these keys and no others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Generated {
    prompt_tokens: Vec<u32>,
    tokens: Vec<u32>,
    text: Option<String>,
    finish_reason: String,
    seed: Option<u64>,
    adapter: String,
    timings: Timings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Timings {
    load_seconds: f64,
    prompt_seconds: f64,
    decode_seconds: f64,
    first_token_seconds: f64,
    prompt_tokens_per_second: f64,
    decode_tokens_per_second: f64,
}

fn generate(arguments: &[&str]) -> Generated {
    run_json(&mut gptj(&[&["generate", "--json"], arguments].concat()))
}

/// What transformers generated greedily: the prompt's tokens, and those after them.
fn greedy(name: &str) -> (Vec<u32>, Vec<u32>) {
    let golden = Golden::open(format!("golden/{name}/stages.safetensors"));
    (golden.u32("tokens"), golden.u32("greedy"))
}

/// The text of the prompt from which transformers has the built-in model's text.
fn built_in_prompt() -> String {
    Golden::open("golden/shakespeare/stages.safetensors").metadata("prompt").expect("the generator writes it")
}

/// The built-in model's text of tokens.
fn decode(ids: &[u32]) -> String {
    let tokenizer = Tokenizer::open(&golden::model("shakespeare"), 1024).expect("it is sound");
    tokenizer.expect("it is there").decode(ids).expect("the ids are in the vocabulary")
}

#[test]
fn greedy_text_is_transformers_text() {
    let Some(gpu) = gpu() else { return };
    let ((prompt_tokens, want), prompt) = (greedy("shakespeare"), built_in_prompt());
    let [text, count] = [decode(&want), want.len().to_string()];
    let arguments = ["--greedy", "--max-new-tokens", &count, "--prompt", &prompt];

    let generated = generate(&arguments);
    assert_eq!(generated.prompt_tokens, prompt_tokens);
    assert_eq!(generated.tokens, want);
    assert_eq!(generated.text.as_ref(), Some(&text));
    assert_eq!(generated.finish_reason, "length");
    assert_eq!(generated.seed, None, "nothing is drawn");
    assert_eq!(generated.adapter, gpu.info().to_string());
    let Timings { load_seconds, prompt_seconds, decode_seconds, first_token_seconds, .. } = generated.timings;
    assert!([load_seconds, prompt_seconds, decode_seconds].iter().all(|&seconds| seconds > 0.0));
    assert!(first_token_seconds > load_seconds + prompt_seconds, "the program starts before it loads");
    let rates = [
        (generated.timings.prompt_tokens_per_second, prompt_tokens.len() as f64 / prompt_seconds),
        (generated.timings.decode_tokens_per_second, (want.len() - 1) as f64 / decode_seconds),
    ];
    assert!(rates.iter().all(|(rate, want)| (rate / want - 1.0).abs() < 1e-6), "{rates:?}");

    let (stdout, stderr) = run(&mut gptj(&[&["generate"], &arguments[..]].concat()));
    assert_eq!(stdout, format!("{prompt}{text}\n"));
    let summary = stderr.lines().last().expect("a summary");
    assert!(summary.starts_with("[48 tokens, as many as asked for; prompt 25 tokens at "), "{summary}");
    assert!(summary.contains(" tok/s, decode ") && summary.contains("/s of weights; first token after "), "{summary}");
    let name = gpu.info().name.split(" (").next().expect("a name");
    assert!(summary.ends_with(&format!("; {name}]")), "{summary}");
}

#[test]
fn a_software_adapter_is_never_used_silently() {
    let Some(gpu) = gpu() else { return };
    let (_, stderr) = run(&mut gptj(&["generate", "-n", "1", "--model", NARROW, "--prompt-tokens", "1"]));
    assert_eq!(stderr.contains("is a software adapter: it computes on the CPU"), gpu.info().is_software(), "{stderr}");
}

#[test]
fn a_prompt_may_come_in_several_ways() {
    if gpu().is_none() {
        return;
    }
    let prompt = "- To be, or not to be:";
    let directory = TempDir::new().expect("a temporary directory");
    let [file, windows_file] = [("file", "\n"), ("windows_file", "\r\n")].map(|(name, line_break)| {
        let path = directory.path().join(name);
        std::fs::write(&path, prompt.to_owned() + line_break).expect("room for a small file");
        text(&path).to_owned()
    });
    let (tokens, _) = run(&mut gptj(&["tokenize", "--", prompt]));

    let first = generate(&["--greedy", "-n", "4", "--prompt", prompt]);
    assert_eq!(ids(&first.prompt_tokens), tokens.trim_end());
    for (arguments, input) in [
        (&["--prompt-file", &file][..], ""),
        (&["--prompt-file", &windows_file], ""),
        (&["--prompt-tokens", tokens.trim_end()], ""),
        (&[], prompt),
        (&[], "- To be, or not to be:\n"),
    ] {
        let arguments = [&["generate", "--json", "--greedy", "-n", "4"], arguments].concat();
        let other: Generated = run_json(gptj(&arguments).write_stdin(input));
        assert_eq!(other.prompt_tokens, first.prompt_tokens, "{arguments:?}");
        assert_eq!(other.tokens, first.tokens, "{arguments:?}");
    }
}

#[test]
fn the_built_in_model_is_the_one_in_the_project() {
    if gpu().is_none() {
        return;
    }
    let arguments = ["--greedy", "-n", "4", "--prompt", "O Romeo"];
    let [built_in, directory] =
        [&[][..], &["--model", "models/shakespeare"]].map(|model| generate(&[model, &arguments].concat()));
    assert_eq!(built_in.tokens, directory.tokens);
    assert_eq!(built_in.text, directory.text);
}

#[test]
fn a_model_without_a_tokenizer_speaks_in_ids() {
    if gpu().is_none() {
        return;
    }
    let (prompt, want) = greedy("narrow_mlp");
    let arguments = ["--model", NARROW, "--greedy", "-n", "5", "--prompt-tokens", &ids(&prompt)];
    let generated = generate(&arguments);
    assert_eq!(generated.tokens, want[..5]);
    assert_eq!(generated.text, None);

    let (stdout, _) = run(&mut gptj(&[&["generate"], &arguments[..]].concat()));
    assert_eq!(stdout, ids(&want[..5]) + "\n");
}

#[test]
fn a_seed_decides_the_text() {
    if gpu().is_none() {
        return;
    }
    let with = |options: &[&str]| {
        generate(&[&["--model", NARROW, "-n", "12", "--temperature", "2", "--prompt-tokens", "1"], options].concat())
    };
    let first = with(&["--seed", "1"]);
    assert_eq!(first.seed, Some(1));
    assert_eq!(with(&["--seed", "1"]).tokens, first.tokens);
    assert_ne!(with(&["--seed", "2"]).tokens, first.tokens);

    // Without a seed there is a new one each time, which is told and gives the same text again.
    let unseeded = with(&[]);
    let seed = unseeded.seed.expect("it is told");
    assert_ne!(with(&[]).seed, Some(seed));
    assert_eq!(with(&["--seed", &seed.to_string()]).tokens, unseeded.tokens);
}

#[test]
fn every_sampling_option_does_something() {
    if gpu().is_none() {
        return;
    }
    let (prompt, want) = greedy("narrow_mlp");
    let prompt = ids(&prompt);
    let with = |options: &[&str]| {
        generate(&[&["--model", NARROW, "-n", "12", "--prompt-tokens", &prompt], options].concat()).tokens
    };
    let greedy = &want[..12];
    for only_the_best in [["--top-k", "1"], ["--top-p", "0.000001"], ["--temperature", "0.001"]] {
        assert_eq!(with(&only_the_best), greedy, "{only_the_best:?}");
    }
    assert_ne!(with(&["--seed", "1", "--temperature", "2"]), greedy, "what these options hold back");

    let distinct = |tokens: &[u32]| tokens.iter().collect::<HashSet<_>>().len();
    assert!(distinct(greedy) < 12, "greedy text repeats itself");
    let penalised = with(&["--greedy", "--repetition-penalty", "1000"]);
    assert_eq!(distinct(&penalised), 12, "{penalised:?}");
}

#[test]
fn a_stop_string_ends_the_text_before_it() {
    if gpu().is_none() {
        return;
    }
    let ((_, want), prompt) = (greedy("shakespeare"), built_in_prompt());
    let text = decode(&want);
    // It begins inside of " man", and ends inside of " my".
    let stop = "n, m";
    let end = text.find(stop).expect("transformers wrote it");
    let arguments = ["--greedy", "--prompt", &prompt, "--stop", "--not in the text", "--stop", stop];

    let generated = generate(&arguments);
    assert_eq!(generated.text.as_deref(), Some(&text[..end]));
    assert_eq!(generated.finish_reason, "stop");
    let count = generated.tokens.len();
    assert_eq!(generated.tokens, want[..count], "tokens are what was generated, the stop string included");
    assert!(decode(&want[..count]).contains(stop) && !decode(&want[..count - 1]).contains(stop));
    assert!(want.iter().all(|&token| !decode(&[token]).contains(stop)), "no token is all of it");

    let (stdout, stderr) = run(&mut gptj(&[&["generate"], &arguments[..]].concat()));
    assert_eq!(stdout, format!("{prompt}{}\n", &text[..end]));
    assert!(stderr.contains(&format!("[{count} tokens, ended by the text; ")), "{stderr}");
}

#[test]
fn the_end_of_text_token_ends_the_text() {
    if gpu().is_none() {
        return;
    }
    let (prompt, want) = greedy("narrow_mlp");
    let end_of_text = json!({"eos_token_id": [want[6], 0]}).to_string();
    let model = ModelDir::sound().with("generation_config.json", end_of_text);

    let generated = generate(&["--model", model.text(), "--greedy", "--prompt-tokens", &ids(&prompt)]);
    let length = 1 + want.iter().position(|&token| token == want[6]).expect("it is one of them");
    assert_eq!(generated.tokens, want[..length]);
    assert_eq!(generated.finish_reason, "stop");
}

#[test]
fn a_full_context_ends_the_text() {
    if gpu().is_none() {
        return;
    }
    let (prompt, want) = greedy("narrow_mlp");
    let arguments = ["--model", NARROW, "--greedy", "--prompt-tokens", &ids(&prompt)];
    let generated = generate(&arguments);
    // The golden stops a token early: the last token chosen has no position of its own to be fed from.
    assert_eq!(generated.tokens.len(), 24);
    assert_eq!(generated.tokens[..23], want);
    assert_eq!(generated.finish_reason, "context");

    let (stdout, stderr) = run(&mut gptj(&[&["generate"], &arguments[..]].concat()));
    assert_eq!(stdout, ids(&generated.tokens) + "\n");
    assert!(stderr.contains("[24 tokens, ended by the full context of 24 positions; "), "{stderr}");
}

#[test]
fn a_gpu_is_chosen_by_index_or_by_a_part_of_its_name() {
    let Some(gpu) = gpu() else { return };
    let AdapterInfo { index, name, .. } = gpu.info();
    let part = name.split(' ').next().expect("a name").to_uppercase();
    for wanted in [index.to_string(), part.clone()] {
        let info: Value = run_json(&mut gptj(&["info", "--json", "--gpu", &wanted]));
        assert_eq!(info["adapter"]["index"], *index, "{wanted}");
    }
    let info: Value = run_json(gptj(&["info", "--json"]).env("WGPU_ADAPTER_NAME", part));
    assert_eq!(info["adapter"]["index"], *index);
}
