//! `gptj repl`, typed at by a file.

use crate::common::gpu::gpu;
use crate::common::program::{gptj, run};

#[test]
fn repl_continues_what_is_typed() {
    let Some(_gpu) = gpu() else { return };
    let input =
        "To be\n\n/set greedy true\n/set max_new_tokens 4\n/show\n/set temperature -1\n/nonsense\nO Romeo\n/quit\nx\n";
    let (out, err) = run(gptj(&["repl", "-n", "3", "--greedy"]).write_stdin(input));
    let first = out.find("To be").expect("the first text");
    // An empty line continues the text.
    assert!(out[first + 1..].contains("To be") && out.contains("O Romeo") && !out.contains('x'), "{out}");
    for words in ["\"max_new_tokens\": 4", "error: temperature: -1 is not a positive", "there is no command /nonsense"]
    {
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
