//! The files that PyTorch has written since 1.6: a zip archive with a pickle and an entry for each storage.
//!
//! PyTorch stores entries as they are, so that they can be mapped. That is the only kind of entry read here, and the only
//! archives are those whose parts all agree: a directory at the very end, entries that do not overlap, each with the same
//! name and size in its own header as in the directory. The `zip` crate can check as much, but sets no bound to the entries
//! that it holds meanwhile, and where the directory at the end is damaged it looks for another one before it.

use std::collections::HashMap;
use std::ops::Range;

/// Entries of an archive; a checkpoint has one for each tensor.
const MAX_ENTRIES: u64 = 1 << 17;

/// Where an archive has what.
pub(super) struct Archive<'a> {
    entries: HashMap<&'a str, Range<usize>>,
    /// What the names of all of PyTorch's entries begin with.
    root: &'a str,
}

impl<'a> Archive<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let entries = entries(bytes)?;
        let roots = entries.keys().filter_map(|name| name.strip_suffix("data.pkl"));
        let mut roots = roots.filter(|root| root.is_empty() || root.ends_with('/'));
        match (roots.next(), roots.next()) {
            (Some(root), None) => Ok(Self { root, entries }),
            (None, _) => Err("the archive has no data.pkl; it is none that torch.save writes".to_owned()),
            (Some(_), Some(_)) => Err("the archive has several data.pkl; which of them counts is not clear".to_owned()),
        }
    }

    /// The bytes of one of PyTorch's entries.
    pub(super) fn entry(&self, name: &str) -> Option<Range<usize>> {
        self.entries.get(format!("{}{name}", self.root).as_str()).cloned()
    }
}

/// All entries of an archive by their names.
fn entries(bytes: &[u8]) -> Result<HashMap<&str, Range<usize>>, String> {
    let directory = Directory::find(bytes).ok_or(
        "the archive does not end with a directory; the file was cut off (is its download complete?), or something was \
         appended",
    )?;
    if directory.entries > MAX_ENTRIES {
        return Err(format!("the archive claims {} entries; at most {MAX_ENTRIES} can be read", directory.entries));
    }
    let mut entries = HashMap::new();
    // The entries with their headers.
    let mut occupied = Vec::new();
    let mut position = directory.range.start;
    for _ in 0..directory.entries {
        let entry = Entry::read(&bytes[..directory.range.end], position).ok_or("the archive's directory is damaged")?;
        let name = entry.name;
        let shown = || name.chars().flat_map(char::escape_debug).take(200).collect::<String>();
        if entry.encrypted {
            return Err(format!("the archive's entry {} is encrypted", shown()));
        }
        if entry.method != STORED || entry.size != entry.packed_size {
            return Err(format!(
                "the archive's entry {} is compressed, and PyTorch stores entries as they are; unpack the file and pack it \
                 again with `zip -0`, or load it in Python and save it with torch.save",
                shown()
            ));
        }
        let start = entry.data_start(&bytes[..directory.range.start]).ok_or_else(|| {
            format!("the archive's entry {} has another header than the directory says; the file is damaged", shown())
        })?;
        let end = usize::try_from(entry.size).ok().and_then(|size| start.checked_add(size));
        let Some(end) = end.filter(|&end| end <= directory.range.start) else {
            return Err(format!(
                "the archive's entry {} of {} bytes reaches into what follows it; the file is damaged",
                shown(),
                entry.size
            ));
        };
        if entries.insert(name, start..end).is_some() {
            return Err(format!("the archive has several entries of the name {}", shown()));
        }
        occupied.push((entry.header, end, name));
        position = entry.end;
    }
    if position != directory.range.end {
        return Err("the archive's directory is damaged: it does not end where it says".to_owned());
    }
    occupied.sort_unstable();
    match occupied.windows(2).find(|pair| pair[0].1 > pair[1].0) {
        Some(pair) => {
            Err(format!("the archive's entries {:?} and {:?} overlap; the file is damaged", pair[0].2, pair[1].2))
        }
        None => Ok(entries),
    }
}

/// How an entry is packed that is not.
const STORED: u16 = 0;

/// A field of a record that stands in the record's 64-bit extension.
const IN_EXTENSION: u64 = u32::MAX as u64;

/// Where the list of all entries is.
struct Directory {
    range: Range<usize>,
    entries: u64,
}

impl Directory {
    fn find(bytes: &[u8]) -> Option<Self> {
        // A comment could follow; PyTorch writes none.
        let last = bytes.len().checked_sub(22)?;
        let record = Record::at(bytes, last, b"PK\x05\x06")?;
        let locator = last.checked_sub(20).and_then(|position| Record::at(bytes, position, b"PK\x06\x07"));
        let (end, [entries, size, offset]) = match locator {
            Some(locator) => {
                let position = usize::try_from(locator.u64(8)?).ok()?;
                let record = Record::at(bytes, position, b"PK\x06\x06")?;
                (position, [record.u64(32)?, record.u64(40)?, record.u64(48)?])
            }
            None => (last, [record.u16(10)?.into(), record.u32(12)?, record.u32(16)?]),
        };
        let start = usize::try_from(offset).ok()?;
        let range = start..start.checked_add(usize::try_from(size).ok()?)?;
        (range.end == end).then_some(Self { range, entries })
    }
}

/// What the directory says of an entry.
struct Entry<'a> {
    name: &'a str,
    method: u16,
    encrypted: bool,
    /// Whether its own header leaves its size to a record behind it.
    size_follows: bool,
    packed_size: u64,
    size: u64,
    /// Where its own header is.
    header: usize,
    /// Where the directory goes on.
    end: usize,
}

impl<'a> Entry<'a> {
    fn read(directory: &'a [u8], position: usize) -> Option<Self> {
        let record = Record::at(directory, position, b"PK\x01\x02")?;
        let [name_length, extra_length, comment_length] = [record.u16(28)?, record.u16(30)?, record.u16(32)?];
        let extra_start = 46 + usize::from(name_length);
        let comment_start = extra_start + usize::from(extra_length);
        let extra = record.0.get(extra_start..comment_start)?;
        let [mut size, mut packed_size, mut header] = [record.u32(24)?, record.u32(20)?, record.u32(42)?];
        let mut extension = extension(extra);
        for field in [&mut size, &mut packed_size, &mut header] {
            if *field == IN_EXTENSION {
                *field = u64::from_le_bytes(*extension.split_off(..8)?.as_array()?);
            }
        }
        let flags = record.u16(8)?;
        Some(Self {
            name: str::from_utf8(record.0.get(46..extra_start)?).ok()?,
            method: record.u16(10)?,
            encrypted: flags & 1 != 0,
            size_follows: flags & 8 != 0,
            packed_size,
            size,
            header: usize::try_from(header).ok()?,
            end: position + comment_start + usize::from(comment_length),
        })
    }

    /// Where its bytes begin; nothing where its own header says something else than the directory.
    fn data_start(&self, bytes: &[u8]) -> Option<usize> {
        let record = Record::at(bytes, self.header, b"PK\x03\x04")?;
        let name_end = 30 + usize::from(record.u16(26)?);
        let size = record.u32(22)?;
        let same_size = size == self.size || size == IN_EXTENSION || (self.size_follows && size == 0);
        let same_name = record.0.get(30..name_end)? == self.name.as_bytes();
        (same_size && same_name && record.u16(8)? == self.method)
            .then_some(self.header + name_end + usize::from(record.u16(28)?))
    }
}

/// The 64-bit fields among an entry's extra fields, each of which has an id and a length before it.
fn extension(mut extra: &[u8]) -> &[u8] {
    const ID: [u8; 2] = [1, 0];
    while let Some((&[id @ .., low, high], rest)) = extra.split_first_chunk::<4>() {
        let Some((field, rest)) = rest.split_at_checked(u16::from_le_bytes([low, high]).into()) else { break };
        if id == ID {
            return field;
        }
        extra = rest;
    }
    &[]
}

/// The bytes from a record on, which begins with its signature.
struct Record<'a>(&'a [u8]);

impl<'a> Record<'a> {
    fn at(bytes: &'a [u8], position: usize, signature: &[u8; 4]) -> Option<Self> {
        bytes.get(position..).filter(|bytes| bytes.starts_with(signature)).map(Self)
    }

    fn u16(&self, at: usize) -> Option<u16> {
        self.0.get(at..at + 2)?.as_array().map(|bytes| u16::from_le_bytes(*bytes))
    }

    fn u32(&self, at: usize) -> Option<u64> {
        self.0.get(at..at + 4)?.as_array().map(|bytes| u32::from_le_bytes(*bytes).into())
    }

    fn u64(&self, at: usize) -> Option<u64> {
        self.0.get(at..at + 8)?.as_array().map(|bytes| u64::from_le_bytes(*bytes))
    }
}
