//! How the program refuses what it cannot use: an exit code, and a message that names the thing and tells what is wrong
//! with it.

use assert_cmd::Command;

use crate::common::program::finish;

/// Fails unless the program ends with this exit code and one message, which has all of `words` in it.
pub fn assert_refused(case: &str, command: &mut Command, code: i32, words: &[&str]) {
    let (found, stdout, stderr) = finish(command);
    assert_eq!(stdout, "", "{case}: nothing but results belongs on standard output");
    assert_eq!(found, code, "{case}: {stderr}");
    let (notes, message) = stderr.split_once("error: ").unwrap_or_else(|| panic!("{case}: {stderr:?} is no message"));
    assert!(notes.lines().all(|line| line.starts_with("note: ")), "{case}: {stderr}");
    for word in words {
        assert!(message.contains(word), "{case}: {word:?} is missing in {message:?}");
    }
}
