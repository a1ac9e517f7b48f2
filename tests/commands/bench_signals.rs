//! Ctrl-C while `gptj bench` measures: what was measured is printed, and the exit code is 130.
//!
//! Only on Linux, which tells from outside when the program has begun to listen.

#![cfg(target_os = "linux")]

use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::common::gpu::gpu;
use crate::common::program::plain_gptj;

/// Whether a process catches SIGINT, signal 2.
fn listens(child: &Child) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("the process is there");
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask");
    u64::from_str_radix(caught.trim(), 16).expect("hexadecimal") & 2 != 0
}

/// Runs a command and interrupts it this long after it has begun to measure.
fn interrupted(arguments: &[&str], after: Duration) -> Output {
    let mut command = plain_gptj(arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    while !listens(&child) {
        assert!(child.try_wait().expect("a status").is_none(), "it ended before it measured");
        sleep(Duration::from_millis(10));
    }
    sleep(after);
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there");
    assert!(killed.success());
    child.wait_with_output().expect("it ends")
}

/// What is printed of a measurement that would take minutes, once it has something to print.
fn printed(arguments: &[&str], list: &str, is_measured: fn(&Value) -> bool) -> Value {
    for seconds in [1, 4, 16] {
        let output = interrupted(arguments, Duration::from_secs(seconds));
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["interrupted"], true);
        if report[list].as_array().expect("a list").iter().any(is_measured) {
            return report;
        }
    }
    panic!("nothing was measured in 16 seconds");
}

#[test]
fn kernels_so_far_are_printed() {
    let Some(_) = gpu() else { return };
    let command = ["bench", "kernels", "--shapes", "tiny", "--rows", "1-1000", "embed", "--json"];
    let report = printed(&command, "cases", |_| true);
    let cases = report["cases"].as_array().expect("a list");
    assert!(cases.len() < 1000, "it was interrupted");
    assert!(cases.iter().all(|case| case["runs"].as_u64() >= Some(5)), "all of them are complete: {cases:?}");
}

#[test]
fn measurements_so_far_are_printed() {
    let Some(_) = gpu() else { return };
    let command = ["bench", "model", "--synthetic", "tiny", "-p", "1-512", "-n", "0", "-r", "100", "--json"];
    let report = printed(&command, "measurements", |measured| measured["unit"] == "tok/s");
    let measurements = report["measurements"].as_array().expect("a list");
    assert!(measurements.iter().all(|measured| measured["name"] != "prefill of 512"), "it was interrupted");
    assert!(measurements.iter().all(|measured| measured["unit"] != "tok/s" || measured["value"].is_f64()));
}
