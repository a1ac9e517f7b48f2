//! What got slower since an earlier run: two lists of numbers with names.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::Value;

use super::{number, print_table};

/// A smaller change is noise.
const TOLERANCE: f64 = 1.05;

/// One measured number.
pub(super) struct Entry {
    pub(super) name: String,
    /// `None` where it was not measured.
    pub(super) value: Option<f64>,
    /// Rates grow where times shrink.
    pub(super) larger_is_better: bool,
}

/// What an earlier run measured.
pub(super) struct Old {
    /// Its numbers, by name.
    numbers: BTreeMap<String, f64>,
    /// What it printed.
    report: Value,
}

/// What two runs must have in common for their numbers to be about the same.
const SUBJECTS: [&str; 6] = ["adapter", "clock", "shapes", "model", "context", "vector"];

impl Old {
    /// Reads what `--json` printed: `list` is the key of the list of numbers, `value` that of the number in an entry.
    pub(super) fn read(path: &Path, list: &str, value: &str) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let report: Value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
        let Some(entries) = report[list].as_array() else {
            bail!("{} has no list of {list}; it must be what the same command printed with --json", path.display());
        };
        let mut numbers = BTreeMap::new();
        for entry in entries {
            let Some(name) = entry["name"].as_str() else {
                bail!("{}: one of the {list} has no name", path.display());
            };
            if let Some(value) = entry[value].as_f64() {
                numbers.insert(name.to_owned(), value);
            }
        }
        Ok(Self { numbers, report })
    }
}

/// Old against new.
#[derive(Serialize)]
pub(super) struct Comparison {
    /// What the two runs do not have in common.
    differs: Vec<String>,
    both: Vec<Compared>,
    only_old: Vec<String>,
    only_new: Vec<String>,
}

#[derive(Serialize)]
struct Compared {
    name: String,
    old: f64,
    new: f64,
    /// `new / old`.
    ratio: f64,
    /// Whether it got worse by more than noise.
    slower: bool,
}

impl Comparison {
    /// `report` is what this run prints, and `new` its numbers.
    pub(super) fn new(Old { numbers: mut old, report: old_report }: Old, report: &Value, new: Vec<Entry>) -> Self {
        let differs = |subject: &&str| {
            let [old, new] = [&old_report, report].map(|report| report.get(*subject).filter(|value| !value.is_null()));
            old.zip(new)
                .filter(|(old, new)| old != new)
                .map(|(old, new)| format!("{subject}: {old} in the old run, {new} in this one"))
        };
        let differs = SUBJECTS.iter().filter_map(differs).collect();
        let mut both = Vec::new();
        let mut only_new = Vec::new();
        for Entry { name, value, larger_is_better } in new {
            match (old.remove(&name), value) {
                (Some(old), Some(new)) => {
                    let ratio = new / old;
                    let slower = if larger_is_better { ratio < 1.0 / TOLERANCE } else { ratio > TOLERANCE };
                    both.push(Compared { name, old, new, ratio, slower });
                }
                (Some(old_value), None) => _ = old.insert(name, old_value),
                (None, Some(_)) => only_new.push(name),
                (None, None) => (),
            }
        }
        Self { differs, both, only_old: old.into_keys().collect(), only_new }
    }

    pub(super) fn print(&self) -> anyhow::Result<()> {
        let row = |compared: &Compared| {
            let &Compared { ref name, old, new, ratio, slower } = compared;
            let mark = if slower { "slower" } else { "" };
            vec![name.clone(), number(Some(old)), number(Some(new)), format!("{ratio:.3}"), mark.to_owned()]
        };
        print_table(&["compared", "old", "new", "new/old", ""], 1, self.both.iter().map(row).collect())?;
        let mut out = std::io::stdout();
        for difference in &self.differs {
            writeln!(out, "not the same: {difference}")?;
        }
        for (names, where_) in [(&self.only_old, "the old run"), (&self.only_new, "this run")] {
            for name in names {
                writeln!(out, "only in {where_}: {name}")?;
            }
        }
        Ok(())
    }
}
