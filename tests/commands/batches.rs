//! `gptj generate` for many texts at once.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::common::gpu::gpu;
use crate::common::model_dir::text;
use crate::common::program::{finish, gptj, ids, run, run_json};

/// A line of what `generate --prompts` prints.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    index: usize,
    sequence: usize,
    prompt_tokens: Vec<u32>,
    tokens: Vec<u32>,
    text: Option<String>,
    finish_reason: String,
    seed: Option<u64>,
    scores: Option<Vec<f64>>,
}

fn lines(text: &str) -> Vec<Line> {
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
    text.lines().map(line).collect()
}

/// Each of many prompts, in a batch and by itself, from the same seed.
#[test]
fn prompts_in_a_file_are_continued_in_order() {
    let Some(_gpu) = gpu() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("prompts.txt");
    let path_argument = text(&path);
    std::fs::write(&path, "To be\n\nOr not to be, that is\r\nO Romeo\n").expect("a file");
    let arguments = ["generate", "--prompts", path_argument, "--seed", "7", "-n", "9", "--num-return-sequences", "2"];
    let (out, err) = run(&mut gptj(&arguments));
    let lines = lines(&out);
    let order: Vec<_> = lines.iter().map(|line| (line.index, line.sequence)).collect();
    assert_eq!(order, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]);
    assert!(err.contains("[6 texts, 54 tokens in"), "{err}");
    for (place, line) in lines.iter().enumerate() {
        assert_eq!((line.seed, line.scores.is_some()), (Some(7 + place as u64), false), "seeds count up");
        let seed = line.seed.expect("it was drawn").to_string();
        let prompt = ids(&line.prompt_tokens);
        let alone: Value =
            run_json(&mut gptj(&["generate", "--tokens", &prompt, "--seed", &seed, "-n", "9", "--json"]));
        assert_eq!((json!(line.tokens), json!(line.text)), (alone["tokens"].clone(), alone["text"].clone()));
    }

    // With fewer slots than texts, the same comes out.
    let few = run(&mut gptj(&[&arguments[..], &["--batch", "2"]].concat())).0;
    assert_eq!(few, out);
}

#[test]
fn json_lines_have_options_of_their_own() {
    let Some(_gpu) = gpu() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("prompts.jsonl");
    let path_argument = text(&path);
    let requests = r#"{"prompt": "To be", "greedy": true, "max_new_tokens": 3}
        {"tokens": [410, 305], "seed": 5, "num_return_sequences": 2, "stop": "e", "max_length": 12}
        {"prompt": "To be", "temperature": 0.5, "bad_words_ids": [[1]], "logit_bias": {"2": 1.5}, "stop": ["a", "b"]}"#;
    std::fs::write(&path, requests).expect("a file");
    let arguments = ["generate", "--prompts", path_argument, "-n", "6", "--seed", "1", "--scores"];
    // JSON has no minus infinity, and the lines' options are changes of these.
    let arguments = [&arguments[..], &["--logit-bias", "9=-inf"]].concat();
    let lines = lines(&run(&mut gptj(&arguments)).0);
    assert_eq!(lines.iter().map(|line| line.index).collect::<Vec<_>>(), [0, 1, 1, 2]);
    assert_eq!(lines.iter().map(|line| line.seed).collect::<Vec<_>>(), [None, Some(5), Some(6), Some(4)]);
    assert_eq!((lines[0].tokens.len(), lines[0].finish_reason.as_str()), (3, "length"));
    for line in &lines {
        let scores = line.scores.as_ref().expect("they were asked for");
        assert!(scores.len() == line.tokens.len() && scores.iter().all(|&score| score <= 0.0), "{scores:?}");
    }
    // What a line asks for is what the same options ask for on the command line.
    let options = ["--seed", "4", "-n", "6", "--temperature", "0.5", "--suppress-tokens", "1", "--logit-bias", "2=1.5"];
    let alone = [&["generate", "--text", "To be", "--stop", "a", "--stop", "b", "--json"], &options[..]].concat();
    let alone: Value = run_json(&mut gptj(&alone));
    assert_eq!((json!(lines[3].tokens), json!(lines[3].text)), (alone["tokens"].clone(), alone["text"].clone()));
    for line in &lines[1..3] {
        assert!(!line.tokens.contains(&9));
        assert!(line.tokens.len() <= 10 && !line.text.as_ref().expect("a text").contains('e'));
    }
}

/// A text that cannot go on is told in its place, the others go on, and the program says so at its end.
#[test]
fn one_failing_text_costs_only_itself() {
    let Some(_gpu) = gpu() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("prompts.jsonl");
    let everything: Vec<u32> = (0..1024).collect();
    let lines = [json!({"prompt": "a"}), json!({"prompt": "b", "suppress_tokens": everything}), json!({"prompt": "c"})];
    // With the mark that Windows' editors put before a text.
    let marked = format!("\u{FEFF}{}\n{}\n{}\n", lines[0], lines[1], lines[2]);
    std::fs::write(&path, marked).expect("a file");
    let arguments = ["generate", "--prompts", text(&path), "-n", "4", "--seed", "1"];
    let (code, out, err) = finish(&mut gptj(&arguments));
    assert_eq!(code, 1, "{err}");
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 3, "{out}");
    assert!(lines[1]["error"].as_str().is_some_and(|error| error.contains("rule out every token")), "{out}");
    for line in [&lines[0], &lines[2]] {
        assert_eq!(line["tokens"].as_array().map(Vec::len), Some(4), "{out}");
    }
    assert!(err.contains("1 of 3 texts failed; line 2 of"), "{err}");
}

#[test]
fn a_prompt_is_continued_several_times() {
    let Some(_gpu) = gpu() else { return };
    let arguments = ["generate", "--text", "To be", "-n", "5", "--seed", "3", "--num-return-sequences", "3"];
    let (text, _) = run(&mut gptj(&arguments));
    let texts: Vec<_> = text.split("\n---\n").collect();
    assert!(texts.len() == 3 && texts.iter().all(|text| text.starts_with("To be")), "{text}");
    assert_ne!(texts[0], texts[1]);
    let lines = lines(&run(&mut gptj(&[&arguments[..], &["--json"]].concat())).0);
    assert_eq!(lines.iter().map(|line| line.sequence).collect::<Vec<_>>(), [0, 1, 2]);
}

/// What is said of a text that cannot go on does not stand in its line.
#[test]
fn an_error_ends_the_line_of_the_text() {
    let Some(_gpu) = gpu() else { return };
    let all: Vec<u32> = (0..1024).collect();
    let arguments = ["generate", "--text", "To be", "--suppress-tokens", &ids(&all)];
    let (code, out, err) = finish(&mut gptj(&arguments));
    assert_eq!((code, out.as_str()), (2, "To be\n"), "{err}");
    assert!(err.contains("error: sampling: the options rule out every token after the text's first 2"), "{err}");
}
