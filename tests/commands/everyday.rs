//! What people type first, and what they get when they mistype it.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::common::gpu::gpu;
use crate::common::program::{finish, gptj, gptj_without_gpu, plain_gptj, run, run_json};

const NARROW: &str = "tests/golden/narrow_mlp";
const CLASSES: &str = "tests/golden/classes";

/// A directory with some of the files of a model.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (from, name) in files {
        std::fs::copy(from, directory.path().join(name)).expect("a copy");
    }
    directory
}

fn name(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

#[test]
fn tokenize_needs_no_weights() {
    let tokenizer = ("models/shakespeare/tokenizer.json", "tokenizer.json");
    for files in [&[tokenizer][..], &[tokenizer, ("models/shakespeare/config.json", "config.json")]] {
        let model = directory(files);
        let model = name(model.path());
        assert_eq!(run(&mut gptj_without_gpu(&["tokenize", "-m", model, "To be"])).0, "410,305\n");
        assert_eq!(run(&mut gptj_without_gpu(&["tokenize", "-m", model, "--decode", "410,305"])).0, "To be\n");
        let (code, _, stderr) = finish(&mut gptj_without_gpu(&["tokenize", "-m", model, "--decode", "410,4100"]));
        assert!(code == 1 && stderr.contains("token 4100 is not in the"), "{stderr}");
    }
}

#[test]
fn info_needs_no_weights_and_says_that_there_are_none() {
    let model = directory(&[("tests/golden/narrow_mlp/config.json", "config.json")]);
    let without = |model: &str, json: &[&str]| gptj_without_gpu(&[&["info", "-m", model], json].concat());
    let (text, _) = run(&mut without(name(model.path()), &[]));
    assert!(text.contains("no weights in this directory\n") && text.contains("context 24"), "{text}");
    let mut info: Value = run_json(&mut without(name(model.path()), &["--json"]));
    let problem = info["problem"].take();
    assert!(problem.as_str().is_some_and(|problem| problem.contains("no model.safetensors")), "{problem}");
    let whole: Value = run_json(&mut without(NARROW, &["--json"]));
    assert_eq!(info, whole, "all else is as with weights");
}

#[test]
fn a_dash_is_standard_input() {
    let (ids, _) = run(gptj(&["tokenize", "--file", "-"]).write_stdin("To be\n"));
    assert_eq!(ids, "410,305\n");
    if gpu().is_none() {
        return;
    }
    for (arguments, n_lines) in [
        (&["generate", "-n", "1", "--prompts", "-"][..], 2),
        (&["score", "--texts", "-"], 2),
        (&["perplexity", "-"], 1),
        (&["embed", "-f", "-"], 1),
    ] {
        let (out, _) = run(gptj(arguments).write_stdin("To be\nOr not\n"));
        assert_eq!(out.lines().count(), n_lines, "{arguments:?}: {out}");
    }
}

/// As in transformers, whose `generate()` begins with `bos_token_id` where it is given nothing.
#[test]
fn an_empty_prompt_starts_from_bos_token_id() {
    let without_bos = directory(&[("tests/golden/narrow_mlp/model.safetensors", "model.safetensors")]);
    let config = std::fs::read_to_string("tests/golden/narrow_mlp/config.json").expect("the goldens are there");
    let mut config: Value = serde_json::from_str(&config).expect("JSON");
    let bos = config["bos_token_id"].take();
    std::fs::write(without_bos.path().join("config.json"), config.to_string()).expect("a file");
    let tokenizer = directory(&[]);
    std::fs::write(tokenizer.path().join("vocab.json"), "{\"a\": 0}").expect("a file");
    std::fs::write(tokenizer.path().join("merges.txt"), "").expect("a file");
    let arguments = ["generate", "--prompt", "", "--tokenizer", name(tokenizer.path()), "--greedy", "-n", "3"];
    let (code, out, stderr) =
        finish(&mut gptj_without_gpu(&[&arguments[..], &["-m", name(without_bos.path())]].concat()));
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(stderr.contains("the prompt is empty, and the model has no bos_token_id"), "{stderr}");

    if gpu().is_none() {
        return;
    }
    let json: Value = run_json(&mut gptj(&[&arguments[..], &["-m", NARROW, "--json"]].concat()));
    assert_eq!(json["prompt_tokens"], json!([bos]));
    let from_bos = ["generate", "-m", NARROW, "--tokens", &bos.to_string(), "--greedy", "-n", "3", "--json"];
    assert_eq!(json["tokens"], run_json::<Value>(&mut gptj(&from_bos))["tokens"]);
    // The token is no part of the text.
    let (text, _) = run(&mut gptj(&["generate", "-p", "", "-s", "1", "-n", "4"]));
    let json: Value = run_json(&mut gptj(&["generate", "-p", "", "-s", "1", "-n", "4", "--json"]));
    assert_eq!(json!(text.strip_suffix('\n')), json["text"]);
    let (lines, _) = run(gptj(&["generate", "--prompts", "-", "-s", "1", "-n", "4"]).write_stdin("{\"prompt\": \"\"}"));
    assert_eq!(serde_json::from_str::<Value>(&lines).expect("JSON")["tokens"], json["tokens"]);
}

#[test]
fn a_temperature_of_zero_is_greedy() {
    let Some(_gpu) = gpu() else { return };
    let greedy: Value = run_json(&mut gptj(&["generate", "-p", "To be", "-n", "6", "--greedy", "--json"]));
    let zero = ["generate", "-p", "To be", "-n", "6", "--temperature", "0", "--json"];
    let zero: Value = run_json(&mut gptj(&zero));
    assert_eq!((&zero["tokens"], &zero["seed"]), (&greedy["tokens"], &Value::Null));
    let lines = "{\"prompt\": \"To be\", \"temperature\": 0}\n{\"prompt\": \"To be\", \"temperature\": 0.9}\n";
    let with = |options: &[&str]| {
        let (out, _) = run(gptj(&[&["generate", "--prompts", "-", "-n", "6"], options].concat()).write_stdin(lines));
        out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect::<Vec<_>>()
    };
    for options in [&[][..], &["--temperature", "0"]] {
        let lines = with(options);
        assert_eq!((&lines[0]["tokens"], &lines[0]["seed"]), (&greedy["tokens"], &Value::Null));
        assert!(lines[1]["seed"].is_u64(), "the line's own temperature counts");
    }
    let (_, err) = run(gptj(&["repl", "-n", "3"]).write_stdin("/set temperature 0\nTo be\n/set temperature -1\n"));
    assert!(err.contains("temperature: -1 is not a positive number") && !err.contains("temperature: 0"), "{err}");
}

#[test]
fn options_have_the_short_names_of_llama_cpp() {
    let Some(_gpu) = gpu() else { return };
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, "To be").expect("a file");
    let long = ["--context", "8", "--seed", "3", "--max-new-tokens", "99"];
    let long = [&["generate", "--json", "--model", "models/shakespeare", "--prompt", "To be"], &long[..]].concat();
    let long: Value = run_json(&mut gptj(&long));
    for input in [["-p", "To be"], ["-f", name(file.path())]] {
        let short = ["generate", "--json", "-m", "models/shakespeare", "-c", "8", "-s", "3", "-n", "99"];
        let short: Value = run_json(&mut gptj(&[&short[..], &input].concat()));
        for key in ["prompt_tokens", "tokens", "seed", "finish_reason"] {
            assert_eq!(short[key], long[key], "{key}");
        }
    }
    assert_eq!((&long["seed"], &long["finish_reason"]), (&json!(3), &json!("context")));
}

#[test]
fn quiet_leaves_the_text_alone() {
    let Some(_gpu) = gpu() else { return };
    for (arguments, input) in [
        (&["generate", "-p", "To be", "-n", "2", "-q"][..], ""),
        (&["-q", "generate", "--prompts", "-", "-n", "2"], "To be"),
        (&["perplexity", "--quiet", "-p", "To be or not"], ""),
    ] {
        let (out, err) = run(gptj(arguments).write_stdin(input));
        assert_eq!(err, "", "{arguments:?}");
        assert_eq!(out.lines().count(), 1, "{arguments:?}: {out}");
    }
    let (code, _, err) = finish(&mut gptj(&["-q", "score", "--tokens", "5000"]));
    assert!(code == 1 && err.starts_with("error: "), "errors are never left out: {err}");
}

/// Drivers add a lot to an adapter's name, in brackets.
#[test]
fn adapters_have_short_names_in_text_and_whole_ones_in_json() {
    let Some(gpu) = gpu() else { return };
    let name = gpu.info().name.split(" (").next().expect("a name");
    let (_, err) = run(&mut gptj(&["generate", "-p", "To be", "-n", "2"]));
    let lines: Vec<_> = err.lines().collect();
    assert!(lines.last().is_some_and(|summary| summary.ends_with(&format!("; {name}]"))), "{err}");
    if gpu.info().is_software() {
        assert_eq!(lines[0], format!("note: {name} is a software adapter: it computes on the CPU, slowly"));
        assert!(lines[0].len() < 100, "{err}");
    }
    let json: Value = run_json(&mut gptj(&["generate", "-p", "To be", "-n", "2", "--json"]));
    assert_eq!(json["adapter"], gpu.info().to_string());
}

#[test]
fn a_mistyped_option_gets_a_suggestion() {
    let (code, _, err) = finish(&mut gptj(&["generate", "--temprature", "1"]));
    assert!(code == 2 && err.contains("a similar argument exists: '--temperature'"), "{err}");
    let lines = "{\"prompt\": \"a\", \"temprature\": 1}\n{\"prompt\": \"a\", \"xyzzy\": 1}\n";
    let (code, out, _) = finish(gptj_without_gpu(&["generate", "--prompts", "-"]).write_stdin(lines));
    assert_eq!(code, 1);
    let lines: Vec<_> = out.lines().collect();
    assert!(lines[0].contains("there is no option temprature; did you mean temperature?"), "{out}");
    assert!(lines[1].contains("there is no option xyzzy; there are max_new_tokens, "), "{out}");
}

#[test]
fn a_model_of_another_class_names_its_command() {
    for (model, arguments, words) in [
        ("single_label", &["generate", "--tokens", "1"][..], "is a GPTJForSequenceClassification and not a"),
        ("single_label", &["generate", "--tokens", "1"], "use `gptj classify`"),
        ("question_answering_wide", &["score", "--tokens", "1"], "GPTJForCausalLM: use `gptj answer`"),
        ("base", &["classify", "--tokens", "1"], "GPTJForSequenceClassification: use `gptj embed` or"),
        ("single_label", &["answer", "--question-tokens", "1", "--tokens", "1"], "use `gptj classify`"),
    ] {
        let model = format!("{CLASSES}/{model}");
        let (code, _, err) = finish(&mut gptj_without_gpu(&[arguments, &["--model", &model]].concat()));
        assert!(code == 1 && err.contains(words) && !err.contains("tensors are missing"), "{arguments:?}: {err}");
    }
    // A model that is damaged is not one of another class.
    let damaged = directory(&[("tests/golden/classes/single_label/config.json", "config.json")]);
    std::fs::write(damaged.path().join("model.safetensors"), [2, 0, 0, 0, 0, 0, 0, 0, b'{', b'}']).expect("a file");
    let (_, _, err) = finish(&mut gptj_without_gpu(&["generate", "-m", name(damaged.path()), "--tokens", "1"]));
    assert!(err.contains("tensors are missing") && !err.contains("use `gptj"), "{err}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_standard_output_is_an_error_that_names_it() {
    let mut commands = vec![
        &["tokenize", "text"][..],
        &["info"],
        &["info", "--json"],
        &["verify"],
        &["completions", "zsh"],
        &["generate", "--help"],
        &["--version"],
    ];
    if gpu().is_some() {
        commands.extend([&["generate", "-p", "a", "-n", "2"][..], &["score", "-p", "a b"], &["devices"]]);
    }
    for arguments in commands {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("every Linux has it");
        let output = plain_gptj(arguments).stdout(full).stdin(Stdio::null()).output().expect("the program starts");
        let err = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {err}");
        assert_eq!(err.matches("cannot write standard output: No space left on device").count(), 1, "{err}");
    }
}

#[test]
fn json_is_indented_with_lists_of_numbers_on_a_line() {
    let info = run(&mut gptj_without_gpu(&["info", "--json"])).0;
    assert!(info.contains("\n    \"eos_token_ids\": [0],\n"), "{info}");
    let memory: Value = serde_json::from_str(&info).expect("JSON");
    let part = |name: &str| memory["memory"][name].as_u64().expect("a number");
    assert_eq!(["weights", "cache", "activations", "driver"].map(part).iter().sum::<u64>(), part("total"));
    let Some(_gpu) = gpu() else { return };
    let score = run(&mut gptj(&["score", "--json", "--tokens", "1,2,3", "--top", "2"])).0;
    assert!(score.contains("\n  \"tokens\": [1, 2, 3],\n") && score.contains("\n  \"logprobs\": [null, -"), "{score}");
}

/// JavaScript and others have no integers but those up to 2^53.
#[test]
fn a_seed_that_others_would_round_is_a_text() {
    let Some(_gpu) = gpu() else { return };
    let json: Value = run_json(&mut gptj(&["generate", "-p", "a", "-n", "4", "-s", "18446744073709551615", "--json"]));
    assert_eq!(json["seed"], "18446744073709551615");
    let line = json!({"prompt": "a", "seed": json["seed"]}).to_string();
    let (out, _) = run(gptj(&["generate", "--prompts", "-", "-n", "4"]).write_stdin(line));
    let line: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&line["seed"], &line["tokens"]), (&json["seed"], &json["tokens"]), "and can be given as one");
}

/// It was trained on texts of 256 tokens, and rambles beyond.
#[test]
fn the_built_in_model_writes_no_longer_texts_than_it_was_trained_on() {
    let context = |arguments: &[&str]| {
        let info: Value = run_json(&mut gptj_without_gpu(&[&["info", "--json"], arguments].concat()));
        info["context"].as_u64()
    };
    assert_eq!(context(&[]), Some(256));
    assert_eq!(context(&["-c", "512"]), Some(512), "more can be asked for");
    assert_eq!(context(&["-m", "models/shakespeare"]), Some(512), "its configuration is that of the goldens");
    let Some(_gpu) = gpu() else { return };
    let tokens = ["5"; 250].join(",");
    let json: Value = run_json(&mut gptj(&["generate", "--tokens", &tokens, "-n", "99", "--greedy", "--json"]));
    assert_eq!((json["tokens"].as_array().map(Vec::len), &json["finish_reason"]), (Some(7), &json!("context")));
}

#[test]
fn help_groups_options_and_shows_examples() {
    for command in ["generate", "score", "convert"] {
        let (help, _) = run(&mut gptj(&[command, "--help"]));
        assert!(help.contains(&format!("Examples:\n  gptj {command} ")), "{help}");
    }
    let (help, _) = run(&mut gptj(&["generate", "-h"]));
    let headings = ["\nModel:\n", "\nInput:\n", "\nSampling:\n", "\nOutput:\n"].map(|heading| help.find(heading));
    assert!(headings.iter().all(Option::is_some) && headings.is_sorted(), "{help}");
}
