//! The commands that look at texts: what they print for programs, and that their numbers are transformers'
//! (`tests/golden/README.md`).

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::common::golden::{self, Golden};
use crate::common::gpu::gpu;
use crate::common::model_dir::text;
use crate::common::numbers::assert_close;
use crate::common::program::{gptj, ids, run, run_json};

const CLASSES: &str = "tests/golden/classes";

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
    let golden = Golden::open("golden/classes/shakespeare.safetensors");
    let (tokens, want) = (golden.u32("tokens"), golden.f32("logprobs"));
    let scored: Scored = run_json(&mut gptj(&["score", "--json", "--top", "4", "--tokens", &ids(&tokens)]));
    assert_eq!((scored.tokens.as_slice(), scored.logprobs[0]), (tokens.as_slice(), None));
    let got: Vec<f32> = scored.logprobs[1..].iter().map(|logprob| logprob.expect("a number") as f32).collect();
    // `STAGE_TOLERANCE` of the largest logit, some 15.
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
    assert!(table.contains("\" be\"    likeliest: ") && table.contains("sum, perplexity "), "{table}");
    let alone: Scored = run_json(gptj(&["score", "--json"]).write_stdin("!"));
    assert_eq!((alone.logprobs, alone.perplexity), (vec![None], None));
}

#[test]
fn perplexity_reads_files_in_windows() {
    let Some(_gpu) = gpu() else { return };
    let plays = golden::read("tests/golden/shakespeare/held_out.txt");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, &plays[..12_000]).expect("a file");
    let path = text(file.path());
    let measured: Value = run_json(&mut gptj(&["perplexity", path, "--context", "256", "--stride", "256", "--json"]));
    let cases: Vec<Value> = golden::json("golden/shakespeare/perplexity.json");
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
        let expected: Value = golden::json(format!("golden/classes/{name}/expected.json"));
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
    let expected: Value = golden::json("golden/classes/question_answering_wide/expected.json");
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
    let want = Golden::open("golden/classes/base/expected.safetensors");
    let tokens = ids(&want.u32("tokens"));
    for pooling in ["last", "mean", "weighted"] {
        let arguments = ["embed", "--model", &model, "--pooling", pooling, "--tokens", &tokens];
        let found: Value = run_json(&mut gptj(&[&arguments[..], &["--json"]].concat()));
        let got: Vec<f32> = serde_json::from_value(found["embedding"].clone()).expect("numbers");
        assert_close(pooling, &got, &want.f32(&format!("pool.{pooling}")), 0.02, 0.0);
        let (line, _) = run(&mut gptj(&arguments));
        assert_eq!(line.split_whitespace().count(), got.len());
    }
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("states.safetensors");
    let out_argument = text(&out);
    let arguments = ["hidden-states", "--model", &model, "--tokens", &tokens, "--attentions", "--out", out_argument];
    let found: Value = run_json(&mut gptj(&[&arguments[..], &["--json"]].concat()));
    let got = Golden::at(out.clone());
    for (name, shape) in want.shapes().into_iter().filter(|(name, _)| name.contains("s.")) {
        assert_eq!(found["tensors"][&name], json!(shape), "{name}");
        assert_close(&name, &got.f32(&name), &want.f32(&name), 0.02, 0.0);
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
        run(&mut gptj(&["hidden-states", "--tokens", "1", "--out", text(&plain)]));
        assert_eq!(mode(&plain), 0o640, "an old one stays for whom it was");
        // What is no regular file stays what it is.
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&out, &link).expect("a link");
        std::fs::write(&out, "old").expect("a file");
        run(&mut gptj(&["hidden-states", "--tokens", "1", "--out", text(&link)]));
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
    let [plain, json] = [plain, json].map(|path| text(&path).to_owned());
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
