//! The examples run and print what they say.

use std::ffi::OsStr;
use std::path::Path;

use assert_cmd::Command;

use crate::common::gpu::gpu;
use crate::common::program::plain_gptj;

/// An example, which cargo builds where it runs all tests, in a folder beside the program.
fn example(name: &str) -> Command {
    let program = plain_gptj(&[]);
    // Where cargo is told of a runner, its words come first.
    let mut words: Vec<&OsStr> = [program.get_program()].into_iter().chain(program.get_args()).collect();
    let path = Path::new(words.pop().expect("a command has a program")).with_file_name("examples").join(name);
    words.push(path.as_os_str());
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// What it prints; nothing where there is no GPU.
fn run(name: &str) -> Option<String> {
    gpu()?;
    let output =
        example(name).output().unwrap_or_else(|error| panic!("{name}: {error}; `cargo build --examples` makes it"));
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8"));
    assert!(output.status.success(), "{name}: {err}");
    Some(out)
}

#[test]
fn minimal() {
    let Some(text) = run("minimal") else { return };
    assert!(text.starts_with("Ham. To be, or not") && text.len() > 60, "{text}");
}

#[test]
fn streaming() {
    let Some(text) = run("streaming") else { return };
    assert!(text.starts_with("Rom. But soft!") && text.trim_end().lines().count() >= 4, "{text}");
}

#[test]
fn batch() {
    let Some(text) = run("batch") else { return };
    let texts: Vec<_> = text.split("\n---\n").collect();
    for (prompt, text) in ["Enter Ghost.", "Ham. To be", "The king is", "O Romeo,", "Exeunt"].iter().zip(&texts) {
        assert!(text.starts_with(prompt) && text.len() > prompt.len(), "{text}");
    }
    assert_eq!(texts.len(), 6, "five texts, and nothing after the last");
}

#[test]
fn classification() {
    let Some(text) = run("classification") else { return };
    let score =
        |line: &str| line.split_whitespace().next().and_then(|score| score.parse::<f64>().ok()).expect("a number");
    let sum: f64 = text.lines().map(score).sum();
    assert!((sum - 1.0).abs() < 1e-3 && text.lines().count() == 5, "{text}");
}

#[test]
fn embeddings() {
    let Some(text) = run("embeddings") else { return };
    let cosines = |line: &str| line.split("  ").filter_map(|word| word.parse().ok()).collect::<Vec<f64>>();
    let rows: Vec<_> = text.lines().map(cosines).collect();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().enumerate().all(|(index, row)| row[index] == 1.0), "a text is like itself: {text}");
    assert!(rows[0][1] > rows[0][2], "a king is more like a queen than like an exit: {text}");
}

#[test]
fn wgpu_app() {
    let Some(text) = run("wgpu_app") else { return };
    assert!(text.lines().count() == 16 && text.contains("frame 15, green 15"), "{text}");
}
