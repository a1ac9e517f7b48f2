//! What people see at a terminal, who may wait for something to happen.

#![cfg(unix)]

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::common::gpu::gpu;
use crate::common::program::plain_gptj;

/// A program that has a terminal for its standard input and error.
pub struct AtTerminal {
    pub child: Child,
    terminal: File,
    shown: String,
}

impl AtTerminal {
    /// Starts it with no kernels compiled before.
    pub fn start(arguments: &[&str]) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&terminal).expect("it is ours");
        unlockpt(&terminal).expect("it is ours");
        let path = ptsname(&terminal, Vec::new()).expect("it has a name");
        let open = || {
            let path = path.to_str().expect("a plain name");
            Stdio::from(OpenOptions::new().read(true).write(true).open(path).expect("its other side"))
        };
        let mut command = plain_gptj(arguments);
        command.env("GPTJ_CACHE_DIR", "").env("TERM", "xterm");
        let child = command.stdin(open()).stdout(Stdio::piped()).stderr(open()).spawn().expect("the program starts");
        drop(command);
        Self { child, terminal: File::from(terminal), shown: String::new() }
    }

    /// Waits until the terminal shows this.
    pub fn wait_for(&mut self, words: &str) {
        let start = Instant::now();
        while !self.shown.contains(words) {
            assert!(self.read() && start.elapsed() < Duration::from_secs(120), "no {words:?} in {:?}", self.shown);
        }
    }

    /// Types this.
    fn write(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).expect("it reads");
    }

    /// Whether the program still has the terminal.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let count = self.terminal.read(&mut bytes).unwrap_or(0);
        self.shown += &String::from_utf8_lossy(&bytes[..count]);
        count > 0
    }

    /// Its exit code, what is on standard output, and what the terminal has shown.
    pub fn finish(mut self) -> (Option<i32>, String, String) {
        while self.read() {}
        let output = self.child.wait_with_output().expect("it ends");
        (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"), self.shown)
    }
}

#[test]
fn a_prompt_that_is_missing_is_asked_for() {
    for (arguments, typed, answer) in [
        (&["tokenize"][..], "To be\n\x04", "410,305\n"),
        (&["embed", "--texts", "-"], "{}\n\x04", "{\"error\":\"line 1 of standard input: it must have either a text"),
    ] {
        let mut program = AtTerminal::start(arguments);
        program.wait_for("reading the text from the terminal: end it with Ctrl-D on a new line");
        program.write(typed);
        let (_, out, shown) = program.finish();
        assert!(out.starts_with(answer), "{arguments:?}: {out}{shown}");
    }
}

#[test]
fn compiling_is_shown() {
    let Some(_gpu) = gpu() else { return };
    for arguments in [&["generate", "-p", "To be", "-n", "2"][..], &["score", "-p", "To be"]] {
        let (code, _, shown) = AtTerminal::start(arguments).finish();
        assert!(code == Some(0) && shown.contains("compiling kernels"), "{shown:?}");
        let (code, out, shown) = AtTerminal::start(&[&["-q"], arguments].concat()).finish();
        assert_eq!((code, shown.as_str()), (Some(0), ""), "{out}");
    }
}
