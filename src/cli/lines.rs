//! Files with one text per line, read as they are needed, so that memory does not grow with the file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde_json::{Map, Value};

use super::input::{is_standard_input, open_standard_input};

/// Lines to read before the model is loaded; if there are no more, it is laid out for them.
const LOOK_AHEAD: usize = 1000;

/// How long to wait for each of these: the program that writes them may wait for the first result.
const PATIENCE: Duration = Duration::from_millis(200);

/// Lines to read ahead of the current one.
const READ_AHEAD: usize = 64;

/// A line that is not empty.
pub(crate) struct Line {
    /// Counts such lines, from 0.
    pub(crate) index: usize,
    /// Its number and file, for messages.
    pub(crate) location: String,
    /// Its text, if it is UTF-8.
    pub(crate) text: anyhow::Result<String>,
    /// Whether it should be JSON: all lines of a file are if the first begins with `{`.
    is_json: bool,
}

/// The content of a line.
pub(crate) enum Content {
    Text(String),
    Object(Map<String, Value>),
}

impl Line {
    /// Its `id`, if it is an object that has one, and its content.
    pub(crate) fn content(self) -> (Option<Value>, anyhow::Result<Content>) {
        let text = match self.text {
            Ok(text) => text,
            Err(error) => return (None, Err(error)),
        };
        if !self.is_json {
            return (None, Ok(Content::Text(text)));
        }
        match serde_json::from_str::<Map<String, Value>>(&text) {
            Ok(mut object) => (object.remove("id"), Ok(Content::Object(object))),
            Err(error) => (None, Err(error).context("it is not a JSON object")),
        }
    }
}

/// Items made from the lines of a file, in order.
pub(crate) struct Items<'a, T> {
    make: Box<dyn Fn(Line) -> T + 'a>,
    /// Items already made.
    ahead: VecDeque<T>,
    /// The lines after them, until the last has arrived.
    lines: Option<Receiver<anyhow::Result<Line>>>,
}

/// The next item.
pub(crate) enum Next<T> {
    Item(T),
    /// The next line has not been read yet.
    Later,
    End,
}

impl<'a, T> Items<'a, T> {
    /// A single item.
    pub(crate) fn one(item: T) -> Self {
        Self { make: Box::new(|_| unreachable!("there are no lines")), ahead: VecDeque::from([item]), lines: None }
    }

    /// Starts to read a file, or standard input if it is `-`.
    pub(crate) fn open(path: &Path, make: impl Fn(Line) -> T + 'a) -> anyhow::Result<Self> {
        let name = if is_standard_input(path) { "standard input".to_owned() } else { path.display().to_string() };
        let failed = || format!("cannot read the text from {name}");
        let mut reader: Box<dyn BufRead + Send> = if is_standard_input(path) {
            Box::new(BufReader::new(open_standard_input()))
        } else {
            Box::new(BufReader::new(File::open(path).with_context(failed)?))
        };
        let mut number = 0;
        let first = next_line(&mut reader, &mut number).with_context(failed)?;
        let Some(first) = first else { bail!("{name} has no texts") };
        if is_json_list(&first) {
            bail!("{name} is a JSON list; write JSON lines, one object per line");
        }
        let is_json = first.trim_ascii_start().starts_with(b"{");
        let (sender, lines) = sync_channel(READ_AHEAD);
        let read = move || {
            let mut bytes = Ok(Some(first));
            for index in 0.. {
                let line = match bytes {
                    Ok(None) => return,
                    Ok(Some(bytes)) => {
                        let text = String::from_utf8(bytes).map_err(|_| anyhow!("it is not UTF-8"));
                        Ok(Line { index, location: format!("line {number} of {name}"), text, is_json })
                    }
                    Err(error) => Err(anyhow!("cannot read the text from {name}: {error}")),
                };
                // An error is the last item, and the receiver may be gone.
                if line.is_err() | sender.send(line).is_err() {
                    return;
                }
                bytes = next_line(&mut reader, &mut number);
            }
        };
        std::thread::Builder::new().name("lines".to_owned()).spawn(read).context("cannot start a thread")?;
        Ok(Self { make: Box::new(make), ahead: VecDeque::new(), lines: Some(lines) })
    }

    /// Reads ahead, and returns all items if the last is among them.
    pub(crate) fn look_ahead(&mut self) -> anyhow::Result<Option<&VecDeque<T>>> {
        while self.ahead.len() <= LOOK_AHEAD && self.wait(PATIENCE)? {}
        Ok(self.lines.is_none().then_some(&self.ahead))
    }

    /// The next item, without waiting.
    pub(crate) fn next(&mut self) -> anyhow::Result<Next<T>> {
        if let Some(item) = self.ahead.pop_front() {
            return Ok(Next::Item(item));
        }
        match self.lines.as_ref().map_or(Err(TryRecvError::Disconnected), Receiver::try_recv) {
            Ok(line) => Ok(Next::Item((self.make)(line?))),
            Err(TryRecvError::Empty) => Ok(Next::Later),
            Err(TryRecvError::Disconnected) => Ok(Next::End),
        }
    }

    /// Waits for a line; whether one has arrived.
    pub(crate) fn wait(&mut self, patience: Duration) -> anyhow::Result<bool> {
        match self.lines.as_ref().map_or(Err(RecvTimeoutError::Disconnected), |lines| lines.recv_timeout(patience)) {
            Ok(line) => {
                self.ahead.push_back((self.make)(line?));
                return Ok(true);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.lines = None,
        }
        Ok(false)
    }
}

/// The next line that is not empty, without line break and byte order mark; `number` counts all lines.
fn next_line(reader: &mut dyn BufRead, number: &mut usize) -> std::io::Result<Option<Vec<u8>>> {
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        *number += 1;
        line.pop_if(|byte| *byte == b'\n');
        line.pop_if(|byte| *byte == b'\r');
        if *number == 1 && line.starts_with(b"\xEF\xBB\xBF") {
            line.drain(..3);
        }
        if !line.trim_ascii().is_empty() {
            return Ok(Some(line));
        }
    }
}

/// Whether a file that begins with this line is a JSON list of objects or texts, on one or several lines.
fn is_json_list(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    let Some(items) = line.strip_prefix(b"[").map(<[u8]>::trim_ascii_start) else { return false };
    match serde_json::from_slice::<Vec<Value>>(line) {
        Ok(list) => list.first().is_some_and(|first| first.is_object() || first.is_string()),
        Err(error) => error.is_eof() && matches!(items.first(), None | Some(b'{' | b'"')),
    }
}
