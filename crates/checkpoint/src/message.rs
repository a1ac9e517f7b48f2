//! Names and text from files, made fit for messages.

/// The first few names of a list.
pub(crate) fn list(names: &[String]) -> String {
    let shown = names.iter().take(5).map(|name| name.escape_debug().to_string()).collect::<Vec<_>>().join(", ");
    if names.len() > 5 { shown + ", …" } else { shown }
}

/// Text from a file, with control characters escaped and cut if long.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 200;
    let escaped: String = text.escape_debug().take(LONGEST).collect();
    if text.len() > LONGEST { escaped + "…" } else { escaped }
}
