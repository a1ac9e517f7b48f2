//! Commands and options exist: those of `cargo`, which are not run, and those that are named in passing.

use std::path::Path;
use std::process::Command;

use crate::common::gpu::skip;
use crate::common::program::{gptj, run};
use crate::pages::pages;

/// The help of a command of the program, or nothing if there is no such command.
fn gptj_help(command: &str) -> Option<String> {
    let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
    let output = gptj(&words).output().expect("the program starts");
    output.status.success().then(|| String::from_utf8(output.stdout).expect("UTF-8"))
}

/// The first words of a command line, which are commands and no arguments.
fn commands(line: &str) -> String {
    let nested = line.starts_with("gptj bench ") || line.starts_with("cargo xtask ");
    let words = line.split(' ').skip(1).take(1 + usize::from(nested));
    words
        .take_while(|word| word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-'))
        .collect::<Vec<_>>()
        .join(" ")
}

/// The options of a command line, up to the `--` behind which they are another program's.
fn options(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split(' ').take_while(|&word| word != "--").filter(|word| word.starts_with('-') && word.len() > 1);
    words.map(|word| word.split(['=', '[', '…']).next().expect("a split has a first part"))
}

/// Whether a help text has an option, as a word of its own.
fn has(help: &str, option: &str) -> bool {
    help.split(|letter: char| letter.is_whitespace() || [',', '[', ']', '=', '`'].contains(&letter))
        .any(|word| word == option)
}

#[test]
fn every_option_of_the_program_exists() {
    let (help, _) = run(&mut gptj(&["--help"]));
    let names =
        help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1).take_while(|line| !line.is_empty());
    let names: Vec<&str> = names
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|&name| name != "help")
        .chain(["bench kernels", "bench model", "bench plan"])
        .collect();
    assert!(names.len() > 15, "{help}");
    let all: String = names.iter().map(|name| gptj_help(name).expect("it is listed")).collect();
    for page in pages().iter().filter(|page| !page.path.ends_with("CHANGELOG.md")) {
        for span in &page.spans {
            if let Some(line) = span.starts_with("gptj ").then_some(span) {
                let command = commands(line);
                let help = gptj_help(&command).unwrap_or_else(|| panic!("{}: {span}", page.path.display()));
                for option in options(line) {
                    assert!(has(&help, option), "{}: {span}: {option}", page.path.display());
                }
            } else if span.starts_with("--") && page.path.starts_with("docs/sampling.md") {
                for option in options(span) {
                    assert!(has(&all, option), "{}: {span}: {option}", page.path.display());
                }
            }
        }
    }
}

/// The help of a command of cargo, or of `cargo xtask`.
fn cargo_help(cargo: &str, command: &str) -> Option<String> {
    let mut process = Command::new(cargo);
    match command.strip_prefix("xtask") {
        Some(task) => process.args(["run", "--quiet", "--package", "xtask", "--"]).args(task.split_whitespace()),
        None => process.arg(command),
    };
    let output = process.arg("--help").output().expect("cargo starts");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).replace('\u{8}', ""))
}

#[test]
fn every_command_of_cargo_exists() {
    let Ok(cargo) = std::env::var("CARGO") else {
        return skip("GPTJ_REQUIRE_DOCS", &"cargo does not run this test");
    };
    for page in pages() {
        let spans = page.spans.iter().map(String::as_str);
        for line in spans.chain(page.command_lines()).filter(|line| line.starts_with("cargo ")) {
            let line = line.split(" #").next().expect("a split has a first part").trim_end();
            let place = || format!("{}: {line}", page.path.display());
            let help = cargo_help(&cargo, &commands(line)).unwrap_or_else(|| panic!("{}", place()));
            for option in options(line) {
                assert!(has(&help, option), "{}: {option}", place());
            }
            for (option, path) in
                [("--example ", "examples/NAME.rs"), ("--bench ", "benches/NAME.rs"), ("--test ", "tests/NAME/main.rs")]
            {
                if let Some((_, rest)) = line.split_once(option) {
                    let name = rest.split(' ').next().expect("a split has a first part");
                    assert!(Path::new(&path.replace("NAME", name)).exists(), "{}", place());
                }
            }
        }
    }
}
