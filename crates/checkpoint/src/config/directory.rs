//! The configuration in a Hugging Face directory.

use std::path::Path;

use super::Config;
use crate::error::{Error, Result};

/// The configuration in a directory.
pub(crate) fn read_config(directory: &Path) -> Result<Config> {
    let path = directory.join("config.json");
    let text = std::fs::read_to_string(&path).map_err(|error| Error::read(&path, error))?;
    let mut config = Config::parse(&text, &path)?;
    if let Some(ids) = end_of_text_ids(&directory.join("generation_config.json"))? {
        config.eos_token_ids = ids;
    }
    Ok(config)
}

/// The `eos_token_id` of a `generation_config.json`, which overrides the one in `config.json`.
fn end_of_text_ids(path: &Path) -> Result<Option<Vec<u32>>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::read(path, error)),
    };
    let file: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Error::config(path, error.to_string()))?;
    let id = |value: &serde_json::Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let ids = match &file["eos_token_id"] {
        serde_json::Value::Null => return Ok(None),
        serde_json::Value::Array(ids) => ids.iter().map(id).collect(),
        one => id(one).map(|id| vec![id]),
    };
    ids.map(Some).ok_or_else(|| Error::config(path, "eos_token_id is not a token id or a list of them"))
}
