//! A GGUF file's metadata: keys with values of many types.

use std::collections::BTreeMap;

use super::reader::Reader;
use crate::error::{Error, Result};

/// The keys that concern GPT-J models, with their values.
pub(super) struct Metadata<'a> {
    reader: Reader<'a>,
    values: BTreeMap<&'a str, Value<'a>>,
}

/// A value; strings and arrays are views of the file.
#[derive(Clone, Copy)]
enum Value<'a> {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'a [u8]),
    Array(Array<'a>),
}

/// The elements of an array.
#[derive(Clone, Copy)]
struct Array<'a> {
    element: u32,
    count: u64,
    bytes: &'a [u8],
}

/// Other keys are ignored.
const PREFIXES: [&str; 4] = ["general.", "gptj.", "split.", "tokenizer."];
/// More than any file has.
const ABSURD_KEYS: u64 = 1 << 16;
/// The types of strings and arrays, which have no fixed size.
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// The bytes of a value of this type, if fixed.
fn fixed_bytes(kind: u32) -> Option<u64> {
    match kind {
        // u8, i8, bool
        0 | 1 | 7 => Some(1),
        // u16, i16
        2 | 3 => Some(2),
        // u32, i32, f32
        4..=6 => Some(4),
        // u64, i64, f64
        10..=12 => Some(8),
        _ => None,
    }
}

impl<'a> Metadata<'a> {
    /// Reads `count` keys and values.
    pub(super) fn read(reader: &mut Reader<'a>, count: u64) -> Result<Self> {
        if count > ABSURD_KEYS {
            return Err(
                reader.refuse(format!("{count} keys of metadata, more than {ABSURD_KEYS}; the file is damaged"))
            );
        }
        let mut values = BTreeMap::new();
        for index in 1..=count {
            let key = reader.string(format_args!("key {index} of its metadata"))?;
            let key = reader.text(key, format_args!("key {index} of its metadata"))?;
            let value = read_value(reader, key)?;
            if PREFIXES.iter().any(|prefix| key.starts_with(prefix)) && values.insert(key, value).is_some() {
                return Err(reader.refuse(format!("{key} is in its metadata twice; the file is damaged")));
            }
        }
        Ok(Self { reader: reader.clone(), values })
    }

    fn refuse(&self, key: &str, reason: &str) -> Error {
        Error::config(self.reader.path(), format!("{key} in its metadata {reason}"))
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// A whole number that is not negative.
    pub(super) fn unsigned(&self, key: &str) -> Result<Option<u64>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Unsigned(number)) => Ok(Some(*number)),
            Some(Value::Signed(number)) if *number >= 0 => Ok(Some(number.unsigned_abs())),
            Some(_) => Err(self.refuse(key, "is not a whole number above zero")),
        }
    }

    /// A size of the model; the key is required.
    pub(super) fn size(&self, key: &str) -> Result<usize> {
        let size = self.unsigned(key)?.ok_or_else(|| self.refuse(key, "is missing; convert the model again"))?;
        usize::try_from(size).map_err(|_| self.refuse(key, &format!("is {size}; the file is damaged")))
    }

    /// A number, whole or not.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Float(number)) => Ok(Some(*number)),
            Some(_) => Ok(self.unsigned(key)?.map(|number| number as f64)),
        }
    }

    /// A string.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Text(bytes)) => self.reader.text(bytes, key).map(Some),
            Some(_) => Err(self.refuse(key, "is not a string")),
        }
    }

    fn array(&self, key: &str, is_element: impl Fn(u32) -> bool, what: &str) -> Result<Option<Array<'a>>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Array(array)) if is_element(array.element) => Ok(Some(*array)),
            Some(_) => Err(self.refuse(key, &format!("is not an array of {what}"))),
        }
    }

    /// The strings of an array: at most `limit`, with at most `limit_bytes` together.
    pub(super) fn strings(&self, key: &str, limit: usize, limit_bytes: usize) -> Result<Option<Vec<&'a [u8]>>> {
        let Some(Array { count, bytes, .. }) = self.array(key, |kind| kind == STRING, "strings")? else {
            return Ok(None);
        };
        if count > limit as u64 || bytes.len() > limit_bytes {
            let reason = format!(
                "has {count} strings in {} bytes; the model's vocabulary allows {limit} in {limit_bytes}",
                bytes.len()
            );
            return Err(self.refuse(key, &reason));
        }
        let mut reader = Reader::within(self.reader.path(), bytes);
        (0..count).map(|_| reader.string(key)).collect::<Result<_>>().map(Some)
    }

    /// The numbers of an array of exactly `count` 32-bit integers.
    pub(super) fn integers(&self, key: &str, count: usize) -> Result<Option<Vec<u32>>> {
        let Some(array) = self.array(key, |kind| matches!(kind, 4 | 5), "32-bit integers")? else { return Ok(None) };
        if array.count != count as u64 {
            return Err(self.refuse(key, &format!("has {} numbers; it must have {count}", array.count)));
        }
        Ok(Some(array.bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()))
    }
}

fn read_value<'a>(reader: &mut Reader<'a>, key: &str) -> Result<Value<'a>> {
    let what = format_args!("the value of {key}");
    Ok(match reader.u32(what)? {
        0 | 7 => Value::Unsigned(u8::from_le_bytes(reader.array(what)?).into()),
        1 => Value::Signed(i8::from_le_bytes(reader.array(what)?).into()),
        2 => Value::Unsigned(u16::from_le_bytes(reader.array(what)?).into()),
        3 => Value::Signed(i16::from_le_bytes(reader.array(what)?).into()),
        4 => Value::Unsigned(u32::from_le_bytes(reader.array(what)?).into()),
        5 => Value::Signed(i32::from_le_bytes(reader.array(what)?).into()),
        6 => Value::Float(f32::from_le_bytes(reader.array(what)?).into()),
        STRING => Value::Text(reader.string(what)?),
        ARRAY => Value::Array(read_array(reader, key)?),
        10 => Value::Unsigned(u64::from_le_bytes(reader.array(what)?)),
        11 => Value::Signed(i64::from_le_bytes(reader.array(what)?)),
        12 => Value::Float(f64::from_le_bytes(reader.array(what)?)),
        kind => {
            return Err(
                reader.refuse(format!("{key} in its metadata has the unknown type {kind}; the file is damaged"))
            );
        }
    })
}

fn read_array<'a>(reader: &mut Reader<'a>, key: &str) -> Result<Array<'a>> {
    let what = format_args!("the array {key}");
    let (element, count) = (reader.u32(what)?, reader.u64(what)?);
    let start = reader.position();
    if element == STRING {
        // Each takes at least eight bytes, so the loop ends with the file.
        for _ in 0..count {
            reader.string(what)?;
        }
    } else if let Some(bytes) = fixed_bytes(element) {
        reader.take(count.saturating_mul(bytes), what)?;
    } else {
        let reason =
            format!("{key} in its metadata is an array of type {element}, which is neither numbers nor strings");
        return Err(reader.refuse(reason));
    }
    Ok(Array { element, count, bytes: reader.since(start) })
}
