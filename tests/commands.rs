//! The commands that look at texts instead of writing one, and those that write many: what they print for programs, and
//! that their numbers are transformers' (`tests/golden/README.md`).

#![cfg(feature = "cli")]

mod common;
#[path = "common/output.rs"]
mod output;
#[path = "common/program.rs"]
mod program;

use std::collections::BTreeMap;
use std::path::Path;

use common::{assert_close, gpu};
use output::{run, run_json};
use program::{gptj, gptj_without_gpu};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::{Value, json};

const CLASSES: &str = "tests/golden/classes";

/// Token ids as an argument.
fn ids(tokens: &[u32]) -> String {
    tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scored {
    tokens: Vec<u32>,
    logprobs: Vec<Option<f64>>,
    top: Vec<BTreeMap<u32, f64>>,
    sum: f64,
    perplexity: Option<f64>,
}

#[test]
fn score_prints_what_transformers_gives() {
    let Some(_gpu) = gpu() else { return };
    let bytes = std::fs::read(Path::new(CLASSES).join("shakespeare.safetensors")).expect("the goldens are there");
    let file = SafeTensors::deserialize(&bytes).expect("the generator writes sound files");
    let tokens: Vec<u32> = bytemuck::pod_collect_to_vec(file.tensor("tokens").expect("it is there").data());
    let want: Vec<f32> = bytemuck::pod_collect_to_vec(file.tensor("logprobs").expect("it is there").data());
    let scored: Scored = run_json(&mut gptj(&["score", "--json", "--top", "4", "--tokens", &ids(&tokens)]));
    assert_eq!((scored.tokens.as_slice(), scored.logprobs[0]), (tokens.as_slice(), None));
    let got: Vec<f32> = scored.logprobs[1..].iter().map(|logprob| logprob.expect("a number") as f32).collect();
    // As in `tests/classes.rs`: 1/512 of the largest logit, some 15.
    assert_close("logprobs", &got, &want, 0.03, 0.0);
    assert!((scored.sum - got.iter().map(|&logprob| f64::from(logprob)).sum::<f64>()).abs() < 1e-4);
    let perplexity = scored.perplexity.expect("of some tokens");
    assert!((perplexity.ln() + scored.sum / got.len() as f64).abs() < 1e-9);
    assert!(scored.top[0].is_empty() && scored.top[1..].iter().all(|top| top.len() == 4));
    for ((token, logprob), top) in tokens.iter().zip(&scored.logprobs).zip(&scored.top).skip(1) {
        if let Some(same) = top.get(token) {
            assert_eq!(Some(*same), *logprob, "the same number in both places");
        }
    }

    let (table, _) = run(&mut gptj(&["score", "--text", "To be", "--top", "1"]));
    assert!(table.contains("\" be\"    likeliest: ") && table.contains("together, perplexity "), "{table}");
    let alone: Scored = run_json(gptj(&["score", "--json"]).write_stdin("!"));
    assert_eq!((alone.logprobs, alone.perplexity), (vec![None], None));
}

#[test]
fn perplexity_reads_files_in_windows() {
    let Some(_gpu) = gpu() else { return };
    let plays = std::fs::read_to_string("tests/golden/shakespeare/held_out.txt").expect("the goldens are there");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, &plays[..12_000]).expect("a file");
    let path = file.path().to_str().expect("a name");
    let measured: Value = run_json(&mut gptj(&["perplexity", path, "--context", "256", "--stride", "256", "--json"]));
    let cases = std::fs::read_to_string("tests/golden/shakespeare/perplexity.json").expect("the goldens are there");
    let cases: Vec<Value> = serde_json::from_str(&cases).expect("the generator writes sound files");
    let want = cases.iter().find(|case| case["bytes"] == 12_000 && case["stride"] == 256).expect("such a case");
    assert_eq!([&measured["scored"], &measured["tokens"]], [&want["scored"], &want["n_tokens"]]);
    let [got, want] = [&measured, want].map(|case| case["perplexity"].as_f64().expect("a number"));
    assert!((got / want - 1.0).abs() < 0.001, "{got}, not {want}");
    let (line, _) = run(&mut gptj(&["perplexity", "--tokens", "1,2,3,4,5"]));
    assert!(line.starts_with("perplexity ") && line.contains(" over 4 of 5 tokens"), "{line}");
}

#[test]
fn classify_prints_labels() {
    let Some(_gpu) = gpu() else { return };
    for name in ["single_label", "multi_label", "regression"] {
        let model = format!("{CLASSES}/{name}");
        let expected = std::fs::read_to_string(Path::new(&model).join("expected.json")).expect("the goldens are there");
        let expected: Value = serde_json::from_str(&expected).expect("the generator writes sound files");
        let case = &expected["cases"][2];
        let tokens: Vec<u32> = serde_json::from_value(case["tokens"].clone()).expect("tokens");
        let found: Value = run_json(&mut gptj(&["classify", "--json", "--model", &model, "--tokens", &ids(&tokens)]));
        assert_eq!(found.as_object().expect("an object").keys().collect::<Vec<_>>(), ["label", "logits", "scores"]);
        let labels: Vec<String> = serde_json::from_value(case["labels"].clone()).expect("labels");
        let scores: Vec<f32> =
            labels.iter().map(|label| found["scores"][label].as_f64().expect("a number") as f32).collect();
        let want: Vec<f32> = serde_json::from_value(case["probabilities"].clone()).expect("numbers");
        assert_close(name, &scores, &want, 0.02, 0.0);
        let best = (0..want.len()).max_by(|&a, &b| want[a].total_cmp(&want[b])).expect("a label");
        assert_eq!(found["label"], labels[best]);
        let (table, _) = run(&mut gptj(&["classify", "--model", &model, "--tokens", &ids(&tokens)]));
        assert!(table.lines().next().is_some_and(|line| line.ends_with(&labels[best])), "{table}");
    }
}

#[test]
fn answer_finds_a_span() {
    let Some(_gpu) = gpu() else { return };
    let model = format!("{CLASSES}/question_answering_wide");
    let expected = std::fs::read_to_string(Path::new(&model).join("expected.json")).expect("the goldens are there");
    let expected: Value = serde_json::from_str(&expected).expect("the generator writes sound files");
    let cases = expected["cases"].as_array().expect("cases");
    let case = cases.iter().find(|case| case["question_text"].is_string()).expect("one with a text");
    let [question, context] = ["question_text", "context_text"].map(|key| case[key].as_str().expect("a text"));
    let arguments = ["answer", "--model", &model, "--tokenizer", "models/shakespeare", "--question", question];
    let found: Value = run_json(&mut gptj(&[&arguments[..], &["--context", context, "--json"]].concat()));
    let n_question = case["question"].as_array().expect("tokens").len() as u64;
    let best = [&found["start"], &found["end"]].map(|token| token.as_u64().expect("a number") + n_question);
    assert_eq!(json!(best), case["best"]);
    let answer = found["answer"].as_str().expect("a text");
    assert!(context.contains(answer) && !answer.is_empty(), "{answer}");
    // The context may come as any other text.
    let (line, _) = run(gptj(&arguments).write_stdin(context));
    assert_eq!(line.trim_end_matches('\n'), answer);
    let [question, context] =
        ["question", "context"].map(|key| ids(&serde_json::from_value::<Vec<u32>>(case[key].clone()).expect("tokens")));
    let ids = ["answer", "--model", &model, "--question-tokens", &question, "--tokens", &context, "--json"];
    assert_eq!(run_json::<Value>(&mut gptj(&ids))["start"], found["start"]);
}

#[test]
fn embed_and_hidden_states_agree() {
    let Some(_gpu) = gpu() else { return };
    let model = format!("{CLASSES}/base");
    let bytes = std::fs::read(Path::new(&model).join("expected.safetensors")).expect("the goldens are there");
    let want = SafeTensors::deserialize(&bytes).expect("the generator writes sound files");
    let floats = |file: &SafeTensors<'_>, name: &str| -> Vec<f32> {
        bytemuck::pod_collect_to_vec(file.tensor(name).unwrap_or_else(|_| panic!("{name}")).data())
    };
    let tokens: Vec<u32> = bytemuck::pod_collect_to_vec(want.tensor("tokens").expect("it is there").data());
    let tokens = ids(&tokens);
    for pooling in ["last", "mean", "weighted"] {
        let arguments = ["embed", "--model", &model, "--pooling", pooling, "--tokens", &tokens];
        let found: Value = run_json(&mut gptj(&[&arguments[..], &["--json"]].concat()));
        let got: Vec<f32> = serde_json::from_value(found["embedding"].clone()).expect("numbers");
        assert_close(pooling, &got, &floats(&want, &format!("pool.{pooling}")), 0.02, 0.0);
        let (line, _) = run(&mut gptj(&arguments));
        assert_eq!(line.split_whitespace().count(), got.len());
    }
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("states.safetensors");
    let out_argument = out.to_str().expect("a name");
    let arguments = ["hidden-states", "--model", &model, "--tokens", &tokens, "--attentions", "--out", out_argument];
    let found: Value = run_json(&mut gptj(&[&arguments[..], &["--json"]].concat()));
    let bytes = std::fs::read(&out).expect("it was written");
    let got = SafeTensors::deserialize(&bytes).expect("a sound file");
    for name in want.names().into_iter().filter(|name| name.contains("s.")) {
        assert_eq!(found["tensors"][name], json!(want.tensor(name).expect("it is there").shape()), "{name}");
        assert_close(name, &floats(&got, name), &floats(&want, name), 0.02, 0.0);
    }
    assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 1, "nothing else is left");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| std::fs::metadata(path).expect("a file").permissions().mode() & 0o777;
        let plain = directory.path().join("plain");
        std::fs::write(&plain, "").expect("a file");
        assert_eq!(mode(&out), mode(&plain), "a new file is for whom files are here");
        std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o640)).expect("the file is ours");
        run(&mut gptj(&["hidden-states", "--tokens", "1", "--out", plain.to_str().expect("a name")]));
        assert_eq!(mode(&plain), 0o640, "an old one stays for whom it was");
        // What is no regular file stays what it is.
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&out, &link).expect("a link");
        std::fs::write(&out, "old").expect("a file");
        run(&mut gptj(&["hidden-states", "--tokens", "1", "--out", link.to_str().expect("a name")]));
        assert!(link.is_symlink() && std::fs::read(&out).expect("the file").len() > 1000);
    }
    // Any class has hidden states.
    let (line, _) = run(&mut gptj(&["hidden-states", "--text", "To be", "--out", out_argument]));
    assert!(line.contains("5 tensors of 2 tokens"), "{line}");
}

/// Each of many texts gets what it gets alone, whatever comes before it, in a line of its own.
#[test]
fn many_texts_are_looked_at_in_order() {
    let Some(_gpu) = gpu() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let [plain, json] = ["texts.txt", "texts.jsonl"].map(|name| directory.path().join(name));
    std::fs::write(&plain, "To be\n\nO Romeo, Romeo\r\nI\n").expect("a file");
    std::fs::write(&json, "{\"tokens\": [3, 1, 2]}\n{\"tokens\": [5]}\n").expect("a file");
    let [plain, json] = [plain, json].map(|path| path.to_str().expect("a name").to_owned());
    let label = format!("{CLASSES}/single_label");
    for (command, file) in [
        (&["score", "--top", "2"][..], &plain),
        (&["embed"], &plain),
        (&["embed", "--model", &label], &json),
        (&["classify", "--model", &label], &json),
    ] {
        let each: &[[&str; 2]] = if file == &plain {
            &[["--text", "To be"], ["--text", "O Romeo, Romeo"], ["--text", "I"]]
        } else {
            &[["--tokens", "3,1,2"], ["--tokens", "5"]]
        };
        let (lines, _) = run(&mut gptj(&[command, &["--texts", file]].concat()));
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), each.len(), "{command:?}");
        for (index, (line, input)) in lines.into_iter().zip(each).enumerate() {
            let mut alone: Value = run_json(&mut gptj(&[command, &["--json"], input].concat()));
            alone["index"] = index.into();
            assert_eq!(line, alone, "{command:?}");
        }
    }
}

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
    let path_argument = path.to_str().expect("a name");
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
    let path_argument = path.to_str().expect("a name");
    let text = r#"{"prompt": "To be", "greedy": true, "max_new_tokens": 3}
        {"tokens": [410, 305], "seed": 5, "num_return_sequences": 2, "stop": "e", "max_length": 12}
        {"prompt": "To be", "temperature": 0.5, "bad_words_ids": [[1]], "logit_bias": {"2": 1.5}, "stop": ["a", "b"]}"#;
    std::fs::write(&path, text).expect("a file");
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
    let text = format!("\u{FEFF}{}\n{}\n{}\n", lines[0], lines[1], lines[2]);
    std::fs::write(&path, text).expect("a file");
    let arguments = ["generate", "--prompts", path.to_str().expect("a name"), "-n", "4", "--seed", "1"];
    let output = gptj(&arguments).assert().code(1).get_output().clone();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8"));
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
    let output = gptj(&arguments).assert().code(2).get_output().clone();
    assert_eq!(String::from_utf8(output.stdout).expect("UTF-8"), "To be\n");
    let err = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(err.contains("error: sampling: the options rule out every token after the text's first 2"), "{err}");
}

#[test]
fn repl_continues_what_is_typed() {
    let Some(_gpu) = gpu() else { return };
    let input =
        "To be\n\n/set greedy true\n/set max_new_tokens 4\n/show\n/set temperature 0\n/nonsense\nO Romeo\n/quit\nx\n";
    let (out, err) = run(gptj(&["repl", "-n", "3", "--greedy"]).write_stdin(input));
    let first = out.find("To be").expect("the first text");
    // An empty line continues the text.
    assert!(out[first + 1..].contains("To be") && out.contains("O Romeo") && !out.contains('x'), "{out}");
    for words in ["\"max_new_tokens\": 4", "error: temperature: 0 is not a positive", "there is no command /nonsense"] {
        assert!(err.contains(words), "{words} is missing in {err}");
    }
}

/// What cannot be continued costs only itself, and what was shown of it stays.
#[test]
fn repl_survives_what_cannot_be_continued() {
    let Some(_gpu) = gpu() else { return };
    let all: Vec<u32> = (0..1024).collect();
    let input = format!("/set suppress_tokens {all:?}\nTo be\n/set suppress_tokens []\nTo be\n\n/show\n");
    let (out, err) = run(gptj(&["repl", "-n", "600", "--greedy", "--logit-bias", "9=-inf"]).write_stdin(input));
    let second = out.strip_prefix("To be\n").unwrap_or_else(|| panic!("the error's text has a line: {out}"));
    assert!(second.starts_with("To be") && second.len() > 100, "{out}");
    let full = "the text has filled the model's context";
    for words in ["error: sampling: the options rule out every token", full, "\"9\": \"-inf\""] {
        assert!(err.contains(words), "{words} is missing in {err}");
    }
}

/// What is wrong is said before anything is loaded, and on which line of a file.
#[test]
fn arguments_at_fault_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("a name").to_owned()
    };
    let base = format!("{CLASSES}/base");
    let label = format!("{CLASSES}/single_label");
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["score", "--tokens", "1,5000"], 1, &["token 5000 is not in the vocabulary of 1024"]),
        (&["score", "--text", ""], 1, &["the prompt is empty"]),
        (&["score", "--file", "no/such/file"], 1, &["cannot read the text from no/such/file"]),
        (&["perplexity", "no/such/file"], 1, &["cannot read no/such/file"]),
        (&["perplexity", "--tokens", "1"], 1, &["the text has 1 tokens"]),
        (&["perplexity", "--tokens", "1,2", "--context", "1000"], 2, &["context: 1000 is not between 2 and"]),
        (&["perplexity", "--tokens", "1,2", "--context", "8", "--stride", "9"], 2, &["stride: 9 is not between 1 and"]),
        (&["perplexity", "x", "--text", "y"], 2, &["cannot be used with"]),
        (&["classify", "--text", "x"], 1, &["score.weight", "GPTJForSequenceClassification"]),
        (&["answer", "--question", "x", "--context", "y"], 1, &["qa_outputs.weight", "GPTJForQuestionAnswering"]),
        (&["answer", "--context", "y"], 2, &["--question"]),
        (&["generate", "--model", &base, "--tokens", "1"], 1, &["lm_head.weight", "GPTJForCausalLM"]),
        (&["generate", "--model", &label, "--tokens", "1"], 1, &["lm_head.weight", "score.weight"]),
        (&["embed", "--texts", &file("j", "{\"tokens\": [1]}\n{\"tokens\": [5000]}")], 1, &["line 2 of", "token 5000"]),
        (&["embed", "--texts", &file("k", "{\"text\": \"a\", \"top\": 1}")], 1, &["line 1 of", "a text has no top"]),
        (&["embed", "--texts", &file("l", "{}")], 1, &["line 1 of", "a text or tokens"]),
        (&["embed", "--texts", "x", "--text", "y"], 2, &["cannot be used with"]),
        (&["embed", "--text", "x", "--pooling", "max"], 2, &["invalid value 'max'"]),
        (&["hidden-states", "--text", "x"], 2, &["--out <FILE>"]),
        (&["generate", "--prompts", &file("a", "To be\n{\n"), "--top-p", "2"], 2, &["top_p: 2"]),
        (&["generate", "--prompts", &file("b", "\n\n")], 1, &["has no texts"]),
        (&["generate", "--prompts", &file("c", "{\"prompt\": \"a\"}\n{\"tokens\": 1}")], 1, &["line 2 of", "tokens"]),
        (&["generate", "--prompts", &file("d", "{\"prompt\": \"a\"}\n{")], 1, &["line 2 of", "EOF"]),
        (&["generate", "--prompts", &file("e", "{\"text\": \"a\"}")], 1, &["line 1 of", "a prompt or tokens"]),
        (&["generate", "--prompts", &file("f", "{\"prompt\": \"a\", \"tmp\": 1}")], 2, &["there is no tmp", "stop, "]),
        (&["generate", "--prompts", &file("h", "[{\"prompt\": \"a\"}]")], 1, &["is a JSON list"]),
        (&["generate", "--text", "a", "--greedy", "--num-return-sequences", "2"], 2, &["would all be the same"]),
        (&["score", "--tokens", "1,,2"], 2, &["\"\" is no token id"]),
        (&["score", "--tokens", ""], 2, &["there are none"]),
        (&["embed", "--texts", &file("m", "[\"a\", \"b\"]")], 1, &["is a JSON list"]),
        (&["score", "--tokens", "-1"], 2, &["\"-1\" is no token id"]),
        (&["generate", "--prompts", &file("g", "{\"prompt\": \"a\", \"top_p\": 3}")], 2, &["line 1 of", "top_p: 3"]),
        (&["generate", "--prompts", "x", "--text", "y"], 2, &["cannot be used with"]),
        (&["generate", "--text", "a", "--num-return-sequences", "0"], 2, &["num_return_sequences: 0 texts"]),
        (&["generate", "--text", "a", "--num-return-sequences", "100000000"], 2, &["from 1 to 100000"]),
        (&["generate", "--text", "a", "--batch", "0"], 2, &["0 is not in 1..=1024"]),
        (&["generate", "--text", "a", "--scores"], 2, &["scores: they are told in JSON only"]),
        (&["generate", "--text", "a", "--eos-token-id", "5000"], 2, &["eos_token_id: token 5000"]),
        (&["generate", "--text", "a b c", "--max-length", "2"], 2, &["max_length: 2 leaves no room"]),
        (&["generate", "--text", "a", "--logit-bias", "x"], 2, &["must be a token id and a number"]),
        (&["generate", "--text", "a", "--exponential-decay-length-penalty", "5"], 2, &["must be a number of tokens"]),
        (&["generate", "--text", "a", "--suppress-tokens", "9999"], 2, &["suppress_tokens: token 9999"]),
        (&["repl", "--typical-p", "0"], 2, &["typical_p: 0"]),
    ];
    for (arguments, code, words) in cases {
        // Nothing of this needs a GPU.
        let output = gptj_without_gpu(arguments).write_stdin("").assert().code(*code).get_output().clone();
        let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8"));
        assert!(out.is_empty() && err.starts_with("error: "), "{arguments:?}: {out}{err}");
        for word in *words {
            assert!(err.contains(word), "{arguments:?}: {word:?} is missing in {err}");
        }
    }
}
