//! `gptj bench --compare`: what counts as slower, and what it does to the exit code.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::gpu::gpu;
use crate::common::program::{finish, gptj, gptj_without_gpu, run, run_json};

const NAME: &str = "argmax 1000, rows 1";

/// What an earlier run wrote.
fn old(directory: &TempDir, report: &Value) -> PathBuf {
    let path = directory.path().join("old.json");
    std::fs::write(&path, report.to_string()).expect("a file");
    path
}

fn kernels(old: &Path, more: &[&str]) -> Vec<String> {
    let command = ["bench", "kernels", "--shapes", "tiny", "--rows", "1", "--compare", old.to_str().expect("UTF-8")];
    [&command[..], more].concat().into_iter().map(str::to_owned).collect()
}

fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

#[test]
fn a_change_counts_beyond_both_spreads() {
    let Some(_) = gpu() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let verdict = |microseconds: f64, spread: Value| {
        let entry = json!({ "name": NAME, "microseconds": microseconds, "spread_percent": spread });
        let old = old(&directory, &json!({ "shapes": "tiny", "cases": [entry] }));
        let report: Value = run_json(&mut gptj(&words(&kernels(&old, &["argmax", "--json"]))));
        let compared = report["comparison"]["both"][0].clone();
        let new_spread = report["cases"][0]["spread_percent"].as_f64().expect("a spread");
        (compared["slower"] == true, compared["faster"] == true, compared["tolerance_percent"].as_f64(), new_spread)
    };
    let (slower, faster, tolerance, new_spread) = verdict(1e-6, json!(30.0));
    assert!(slower && !faster);
    assert!((tolerance.expect("a tolerance") - (30.0 + new_spread)).abs() < 1e-9, "both spreads together");
    let (slower, faster, ..) = verdict(1e12, json!(30.0));
    assert!(!slower && faster);
    // A spread that explains any change, and one that is unknown.
    let (slower, faster, ..) = verdict(1e-6, json!(1e15));
    assert!(!slower && !faster);
    let (slower, faster, tolerance, _) = verdict(1e-6, Value::Null);
    assert!(!slower && !faster && tolerance.is_none());
}

/// The file has more than this run was to measure.
#[test]
fn what_was_filtered_out_is_ignored() {
    let Some(_) = gpu() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let entry = |name: &str, rows: u64| json!({ "name": name, "rows": rows, "microseconds": 7.0 });
    let cases = [
        entry("argmax 1000, rows 1", 1),
        entry("argmax of old, rows 1", 1),
        entry("argmax 1000, rows 8", 8),
        entry("embed 1000x256, rows 1", 1),
    ];
    let old = old(&directory, &json!({ "shapes": "tiny", "cases": cases }));
    let only_old = |filters: &[&str]| {
        let report: Value = run_json(&mut gptj(&words(&kernels(&old, &[filters, &["--json"]].concat()))));
        report["comparison"]["only_old"].clone()
    };
    assert_eq!(only_old(&["ARGMAX"]), json!(["argmax of old, rows 1"]));
    assert_eq!(only_old(&["argmax 1000"]), json!([]));
}

/// Before a GPU is even looked for.
#[test]
fn other_shapes_and_models_are_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = old(&directory, &json!({ "shapes": "6b", "cases": [] }));
    let (code, _, message) = finish(&mut gptj_without_gpu(&words(&kernels(&path, &[]))));
    assert_eq!(code, 1);
    assert!(message.contains("old.json has the shapes \"6b\", and this run \"tiny\""), "{message}");

    let path = old(&directory, &json!({ "model": "synthetic 6b", "measurements": [] }));
    let command = ["bench", "model", "--synthetic", "tiny", "--compare", path.to_str().expect("UTF-8")];
    let (code, _, message) = finish(&mut gptj_without_gpu(&command));
    assert_eq!(code, 1);
    assert!(message.contains("the model \"synthetic 6b\", and this run \"synthetic tiny\""), "{message}");
}

#[test]
fn slower_beyond_a_limit_is_a_failure() {
    let Some(_) = gpu() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let report = |microseconds: f64, spread: f64| {
        let entry = json!({ "name": NAME, "microseconds": microseconds, "spread_percent": spread });
        old(&directory, &json!({ "shapes": "tiny", "cases": [entry] }))
    };
    let fails = |old: &Path, limit: &str| finish(&mut gptj(&words(&kernels(old, &["argmax", "--fail-above", limit]))));
    let (code, stdout, message) = fails(&report(1e-6, 1.0), "5");
    assert_eq!(code, 1);
    assert!(message.contains("1 of 1 are slower by more than 5%") && message.contains(NAME), "{message}");
    assert!(stdout.contains("slower") && stdout.contains("ceilings"), "the results are printed all the same: {stdout}");
    for (old, limit) in [(report(1e-6, 1.0), "1e15"), (report(1e-6, 1e15), "5"), (report(1e12, 1.0), "0")] {
        let (code, _, message) = fails(&old, limit);
        assert_eq!(code, 0, "{limit}: {message}");
    }

    let measurement = json!({ "name": "prefill of 8", "value": 1e12, "spread_percent": 1.0 });
    let old = old(&directory, &json!({ "model": "synthetic tiny", "measurements": [measurement] }));
    let model = ["bench", "model", "--synthetic", "tiny", "-p", "8", "-n", "0", "-r", "3", "--compare"];
    let command = [&model[..], &[old.to_str().expect("UTF-8"), "--fail-above", "50%"]].concat();
    let (code, _, message) = finish(&mut gptj(&command));
    assert!(code == 1 && message.contains("prefill of 8"), "a rate that fell: {message}");
}

#[test]
fn limits_are_checked() {
    for (arguments, word) in [
        (&["--fail-above", "5"][..], "--compare"),
        (&["--compare", "x", "--fail-above", "-1"], "a percentage is 0 or more"),
        (&["--compare", "x", "--fail-above", "nan"], "a percentage is 0 or more"),
    ] {
        let (code, _, message) = finish(&mut gptj(&[&["bench", "kernels"], arguments].concat()));
        assert!(code == 2 && message.contains(word), "{arguments:?}: {code} {message}");
    }
}

/// A run compared with what it has just measured itself.
#[test]
fn files_of_this_version_are_read() {
    let Some(_) = gpu() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let command = ["bench", "kernels", "--shapes", "tiny", "--rows", "1", "argmax", "-o", "json"];
    let (report, _) = run(&mut gptj(&command));
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let old = old(&directory, &report);
    let (text, _) = run(&mut gptj(&words(&kernels(&old, &["argmax"]))));
    let line = text.lines().rfind(|line| line.starts_with(NAME)).expect("a line");
    assert!(line.contains('%') && !text.contains("only in"), "{text}");
}
