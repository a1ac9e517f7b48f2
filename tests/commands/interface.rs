//! What all commands have in common: help, completions, and an end when nobody reads on.

use crate::common::gpu::gpu;
use crate::common::model_dir::NARROW;
use crate::common::program::{gptj, gptj_without_gpu, plain_gptj, run};

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
    if gpu().is_some() {
        commands.push(&["generate", "--greedy", "-n", "2", "--model", NARROW, "--prompt-tokens", "1"]);
    }
    for arguments in commands {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = plain_gptj(arguments).stdout(writer).output().expect("the program starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("error"), "{arguments:?}: {stderr}");
    }
}
