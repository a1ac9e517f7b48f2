//! Programs that are told to end: they say what they have, leave nothing half-written, and tell the signal by their
//! exit code.

#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};

use crate::common::gpu::gpu;
use crate::common::program::plain_gptj;
use crate::terminal::AtTerminal;

fn send(signal: Signal, child: &Child) {
    kill_process(Pid::from_child(child), signal).expect("it runs");
}

fn start(arguments: &[&str]) -> Child {
    let mut command = plain_gptj(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

/// A model of zeros that takes seconds to convert: 400 MB that take no room on disk.
fn large_model(directory: &Path) {
    let (vocab, width) = (200_000, 256);
    let config = json!({
        "model_type": "gptj", "vocab_size": vocab, "n_positions": 8, "n_embd": width, "n_layer": 1, "n_head": 4,
        "rotary_dim": 16, "eos_token_id": 0,
    });
    std::fs::write(directory.join("config.json"), config.to_string()).expect("a file");
    let mut shapes = vec![("wte.weight".to_owned(), vec![vocab, width])];
    for (name, shape) in [
        ("ln_1.weight", vec![width]),
        ("ln_1.bias", vec![width]),
        ("attn.q_proj.weight", vec![width, width]),
        ("attn.k_proj.weight", vec![width, width]),
        ("attn.v_proj.weight", vec![width, width]),
        ("attn.out_proj.weight", vec![width, width]),
        ("mlp.fc_in.weight", vec![4 * width, width]),
        ("mlp.fc_in.bias", vec![4 * width]),
        ("mlp.fc_out.weight", vec![width, 4 * width]),
        ("mlp.fc_out.bias", vec![width]),
    ] {
        shapes.push((format!("h.0.{name}"), shape));
    }
    shapes.extend([("ln_f.weight".to_owned(), vec![width]), ("ln_f.bias".to_owned(), vec![width])]);
    let mut header = Map::new();
    let mut end = 0;
    let head = [("lm_head.weight".to_owned(), vec![vocab, width]), ("lm_head.bias".to_owned(), vec![vocab])];
    let body = shapes.into_iter().map(|(name, shape)| (format!("transformer.{name}"), shape));
    for (name, shape) in body.chain(head) {
        let begin = end;
        end += 4 * shape.iter().product::<usize>();
        header.insert(name, json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}));
    }
    let header = Value::from(header).to_string();
    let mut file = std::fs::File::create(directory.join("model.safetensors")).expect("a file");
    file.write_all(&(header.len() as u64).to_le_bytes()).expect("room");
    file.write_all(header.as_bytes()).expect("room");
    file.set_len(8 + header.len() as u64 + end as u64).expect("a file with a hole");
    file.seek(SeekFrom::Start(0)).expect("a file");
}

#[test]
fn convert_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a directory");
    let [model, place] = ["model", "place"].map(|name| directory.path().join(name));
    for folder in [&model, &place] {
        std::fs::create_dir(folder).expect("a directory");
    }
    large_model(&model);
    let [model, out] = [model, place.join("out")].map(|path| path.to_str().expect("a name").to_owned());
    let files = || std::fs::read_dir(&place).expect("a directory").count();
    for (signal, code, cause) in
        [(Signal::INT, 130, "Ctrl-C"), (Signal::TERM, 143, "SIGTERM"), (Signal::HUP, 129, "SIGHUP")]
    {
        let convert = start(&["convert", &model, &out]);
        while files() == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        send(signal, &convert);
        let output = convert.wait_with_output().expect("it ends");
        let err = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!((output.status.code(), err), (Some(code), format!("ended by {cause}: {out} is not written\n")));
        assert_eq!(files(), 0, "nothing is left");
    }
}

#[test]
fn generate_says_how_far_it_came() {
    let Some(_gpu) = gpu() else { return };
    let arguments = ["generate", "-p", "To be", "-c", "512", "-n", "500", "--eos-token-id", "1023"];
    let mut generate = start(&arguments);
    let mut out = generate.stdout.take().expect("it is piped");
    let mut begin = [0; 8];
    out.read_exact(&mut begin).expect("it begins");
    assert!(begin.starts_with(b"To be"), "{begin:?}");
    send(Signal::INT, &generate);
    let mut text = String::new();
    out.read_to_string(&mut text).expect("UTF-8");
    let output = generate.wait_with_output().expect("it ends");
    let err = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(130), "{err}");
    let summary = err.lines().last().expect("a summary");
    assert!(summary.starts_with('[') && summary.contains(" tokens, ended by Ctrl-C; prompt 2 tokens"), "{err}");
    assert!(!err.contains("error") && text.ends_with('\n'), "{err}");
}

#[test]
fn a_batch_shows_the_texts_that_are_there() {
    let Some(_gpu) = gpu() else { return };
    let mut generate = start(&["generate", "--prompts", "-", "--batch", "2", "-n", "20", "--temperature", "0.9"]);
    let mut input = generate.stdin.take().expect("it is piped");
    for _ in 0..400 {
        writeln!(input, "To be").expect("it reads");
    }
    let mut out = BufReader::new(generate.stdout.take().expect("it is piped"));
    let mut first = String::new();
    out.read_line(&mut first).expect("UTF-8");
    send(Signal::HUP, &generate);
    let rest = out.lines().collect::<Result<Vec<_>, _>>().expect("UTF-8");
    let output = generate.wait_with_output().expect("it ends");
    let err = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(129), "{err}");
    assert!(err.contains("; ended by SIGHUP]"), "{err}");
    assert!(rest.len() < 399, "it does not go on to the end");
    for (index, line) in std::iter::once(&first).chain(&rest).enumerate() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        let tokens = line["tokens"].as_array().expect("tokens").len();
        assert_eq!(line["index"], index);
        assert!(tokens > 0 && (tokens == 20) >= (line["finish_reason"] == "length"), "{line}");
    }
}

#[test]
fn texts_keep_the_lines_that_were_printed() {
    let Some(_gpu) = gpu() else { return };
    let mut score = start(&["score", "--texts", "-"]);
    let mut input = score.stdin.take().expect("it is piped");
    writeln!(input, "To be").expect("it reads");
    let mut out = BufReader::new(score.stdout.take().expect("it is piped"));
    let mut line = String::new();
    out.read_line(&mut line).expect("UTF-8");
    assert!(line.contains("\"perplexity\":"), "{line}");
    // It waits for more.
    send(Signal::TERM, &score);
    assert_eq!(score.wait().expect("it ends").code(), Some(143));
    drop(input);
}

#[test]
fn perplexity_tells_that_of_the_windows_so_far() {
    let Some(_gpu) = gpu() else { return };
    let mut perplexity = AtTerminal::start(&["perplexity", "tests/golden/shakespeare/held_out.txt"]);
    perplexity.wait_for("perplexity ");
    send(Signal::INT, &perplexity.child);
    let (code, out, shown) = perplexity.finish();
    assert_eq!(code, Some(130), "{shown}");
    let scored = out.strip_prefix("perplexity ").and_then(|out| out.split(' ').nth(2)?.parse::<usize>().ok());
    assert!(out.ends_with(" of 103875 tokens\n") && scored.is_some_and(|scored| scored < 103_874), "{out}");
}
