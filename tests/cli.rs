//! The program as its users run it: what each command prints, and where.
//!
//! Results are on standard output, whatever else there is to say on standard error. What is generated is compared with
//! the goldens (`tests/golden/README.md`), whose every greedy token leads by so much that any GPU must choose it.

#![cfg(feature = "cli")]

mod common;
#[path = "common/output.rs"]
mod output;
#[path = "common/program.rs"]
mod program;

use std::collections::HashSet;
use std::path::Path;

use assert_cmd::cargo::CommandCargoExt;
use gptj::AdapterInfo;
use gptj::Tokenizer;
use output::{run, run_json};
use program::{gptj, gptj_without_gpu};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

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

/// What transformers generated greedily.
struct Golden {
    prompt_tokens: Vec<u32>,
    tokens: Vec<u32>,
    /// The text of the prompt, where the model has a tokenizer.
    prompt: Option<String>,
}

impl Golden {
    fn read(name: &str) -> Self {
        let bytes = std::fs::read(Path::new("tests/golden").join(name).join("stages.safetensors"));
        let bytes = bytes.expect("the goldens are there");
        let file = SafeTensors::deserialize(&bytes).expect("the generator writes sound files");
        let tokens = |name: &str| bytemuck::pod_collect_to_vec(file.tensor(name).expect("every golden has it").data());
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("the generator writes sound files");
        let prompt = header.metadata().as_ref().and_then(|metadata| metadata.get("prompt").cloned());
        Self { prompt_tokens: tokens("tokens"), tokens: tokens("greedy"), prompt }
    }

    /// The built-in model's, and the text of its prompt.
    fn built_in() -> (Self, String) {
        let golden = Self::read("shakespeare");
        let prompt = golden.prompt.clone().expect("the demo model has a tokenizer");
        (golden, prompt)
    }
}

/// The model directory of a golden without a tokenizer.
const NARROW: &str = "tests/golden/narrow_mlp";

/// The built-in model's text of tokens.
fn decode(ids: &[u32]) -> String {
    let tokenizer = Tokenizer::open(Path::new("models/shakespeare"), 1024).expect("it is sound");
    tokenizer.expect("it is there").decode(ids).expect("the ids are in the vocabulary")
}

fn join(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

// ---- generate ----

#[test]
fn greedy_text_is_transformers_text() {
    let Some(gpu) = common::gpu() else { return };
    let (golden, prompt) = Golden::built_in();
    let [text, count] = [decode(&golden.tokens), golden.tokens.len().to_string()];
    let arguments = ["--greedy", "--max-new-tokens", &count, "--prompt", &prompt];

    let generated = generate(&arguments);
    assert_eq!(generated.prompt_tokens, golden.prompt_tokens);
    assert_eq!(generated.tokens, golden.tokens);
    assert_eq!(generated.text.as_ref(), Some(&text));
    assert_eq!(generated.finish_reason, "length");
    assert_eq!(generated.seed, None, "nothing is drawn");
    assert_eq!(generated.adapter, gpu.info().to_string());
    let Timings { load_seconds, prompt_seconds, decode_seconds, first_token_seconds, .. } = generated.timings;
    assert!([load_seconds, prompt_seconds, decode_seconds].iter().all(|&seconds| seconds > 0.0));
    assert!(first_token_seconds > load_seconds + prompt_seconds, "the program starts before it loads");
    let rates = [
        (generated.timings.prompt_tokens_per_second, golden.prompt_tokens.len() as f64 / prompt_seconds),
        (generated.timings.decode_tokens_per_second, (golden.tokens.len() - 1) as f64 / decode_seconds),
    ];
    assert!(rates.iter().all(|(rate, want)| (rate / want - 1.0).abs() < 1e-6), "{rates:?}");

    let (stdout, stderr) = run(&mut gptj(&[&["generate"], &arguments[..]].concat()));
    assert_eq!(stdout, format!("{prompt}{text}\n"));
    let summary = stderr.lines().last().expect("a summary");
    assert!(summary.starts_with("[48 tokens, as many as asked for; prompt 25 tokens at "), "{summary}");
    assert!(summary.contains(" tok/s, decode ") && summary.contains("/s of weights; first token after "), "{summary}");
    assert!(summary.ends_with(&format!("; {}]", gpu.info())), "{summary}");
}

#[test]
fn a_software_adapter_is_never_used_silently() {
    let Some(gpu) = common::gpu() else { return };
    let (_, stderr) = run(&mut gptj(&["generate", "-n", "1", "--model", NARROW, "--prompt-tokens", "1"]));
    assert_eq!(stderr.contains("is a software adapter: it computes on the CPU"), gpu.info().is_software(), "{stderr}");
}

#[test]
fn a_prompt_may_come_in_several_ways() {
    if common::gpu().is_none() {
        return;
    }
    let text = "- To be, or not to be:";
    let directory = TempDir::new().expect("a temporary directory");
    let [file, windows_file] = [("file", "\n"), ("windows_file", "\r\n")].map(|(name, line_break)| {
        let path = directory.path().join(name);
        std::fs::write(&path, text.to_owned() + line_break).expect("room for a small file");
        path.to_str().expect("temporary directories have plain names").to_owned()
    });
    let (ids, _) = run(&mut gptj(&["tokenize", "--", text]));

    let first = generate(&["--greedy", "-n", "4", "--prompt", text]);
    assert_eq!(join(&first.prompt_tokens), ids.trim_end());
    for (arguments, input) in [
        (&["--prompt-file", &file][..], ""),
        (&["--prompt-file", &windows_file], ""),
        (&["--prompt-tokens", ids.trim_end()], ""),
        (&[], text),
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
    if common::gpu().is_none() {
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
    if common::gpu().is_none() {
        return;
    }
    let golden = Golden::read("narrow_mlp");
    let ids = join(&golden.prompt_tokens);
    let arguments = ["--model", NARROW, "--greedy", "-n", "5", "--prompt-tokens", &ids];
    let generated = generate(&arguments);
    assert_eq!(generated.tokens, golden.tokens[..5]);
    assert_eq!(generated.text, None);

    let (stdout, _) = run(&mut gptj(&[&["generate"], &arguments[..]].concat()));
    assert_eq!(stdout, join(&golden.tokens[..5]) + "\n");
}

#[test]
fn a_seed_decides_the_text() {
    if common::gpu().is_none() {
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
    if common::gpu().is_none() {
        return;
    }
    let golden = Golden::read("narrow_mlp");
    let prompt = join(&golden.prompt_tokens);
    let with = |options: &[&str]| {
        generate(&[&["--model", NARROW, "-n", "12", "--prompt-tokens", &prompt], options].concat()).tokens
    };
    let greedy = &golden.tokens[..12];
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
    if common::gpu().is_none() {
        return;
    }
    let (golden, prompt) = Golden::built_in();
    let text = decode(&golden.tokens);
    // It begins inside of " man", and ends inside of " my".
    let stop = "n, m";
    let end = text.find(stop).expect("transformers wrote it");
    let arguments = ["--greedy", "--prompt", &prompt, "--stop", "--not in the text", "--stop", stop];

    let generated = generate(&arguments);
    assert_eq!(generated.text.as_deref(), Some(&text[..end]));
    assert_eq!(generated.finish_reason, "stop");
    let count = generated.tokens.len();
    assert_eq!(generated.tokens, golden.tokens[..count], "tokens are what was generated, the stop string included");
    assert!(decode(&golden.tokens[..count]).contains(stop) && !decode(&golden.tokens[..count - 1]).contains(stop));
    assert!(golden.tokens.iter().all(|&token| !decode(&[token]).contains(stop)), "no token is all of it");

    let (stdout, stderr) = run(&mut gptj(&[&["generate"], &arguments[..]].concat()));
    assert_eq!(stdout, format!("{prompt}{}\n", &text[..end]));
    assert!(stderr.contains(&format!("[{count} tokens, ended by the text; ")), "{stderr}");
}

#[test]
fn the_end_of_text_token_ends_the_text() {
    if common::gpu().is_none() {
        return;
    }
    let golden = Golden::read("narrow_mlp");
    let model = TempDir::new().expect("a temporary directory");
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(Path::new(NARROW).join(file), model.path().join(file)).expect("room for a small file");
    }
    let end_of_text = json!({"eos_token_id": [golden.tokens[6], 0]}).to_string();
    std::fs::write(model.path().join("generation_config.json"), end_of_text).expect("room for a small file");

    let model = model.path().to_str().expect("temporary directories have plain names");
    let generated = generate(&["--model", model, "--greedy", "--prompt-tokens", &join(&golden.prompt_tokens)]);
    let length = 1 + golden.tokens.iter().position(|&token| token == golden.tokens[6]).expect("it is one of them");
    assert_eq!(generated.tokens, golden.tokens[..length]);
    assert_eq!(generated.finish_reason, "stop");
}

#[test]
fn a_full_context_ends_the_text() {
    if common::gpu().is_none() {
        return;
    }
    let golden = Golden::read("narrow_mlp");
    let arguments = ["--model", NARROW, "--greedy", "--prompt-tokens", &join(&golden.prompt_tokens)];
    let generated = generate(&arguments);
    // The golden stops a token early: the last token chosen has no position of its own to be fed from.
    assert_eq!(generated.tokens.len(), 24);
    assert_eq!(generated.tokens[..23], golden.tokens);
    assert_eq!(generated.finish_reason, "context");

    let (stdout, stderr) = run(&mut gptj(&[&["generate"], &arguments[..]].concat()));
    assert_eq!(stdout, join(&generated.tokens) + "\n");
    assert!(stderr.contains("[24 tokens, ended by the full context of 24 positions; "), "{stderr}");
}

#[test]
fn a_gpu_is_chosen_by_index_or_by_a_part_of_its_name() {
    let Some(gpu) = common::gpu() else { return };
    let AdapterInfo { index, name, .. } = gpu.info();
    let part = name.split(' ').next().expect("a name").to_uppercase();
    for wanted in [index.to_string(), part.clone()] {
        let info: Value = run_json(&mut gptj(&["info", "--json", "--gpu", &wanted]));
        assert_eq!(info["adapter"]["index"], *index, "{wanted}");
    }
    let info: Value = run_json(gptj(&["info", "--json"]).env("WGPU_ADAPTER_NAME", part));
    assert_eq!(info["adapter"]["index"], *index);
}

// ---- tokenize ----

#[test]
fn tokenize_goes_both_ways() {
    let text = "To be, or not to be?";
    let ids = "410,305,12,526,324,290,305,31";
    for (arguments, input, want) in [
        (&["tokenize", text][..], "", ids),
        (&["tokenize"], text, ids),
        (&["tokenize"], "To be, or not to be?\n", ids),
        (&["tokenize", "--decode", ids], "", text),
        (&["tokenize", "--decode", "[410, 305,\n12, 526, 324, 290, 305, 31]"], "", text),
        (&["tokenize", "--decode", "410 305 12 526 324 290 305 31"], "", text),
    ] {
        let (stdout, stderr) = run(gptj(arguments).write_stdin(input));
        assert_eq!(stdout, format!("{want}\n"), "{arguments:?}");
        assert_eq!(stderr, "", "{arguments:?}");
    }

    let want = json!({
        "ids": [410, 305, 12, 526, 324, 290, 305, 31],
        "tokens": ["To", "Ġbe", ",", "Ġor", "Ġnot", "Ġto", "Ġbe", "?"],
        "text": text,
    });
    for arguments in [&["tokenize", "--json", text][..], &["tokenize", "--json", "--decode", ids]] {
        assert_eq!(run_json::<Value>(&mut gptj(arguments)), want, "{arguments:?}");
    }
}

// ---- the program itself ----

#[test]
fn every_command_has_help_and_every_shell_completions() {
    for (command, words) in [
        (&[][..], "generate tokenize devices info verify convert bench completions --gpu --version"),
        (
            &["generate"],
            "--model --prompt --prompt-file --prompt-tokens --max-new-tokens --temperature --top-k --top-p",
        ),
        (&["generate"], "--repetition-penalty --seed --greedy --stop --lora --context --json --gpu"),
        (&["tokenize"], "--model --decode --json"),
        (&["devices"], "--json"),
        (&["info"], "--model --lora --context --json --gpu"),
        (&["verify"], "DIR|FILE --json"),
        (&["convert"], "IN OUT --lora --format f16 as-is --max-shard-size"),
        (&["completions"], "bash zsh fish powershell"),
    ] {
        let (stdout, stderr) = run(&mut gptj_without_gpu(&[command, &["--help"]].concat()));
        assert_eq!(stderr, "", "{command:?}");
        for word in words.split(' ') {
            assert!(stdout.contains(word), "{word} is missing in {stdout}");
        }
    }
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let (stdout, stderr) = run(&mut gptj(&["completions", shell]));
        assert_eq!(stderr, "", "{shell}");
        assert!(stdout.contains("repetition-penalty"), "{shell}");
    }
    let (stdout, _) = run(&mut gptj(&["--version"]));
    assert_eq!(stdout, format!("gptj {}\n", env!("CARGO_PKG_VERSION")));
}

/// As with `gptj … | head -c 1`, only that here the reader is gone before the first byte, whatever the timing.
#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut commands = vec![
        &["tokenize", "text"][..],
        &["devices", "--json"],
        &["info"],
        &["verify"],
        &["completions", "zsh"],
        &["generate", "--help"],
    ];
    if common::gpu().is_some() {
        commands.push(&["generate", "--greedy", "-n", "2", "--model", NARROW, "--prompt-tokens", "1"]);
    }
    for arguments in commands {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = std::process::Command::cargo_bin("gptj").expect("the program is built");
        let output = command.args(arguments).stdout(writer).output().expect("the program starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("error"), "{arguments:?}: {stderr}");
    }
}
