//! `cargo xtask screenshot`: a picture of a terminal in which `gptj` runs, for the README.
//!
//! What is in the picture is what the commands print at that moment, errors and notes included; only the frame is drawn.

use std::fs;
use std::io::{Read, pipe};
use std::process::{Command, Stdio};

use anstyle::{Color, RgbColor, Style};
use anstyle_svg::Term;
use anyhow::{Context, Result, ensure};

use crate::{setup, shell};

const PICTURE: &str = "docs/terminal.svg";

/// The commands, as the words after `gptj`.
const COMMANDS: [&[&str]; 2] = [
    &["generate", "--prompt", "Ham. To be, or not", "--temperature", "0.8", "--max-new-tokens", "94", "--seed", "1"],
    &["devices"],
];

/// Longer lines go on in the next one, as in a terminal.
const COLUMNS: usize = 100;

/// Pixels, where the font is 14 high and 8.4 wide.
const TEXT_WIDTH: usize = 840;
const TITLE_HEIGHT: usize = 30;

const BACKGROUND: &str = "#1b1f27";
const PROMPT: RgbColor = RgbColor(0xa3, 0xd9, 0x78);
const TEXT: RgbColor = RgbColor(0xd8, 0xde, 0xe9);

pub(crate) fn screenshot() -> Result<()> {
    setup::vulkan()?;
    shell::run(&mut shell::cargo("build --release --bin gptj"))?;
    let program = shell::root().join("target/release/gptj").with_extension(std::env::consts::EXE_EXTENSION);
    let mut text = String::new();
    for words in COMMANDS {
        let typed: Vec<_> = ["gptj"].iter().chain(words).map(|word| shell::quoted(word)).collect();
        let typed = format!("$ {}", typed.join(" "));
        println!("{typed}");
        let printed = printed_by(Command::new(&program).args(words)).with_context(|| typed.clone())?;
        let prompt = Style::new().fg_color(Some(PROMPT.into())).bold();
        text += &format!("{prompt}{}{prompt:#}\n{}\n\n", wrapped(&typed), wrapped(printed.trim_end()));
    }
    let path = shell::root().join(PICTURE);
    fs::create_dir_all(path.with_file_name(""))
        .and_then(|()| fs::write(&path, picture(text.trim_end())))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// What a command prints, to standard output and error as they come.
fn printed_by(command: &mut Command) -> Result<String> {
    let (mut reader, writer) = pipe()?;
    let mut child = command.stdout(writer.try_clone()?).stderr(writer).spawn()?;
    // The command's own ends of the pipe must close with the child's for reading to end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut text = String::new();
    reader.read_to_string(&mut text)?;
    let status = child.wait()?;
    ensure!(status.success(), "{status}: {text}");
    Ok(text)
}

fn wrapped(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let line: Vec<char> = line.chars().collect();
        let parts = line.chunks(COLUMNS).map(|part| part.iter().collect::<String>());
        lines.extend(parts);
        if line.is_empty() {
            lines.push(String::new());
        }
    }
    lines.join("\n")
}

/// A window with the text, which may have colours, in it.
fn picture(text: &str) -> String {
    let term = Term::new().background(false).fg_color(Color::Rgb(TEXT)).min_width_px(TEXT_WIDTH);
    let inside = term.render_svg(text);
    let size = |name: &str| -> usize {
        let (_, after) = inside.split_once(&format!("{name}=\"")).expect("the picture states its size");
        after.split_once("px").and_then(|(pixels, _)| pixels.parse().ok()).expect("the size is in pixels")
    };
    let (width, height) = (size("width"), size("height") + TITLE_HEIGHT + 6);
    let buttons = [(20, "#ff5f57"), (40, "#febc2e"), (60, "#28c840")];
    let buttons = buttons.map(|(x, color)| format!("<circle cx=\"{x}\" cy=\"20\" r=\"6\" fill=\"{color}\"/>"));
    let inside = inside.trim_end().replacen("<svg ", &format!("<svg y=\"{TITLE_HEIGHT}\" "), 1);
    format!(
        "<svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         xmlns=\"http://www.w3.org/2000/svg\">\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"10\" fill=\"{BACKGROUND}\"/>\n\
         {}\n{inside}\n</svg>\n",
        buttons.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_go_on_in_the_next_one() {
        assert_eq!(wrapped("a\n\nb"), "a\n\nb");
        assert_eq!(wrapped(&"é".repeat(COLUMNS + 1)), format!("{}\né", "é".repeat(COLUMNS)));
    }

    #[test]
    fn the_picture_holds_the_text_as_text() {
        let picture = picture("$ gptj\n<a & b>");
        assert!(picture.contains("$ gptj") && picture.contains("&lt;a &amp; b&gt;"), "{picture}");
    }

    #[cfg(unix)]
    #[test]
    fn both_of_a_commands_outputs_are_seen_in_their_order() {
        let printed = printed_by(Command::new("sh").args(["-c", "echo 1; echo 2 >&2; echo 3"])).expect("it runs");
        assert_eq!(printed, "1\n2\n3\n");
        printed_by(Command::new("sh").args(["-c", "exit 3"])).expect_err("it fails");
    }
}
