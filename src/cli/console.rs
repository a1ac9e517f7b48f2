//! The program's output: results to standard output, everything else to standard error.

use std::io::{Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gptj::AdapterInfo;
use gptj::checkpoint::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// Whether `--quiet` was given.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Leaves out notes, progress and summaries from here on.
pub(crate) fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Standard output, with errors that name it.
pub(crate) struct Output(Stdout);

/// Standard output.
pub(crate) fn out() -> Output {
    Output(std::io::stdout())
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes).map_err(|error| named(&error))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush().map_err(|error| named(&error))
    }
}

/// An error of standard output, with a message that names it.
pub(crate) fn named(error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), format!("cannot write standard output: {error}"))
}

/// Writes a line to standard error, unless `--quiet`.
pub(crate) fn note(line: &str) {
    if !is_quiet() {
        say(line);
    }
}

/// Writes a line to standard error, even with `--quiet`.
pub(crate) fn say(line: &str) {
    // A closed standard error does not matter.
    _ = writeln!(std::io::stderr(), "{line}");
}

/// A progress bar of this template, drawn only if standard error is a terminal.
pub(crate) fn bar(template: &str, length: Option<u64>) -> ProgressBar {
    if is_quiet() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    let bar = length.map_or_else(ProgressBar::no_length, ProgressBar::new);
    bar.with_style(style)
}

/// A progress bar in bytes of a checkpoint; `doing` stands before it.
pub(crate) fn progress_bar(doing: &'static str) -> ProgressBar {
    let template = "{prefix} {wide_bar} {decimal_bytes}/{decimal_total_bytes}, {decimal_bytes_per_sec}";
    bar(template, Some(0)).with_prefix(doing)
}

/// Moves a progress bar to `progress`.
pub(crate) fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_length(progress.total);
    bar.set_position(progress.done);
}

/// A spinner beside `doing`, for work of unknown length.
pub(crate) fn spinner(doing: &'static str) -> ProgressBar {
    let spinner = bar("{spinner} {msg} {elapsed}", None).with_message(doing);
    spinner.tick();
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// A number of things: `1 token`, `2 tokens`.
pub(crate) fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// Bytes for people: `768 B`, `12.10 GB`.
pub(crate) fn human_bytes(bytes: u64) -> String {
    let number = bytes as f64;
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..10_000 => format!("{:.2} kB", number / 1e3),
        10_000..1_000_000 => format!("{:.0} kB", number / 1e3),
        1_000_000..10_000_000 => format!("{:.2} MB", number / 1e6),
        10_000_000..1_000_000_000 => format!("{:.0} MB", number / 1e6),
        _ => format!("{:.2} GB", number / 1e9),
    }
}

/// An adapter's name without its driver's addition in brackets: `llvmpipe` of `llvmpipe (LLVM 15.0.6, 256 bits)`.
pub(crate) fn short_name(adapter: &AdapterInfo) -> &str {
    adapter.name.split_once(" (").map_or(adapter.name.as_str(), |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (4096, "4.10 kB"),
            (52_300, "52 kB"),
            (1_050_000, "1.05 MB"),
            (134_217_728, "134 MB"),
            (12_100_000_000, "12.10 GB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }
}
