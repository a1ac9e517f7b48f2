//! Models by their name on the Hugging Face Hub, fetched from a server on this machine that behaves like it.

#[path = "../../crates/checkpoint/tests/hub/server.rs"]
#[expect(dead_code, reason = "the tests of the library use all of it")]
mod server;

use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use assert_cmd::Command;
use serde_json::Value;
use server::{Fault, Repository, Server, sha256};
use tempfile::TempDir;

use crate::common::program::{finish, plain_gptj};

const SHAKESPEARE: &str = "models/shakespeare";
const NAME: &str = "org/shakespeare";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A server, and the home directory of Hugging Face's files.
struct Setting {
    server: Server,
    home: TempDir,
}

/// A server that has the built-in model.
fn setting() -> Setting {
    let setting = Setting { server: Server::start(), home: tempfile::tempdir().expect("a directory") };
    setting.server.add(NAME, shakespeare());
    setting
}

fn shakespeare() -> Repository {
    let read = |file: &str| std::fs::read(Path::new(SHAKESPEARE).join(file)).expect("it is part of the program");
    let mut repository = Repository::new(COMMIT).small("README.md", read("README.md"));
    for file in ["config.json", "generation_config.json", "tokenizer.json"] {
        repository = repository.small(file, read(file));
    }
    repository.large("model.safetensors", weights()).large("flax_model.msgpack", "no weights of ours")
}

fn weights() -> Vec<u8> {
    std::fs::read(Path::new(SHAKESPEARE).join("model.safetensors")).expect("it is part of the program")
}

impl Setting {
    /// The program with the variables of this Hub and none of the user's.
    fn plain(&self, arguments: &[&str]) -> process::Command {
        let mut command = plain_gptj(arguments);
        for (variable, _) in std::env::vars_os() {
            let name = variable.to_string_lossy();
            if name.starts_with("HF_") || name.starts_with("HUGGING") || name == "TRANSFORMERS_OFFLINE" {
                command.env_remove(variable);
            }
        }
        command.env("HF_ENDPOINT", self.server.url()).env("HF_HOME", self.home.path()).env("NO_PROXY", "127.0.0.1");
        command
    }

    fn gptj(&self, arguments: &[&str]) -> Command {
        Command::from_std(self.plain(arguments))
    }

    /// Its standard output and standard error.
    fn run(&self, arguments: &[&str]) -> (String, String) {
        let (code, stdout, stderr) = finish(&mut self.gptj(arguments));
        assert_eq!(code, 0, "{arguments:?}: {stderr}");
        (stdout, stderr)
    }

    /// Fails unless it ends with this code and a message that has all these words.
    fn assert_refused(&self, arguments: &[&str], code: i32, words: &[&str]) {
        let (got, stdout, stderr) = finish(&mut self.gptj(arguments));
        assert_eq!((got, stdout.as_str()), (code, ""), "{arguments:?}: {stderr}");
        assert!(words.iter().all(|word| stderr.contains(word)), "{arguments:?}: {stderr}, without one of {words:?}");
    }

    fn snapshot(&self) -> PathBuf {
        self.home.path().join("hub/models--org--shakespeare/snapshots").join(COMMIT)
    }
}

#[test]
fn pull_fetches_and_prints_where() {
    let setting = setting();
    let (stdout, stderr) = setting.run(&["pull", NAME]);
    assert_eq!(stdout, format!("{}\n", setting.snapshot().display()));
    assert!(stderr.contains("fetched 7.42 MB of org/shakespeare into "), "{stderr}");
    assert_eq!(std::fs::read(setting.snapshot().join("model.safetensors")).expect("a file"), weights());
    assert!(!setting.snapshot().join("flax_model.msgpack").exists() && !setting.snapshot().join("README.md").exists());

    let (again, stderr) = setting.run(&["pull", NAME, "--json"]);
    let json: Value = serde_json::from_str(&again).expect("JSON");
    let expected = serde_json::json!({
        "name": NAME, "revision": "main", "commit": COMMIT, "path": setting.snapshot(), "fetched": 0
    });
    assert_eq!((json, stderr.as_str()), (expected, ""));
}

#[test]
fn a_name_is_as_good_as_a_directory() {
    let setting = setting();
    let info = |model: &str| -> Value {
        serde_json::from_str(&setting.run(&["info", "--json", "--model", model]).0).expect("JSON")
    };
    assert_eq!(info(NAME)["config"], info(SHAKESPEARE)["config"]);
    setting.server.leave();
    for command in [&["tokenize", "To be, or not", "--model"][..], &["verify", "--json"]] {
        let [there, here] = [NAME, SHAKESPEARE].map(|model| setting.run(&[command, &[model]].concat()).0);
        assert_eq!(there.replace(NAME, SHAKESPEARE), here, "{command:?}");
    }
    let (table, stderr) = setting.run(&["info", "--model", NAME]);
    assert!(table.starts_with("org/shakespeare: GPT-J"), "{table}");
    assert!(stderr.contains("note: using org/shakespeare from the cache, unchecked") && stderr.contains("127.0.0.1"));

    let out = setting.home.path().join("converted");
    setting.run(&["convert", NAME, out.to_str().expect("a name"), "--revision", COMMIT]);
    assert_eq!(std::fs::read(out.join("tokenizer.json")).ok(), std::fs::read("models/shakespeare/tokenizer.json").ok());
}

#[test]
fn offline_no_request_is_made() {
    let setting = setting();
    let offline = |arguments: &[&str]| finish(setting.gptj(arguments).env("HF_HUB_OFFLINE", "1"));
    let (code, _, stderr) = offline(&["info", "--model", NAME]);
    assert!(code == 1 && stderr.contains(NAME) && stderr.contains("HF_HUB_OFFLINE"), "{stderr}");
    setting.run(&["pull", NAME]);
    setting.server.requests();
    let (code, stdout, stderr) = offline(&["pull", NAME]);
    assert_eq!((code, stdout.trim_end(), stderr.as_str()), (0, setting.snapshot().to_str().expect("a name"), ""));
    assert_eq!(offline(&["tokenize", "--model", NAME, "To be"]).0, 0);
    assert!(setting.server.requests().is_empty());
}

#[test]
fn revisions_are_branches_tags_and_commits() {
    let setting = setting();
    let half = Repository { commit: "f".repeat(40), revisions: vec!["float16".to_owned()], ..shakespeare() };
    setting.server.add(NAME, half);
    let (stdout, _) = setting.run(&["pull", NAME, "--revision", "float16"]);
    assert_eq!(stdout.trim_end(), setting.snapshot().with_file_name("f".repeat(40)).to_str().expect("a name"));
    setting.run(&["info", "--model", NAME, "--revision", "float16"]);
    setting.run(&["verify", NAME, "--revision", COMMIT]);
    let unknown = &["no such branch, tag or commit", NAME];
    setting.assert_refused(&["info", "--model", NAME, "--revision", "float8"], 1, unknown);
    setting.assert_refused(&["pull", NAME, "--revision", ".."], 2, &["revision", "'..'"]);
    // Nothing else has revisions.
    setting.assert_refused(&["info", "--model", SHAKESPEARE, "--revision", "main"], 2, &["--revision", SHAKESPEARE]);
    setting.assert_refused(&["info", "--revision", "main"], 2, &["--model"]);
}

#[test]
fn unknown_names_and_paths_are_refused() {
    let setting = setting();
    let words = &["org/none", "there is no such model", "HF_TOKEN", "there is no file or directory of this name"];
    setting.assert_refused(&["info", "--model", "org/none"], 1, words);
    setting.assert_refused(&["pull", "org/none"], 1, &["org/none on the Hugging Face Hub: there is no such model"]);
    let words = &["./none", "no such file or directory", "not a name on the Hugging Face Hub"];
    setting.assert_refused(&["info", "--model", "./none"], 1, words);
    setting.assert_refused(&["pull", "./none"], 2, &["./none", "ORG/NAME"]);
}

#[test]
fn a_path_wins_over_a_name() {
    let setting = setting();
    let here = setting.home.path().join(NAME);
    std::fs::create_dir_all(&here).expect("a directory");
    let (code, _, stderr) = finish(setting.gptj(&["info", "--model", NAME]).current_dir(setting.home.path()));
    assert!(code == 1 && stderr.contains("config.json"), "{stderr}");
    assert!(setting.server.requests().is_empty());
}

#[test]
fn the_token_is_sent_and_never_shown() {
    let setting = Setting { server: Server::start(), home: tempfile::tempdir().expect("a directory") };
    setting.server.add(NAME, Repository { token: Some("hf_secret".to_owned()), ..shakespeare() });
    let (code, _, stderr) = finish(setting.gptj(&["pull", NAME]).env("HF_TOKEN", "hf_wrong"));
    assert!(code == 1 && stderr.contains("HF_TOKEN") && !stderr.contains("hf_wrong"), "{stderr}");
    std::fs::write(setting.home.path().join("token"), "hf_secret\n").expect("a file");
    setting.run(&["pull", NAME]);
}

#[test]
#[cfg(unix)]
fn ctrl_c_keeps_the_partial_file() {
    let setting = setting();
    let hash = sha256(&weights());
    setting.server.fail("GET", &hash, Fault::Slow(Duration::from_millis(50)), 1);
    let incomplete = setting.home.path().join(format!("hub/models--org--shakespeare/blobs/{hash}.incomplete"));
    let arrived = || incomplete.metadata().map_or(0, |metadata| metadata.len());
    let child = setting.plain(&["pull", NAME]).stderr(process::Stdio::piped()).spawn().expect("it starts");
    while arrived() < 1_000_000 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let kill = process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("there is kill").success());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130));
    let before = arrived();
    assert!((1_000_000..7_000_000).contains(&before), "{before}");
    setting.server.requests();

    setting.run(&["pull", NAME]);
    assert_eq!(std::fs::read(setting.snapshot().join("model.safetensors")).expect("a file"), weights());
    let requests = setting.server.requests();
    let rest = requests.iter().find(|request| request.is_to_storage).expect("the rest was asked for");
    assert_eq!(rest.headers["range"], format!("bytes={before}-"));
}

#[test]
fn damaged_weights_are_not_used() {
    let setting = setting();
    let hash = sha256(&weights());
    setting.server.fail("GET", &hash, Fault::Damage, 1);
    setting.assert_refused(&["info", "--model", NAME], 1, &["model.safetensors", "hash", &hash]);
    setting.run(&["info", "--model", NAME]);
}
