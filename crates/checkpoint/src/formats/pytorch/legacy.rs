//! The format of PyTorch before 1.6, still written on request: five pickles, then the storages.

use std::collections::HashMap;
use std::ops::Range;

use super::pickle::{Pickle, Value};

/// The value of the first pickle.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;

/// The value of the second.
const PROTOCOL: i128 = 1001;

/// The pickle of the tensors, and their storages' bytes in the file, by key.
pub(super) fn read(bytes: &[u8]) -> Result<(Pickle<'_>, HashMap<&str, Range<usize>>), String> {
    let mut position = 0;
    let mut next = || -> Result<Pickle<'_>, String> {
        let (pickle, length) = Pickle::read(&bytes[position..])?;
        position += length;
        Ok(pickle)
    };
    if !matches!(next()?.root(), Value::Int(MAGIC)) {
        return Err("a pickle, but not one of PyTorch's: its magic number is missing".to_owned());
    }
    match next()?.root() {
        Value::Int(PROTOCOL) => (),
        _ => return Err(format!("a PyTorch file of an unknown version; only {PROTOCOL} can be loaded")),
    }
    let system = next()?;
    let little_endian = match system.root() {
        Value::Dict(entries) => system.entry(entries, "little_endian"),
        _ => None,
    };
    if !matches!(little_endian, Some(Value::Bool(true))) {
        return Err(super::BIG_ENDIAN.to_owned());
    }
    let tensors = next()?;
    let keys = next()?;
    let storages = storages(bytes, position, &tensors, &keys)?;
    Ok((tensors, storages))
}

/// Finds the storages, which follow each other in the order of `keys`, each after the number of its elements.
fn storages<'a>(
    bytes: &[u8],
    mut position: usize,
    tensors: &Pickle<'a>,
    keys: &Pickle<'a>,
) -> Result<HashMap<&'a str, Range<usize>>, String> {
    let mut declared = HashMap::new();
    for value in tensors.values() {
        if let Value::Storage(storage) = value {
            let first = declared.entry(storage.key).or_insert(*storage);
            if (first.kind, first.elements) != (storage.kind, storage.elements) {
                return Err(format!(
                    "storage {} is described in two ways; the file is damaged",
                    storage.key.escape_debug()
                ));
            }
        }
    }
    let Value::List(keys_in_order) = keys.root() else {
        return Err("the list of its storages is missing; the file is damaged".to_owned());
    };
    let mut storages = HashMap::new();
    for key in keys_in_order {
        let Value::Text(key) = *keys.value(*key) else {
            return Err("the list of its storages is damaged".to_owned());
        };
        let shown = key.escape_debug();
        let Some(storage) = declared.get(key) else {
            return Err(format!("no tensor describes storage {shown}, so its size is unknown; the file is damaged"));
        };
        let elements =
            bytes.get(position..).and_then(|rest| rest.first_chunk()).map(|bytes| u64::from_le_bytes(*bytes));
        let start = position + 8;
        let end = storage.elements.checked_mul(storage.kind.bytes).and_then(|bytes| start.checked_add(bytes));
        let Some(end) = end.filter(|&end| end <= bytes.len() && elements == Some(storage.elements as u64)) else {
            return Err(format!(
                "storage {shown} should have {} numbers; the file was cut off (is its download complete?) or is \
                 damaged",
                storage.elements
            ));
        };
        if storages.insert(key, start..end).is_some() {
            return Err(format!("storage {shown} is in the list of storages twice; the file is damaged"));
        }
        position = end;
    }
    Ok(storages)
}
