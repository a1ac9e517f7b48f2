//! A model in one file, or in shards that an index names, as Hugging Face's formats have it.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};
use crate::message::list;

/// The file `single` of a directory, or else all that its file `index` names; `None` if neither is there.
pub(crate) fn files(directory: &Path, single: &str, index: &str) -> Result<Option<Vec<PathBuf>>> {
    let single = directory.join(single);
    if single.exists() {
        return Ok(Some(vec![single]));
    }
    let index = directory.join(index);
    if !index.exists() {
        return Ok(None);
    }
    let names = names(&index)?;
    let missing: Vec<String> = names.iter().filter(|name| !directory.join(name).exists()).cloned().collect();
    if !missing.is_empty() {
        let reason =
            format!("{} of the {} files that it names are missing: {}", missing.len(), names.len(), list(&missing));
        return Err(Error::checkpoint(&index, reason));
    }
    Ok(Some(names.iter().map(|name| directory.join(name)).collect()))
}

/// The files that an index names, each once.
pub(crate) fn names(index: &Path) -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(index).map_err(|error| Error::read(index, error))?;
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Error::checkpoint(index, error.to_string()))?;
    let Some(map) = json["weight_map"].as_object() else {
        return Err(Error::checkpoint(index, "weight_map is missing or not an object"));
    };
    let mut names = BTreeSet::new();
    for name in map.values() {
        let name = name.as_str().unwrap_or_default();
        // The index may be hostile: shards must be in its own directory.
        let mut components = Path::new(name).components();
        if !matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) {
            let reason = format!("{name:?} is not the name of a file in the same directory");
            return Err(Error::checkpoint(index, reason));
        }
        names.insert(name.to_owned());
    }
    Ok(names)
}
