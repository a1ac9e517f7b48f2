//! `gptj bench model` with llama-bench's -p, -n and -r.

use serde_json::Value;

use crate::common::gpu::gpu;
use crate::common::program::{finish, gptj, run_json};

/// The measurements that have runs of their own, and how many.
fn measured(arguments: &[&str]) -> Vec<(String, Option<u64>)> {
    let report: Value =
        run_json(&mut gptj(&[&["bench", "model", "--synthetic", "tiny", "--json"], arguments].concat()));
    let measurements = report["measurements"].as_array().expect("a list");
    let rates = measurements.iter().filter(|measured| measured["unit"] == "tok/s");
    rates.map(|measured| (measured["name"].as_str().expect("a name").to_owned(), measured["runs"].as_u64())).collect()
}

#[test]
fn prompts_and_texts_have_the_lengths_asked_for() {
    let Some(_) = gpu() else { return };
    let names = ["prefill of 4", "prefill of 8", "prefill of 12", "generation of 3"];
    let wanted = names.map(|name| (name.to_owned(), Some(2)));
    assert_eq!(measured(&["-p", "4,8-12+4", "-n", "3", "-r", "2"]), wanted);
    let long = ["--n-prompt", "4", "--n-prompt", "8-12+4", "--n-gen", "3", "--repetitions", "2"];
    assert_eq!(measured(&long), wanted);
}

#[test]
fn what_is_left_out_is_as_in_llama_bench() {
    let Some(_) = gpu() else { return };
    assert_eq!(measured(&["-p", "4", "-n", "0"]), [("prefill of 4".to_owned(), Some(5))], "five runs, and 0 for none");
    let both = [("prefill of 4".to_owned(), Some(1)), ("generation of 128".to_owned(), Some(1))];
    assert_eq!(measured(&["-p", "4", "-r", "1"]), both, "texts of 128 tokens");
}

#[test]
fn impossible_lengths_are_named() {
    for (arguments, word) in [
        (&["-p", "100000"][..], "n-prompt: 100000 tokens exceed the context"),
        (&["-n", "100000"], "n-gen: 100000 tokens exceed the context"),
        (&["-p", "100", "--context", "64"], "exceed the context of 64"),
        (&["-p", "x"], "\"x\" is not a number"),
        (&["-r", "0"], "0"),
        (&["-n", "-5"], "-5"),
    ] {
        let (code, _, message) = finish(&mut gptj(&[&["bench", "model", "--synthetic", "tiny"], arguments].concat()));
        assert!(code == 2 && message.contains(word), "{arguments:?}: {code} {message}");
    }
}
