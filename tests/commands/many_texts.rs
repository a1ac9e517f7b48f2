//! Files of many texts: read as they are needed, and told apart where some are bad.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::common::gpu::gpu;
use crate::common::program::{finish, gptj, gptj_without_gpu, plain_gptj, run};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))).collect()
}

#[test]
fn a_bad_line_costs_only_itself() {
    let Some(_gpu) = gpu() else { return };
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("a name");
    for (command, key, found) in
        [("generate", "prompt", "tokens"), ("score", "text", "sum"), ("embed", "text", "embedding")]
    {
        let texts = [
            json!({key: "To be", "id": "first"}).to_string().into_bytes(),
            Vec::new(),
            json!({key: 5, "id": [2]}).to_string().into_bytes(),
            b"{\"".to_vec(),
            b"{\"\xff\": 1}".to_vec(),
            json!({"tokens": [5000], "id": null}).to_string().into_bytes(),
            json!({"tokens": [5, 6, 7], "id": {"of": "mine"}}).to_string().into_bytes(),
        ];
        std::fs::write(&file, texts.join(&b'\n')).expect("a file");
        let option = if command == "generate" { "--prompts" } else { "--texts" };
        let (code, out, err) = finish(&mut gptj(&[command, option, path]));
        let lines = lines(&out);
        assert_eq!(code, 1, "{err}");
        assert!(err.contains(&format!("error: 4 of 6 texts failed; line 3 of {path}: ")), "{err}");
        assert_eq!(lines.len(), 6, "{out}");
        let ids = [Some(json!("first")), Some(json!([2])), None, None, Some(Value::Null), Some(json!({"of": "mine"}))];
        for (index, (line, id)) in lines.iter().zip(&ids).enumerate() {
            assert_eq!((&line["index"], line.get("id")), (&json!(index), id.as_ref()), "{line}");
            assert_eq!([line.get("error").is_none(), line.get(found).is_some()], [matches!(index, 0 | 5); 2], "{line}");
        }
        for (index, words) in [(1, "line 3 of"), (2, "line 4 of"), (3, "UTF-8"), (4, "token 5000 is not in")] {
            assert!(lines[index]["error"].as_str().is_some_and(|error| error.contains(words)), "{out}");
        }
        // What is right is found all the same.
        let alone = gptj(&[command, option, "-", "-q"]).write_stdin(texts[0].clone()).output().expect("it starts");
        let alone: Value = serde_json::from_slice(&alone.stdout).expect("JSON");
        if command != "generate" {
            assert_eq!(alone, lines[0]);
        }
    }
}

/// Nothing is loaded for lines all of which are bad.
#[test]
fn lines_without_a_good_one_need_no_gpu() {
    for (command, option, input, words) in [
        ("generate", "--prompts", "{\"prompt\": \"a\", \"top_p\": 3}", "line 1 of standard input: top_p: 3"),
        ("generate", "--prompts", "{\"text\": \"a\"}", "a prompt or tokens"),
        ("generate", "--prompts", "{\"tokens\": 1}", "tokens"),
        (
            "generate",
            "--prompts",
            "{\"tokens\": [1], \"num_return_sequences\": 0}",
            "num_return_sequences: 0 is not from 1",
        ),
        ("generate", "--prompts", "{\"tokens\": [1], \"greedy\": true, \"num_return_sequences\": 2}", "be the same"),
        ("embed", "--texts", "{\"text\": \"a\", \"top\": 1}", "a text has no field top"),
        ("embed", "--texts", "{}", "a text or tokens"),
    ] {
        let (code, out, err) = finish(gptj_without_gpu(&[command, option, "-"]).write_stdin(input));
        let lines = lines(&out);
        assert_eq!((code, lines.len()), (1, 1), "{out}{err}");
        assert!(lines[0]["error"].as_str().is_some_and(|error| error.contains(words)), "{out}");
        assert!(err.contains("error: 1 of 1 texts failed; line 1 of standard input: "), "{err}");
    }
    for (command, option) in [("generate", "--prompts"), ("classify", "--texts"), ("score", "--texts")] {
        let model = if command == "classify" { "tests/golden/classes/single_label" } else { "models/shakespeare" };
        for (input, words) in
            [("\n\n", "has no texts"), ("[\n{\"a\": 1}]", "is a JSON list"), ("[\"a\", \"b\"]", "is a JSON list")]
        {
            let (code, out, err) = finish(gptj_without_gpu(&[command, "-m", model, option, "-"]).write_stdin(input));
            assert!((code, out.as_str()) == (1, "") && err.contains(words), "{err}");
        }
    }
}

/// A stage direction is no JSON.
#[test]
fn a_text_may_begin_with_a_bracket() {
    let Some(_gpu) = gpu() else { return };
    let (out, _) = run(gptj(&["score", "--texts", "-"]).write_stdin("[Enter Romeo]\n{x\n"));
    assert_eq!(lines(&out).len(), 2);
}

/// A program whose standard input and output the test holds.
struct Talk {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Talk {
    fn with(arguments: &[&str]) -> Self {
        let mut command = plain_gptj(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, input, output }
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("UTF-8");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
    }
}

#[test]
fn a_line_is_answered_before_the_next_is_written() {
    let Some(_gpu) = gpu() else { return };
    for arguments in [&["generate", "--prompts", "-", "-n", "2"][..], &["embed", "--texts", "-"]] {
        let mut talk = Talk::with(arguments);
        for id in 0..3 {
            writeln!(talk.input, "{}", json!({"tokens": [1, id], "id": id})).expect("it reads");
            assert_eq!(talk.read()["id"], id, "{arguments:?}");
        }
        drop(talk.input);
        assert!(talk.child.wait().expect("it ends").success());
    }
}

/// Sixty megabytes of lines go through the program, and none of them stay.
#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_with_the_file() {
    let Some(_gpu) = gpu() else { return };
    for arguments in [&["generate", "--prompts", "-", "-n", "1"][..], &["embed", "--texts", "-"]] {
        let mut talk = Talk::with(arguments);
        let mut input = talk.input;
        let padding = "x".repeat(4000);
        // Every line tells something back; every hundredth is a good one.
        let line = move |index: usize| {
            let token = if index.is_multiple_of(100) { 5 } else { 5000 };
            json!({"tokens": [token], "id": format!("{index} {padding}")}).to_string()
        };
        let writer = std::thread::spawn(move || {
            (0..15_000).try_for_each(|index| writeln!(input, "{}", line(index))).expect("it reads");
            input
        });
        let status = format!("/proc/{}/status", talk.child.id());
        let resident = || -> usize {
            let status = std::fs::read_to_string(&status).expect("it runs");
            let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux tells it");
            line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse().ok()).expect("a number")
        };
        let mut at_first = 0;
        for index in 0..15_000usize {
            let mut answer = String::new();
            talk.output.read_line(&mut answer).expect("UTF-8");
            assert!(answer.contains(&format!("\"{index} xx")), "{index}: {answer}");
            assert_eq!(answer.contains("\"error\""), !index.is_multiple_of(100), "{answer}");
            if index == 3000 {
                at_first = resident();
            }
        }
        let grown = resident().saturating_sub(at_first);
        assert!(grown < 16_000, "{grown} kB more after 48 MB of lines: {arguments:?}");
        drop(writer.join().expect("it writes"));
        assert_eq!(talk.child.wait().expect("it ends").code(), Some(1));
    }
}
