//! Comparison with an earlier run: two lists of named numbers.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::cases::present_name;
use super::statistics::{number, percent};
use super::table::{Format, Table, print_lines};
use crate::cli::json;

#[derive(Args)]
#[command(next_help_heading = "Output")]
pub(super) struct CompareArguments {
    /// Compare with an earlier run, whose JSON this file is. A change counts if it exceeds both runs' spreads together,
    /// and 2%.
    #[arg(long, value_name = "OLD.json")]
    pub(super) compare: Option<PathBuf>,

    /// End with exit code 1 if something is slower by more than this, and the change counts.
    #[arg(long, value_name = "PERCENT", requires = "compare", allow_negative_numbers = true, value_parser = percentage)]
    fail_above: Option<f64>,
}

fn percentage(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    number
        .filter(|&number: &f64| number >= 0.0 && number.is_finite())
        .ok_or_else(|| "a percentage is 0 or more".to_owned())
}

impl CompareArguments {
    /// The earlier run, if there is one to compare with. `list` is the key of the list of numbers, `value` that of the
    /// number in an entry, and `subject` is a key with the value that both runs must have.
    pub(super) fn old(&self, list: &str, value: &str, subject: (&str, &str)) -> anyhow::Result<Option<Old>> {
        self.compare.as_ref().map(|path| Old::read(path, list, value, subject)).transpose()
    }

    /// Fails if something is slower by more than allowed.
    pub(super) fn judge(&self, comparison: Option<&Comparison>) -> anyhow::Result<()> {
        let (Some(limit), Some(comparison)) = (self.fail_above, comparison) else { return Ok(()) };
        let too_slow = |compared: &&Compared| compared.slower && 100.0 * compared.slowdown > limit;
        let slower: Vec<_> = comparison.both.iter().filter(too_slow).collect();
        if slower.is_empty() {
            return Ok(());
        }
        let lines =
            slower.iter().map(|compared| format!("\n{}: {}", compared.name, percent(Some(compared.slowdown), None)));
        let (n_slower, n_compared) = (slower.len(), comparison.both.len());
        bail!("{n_slower} of {n_compared} are slower by more than {limit}%{}", lines.collect::<String>());
    }
}

/// Smaller changes do not count: a GPU's clocks vary as much from run to run.
const DRIFT: f64 = 0.02;

/// The spread of numbers that an earlier version wrote without one.
const UNKNOWN_SPREAD: f64 = 0.05;

/// One measured number.
pub(super) struct Entry {
    pub(super) name: String,
    /// `None` if it was not measured.
    pub(super) value: Option<f64>,
    /// As a share of the value; `None` if it is unknown.
    pub(super) spread: Option<f64>,
    /// True of rates, false of times.
    pub(super) larger_is_better: bool,
}

/// An earlier run.
pub(super) struct Old {
    /// Its numbers, by name.
    numbers: BTreeMap<String, OldNumber>,
    /// The rest of its JSON.
    report: Value,
}

struct OldNumber {
    value: f64,
    spread: Option<f64>,
    /// Its JSON.
    entry: Value,
}

/// Fields that should be the same in both runs.
const CONDITIONS: [&str; 4] = ["adapter", "clock", "context", "vector"];

impl Old {
    fn read(path: &Path, list: &str, value: &str, (key, subject): (&str, &str)) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let report = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
        // Earlier versions wrote integers that this one writes as null.
        let mut report = json::exact(report);
        if let Some(old) = report[key].as_str().filter(|&old| old != subject) {
            bail!("{} has the {key} {old:?}, and this run {subject:?}: they cannot be compared", path.display());
        }
        let Some(entries) = report[list].as_array_mut().map(std::mem::take) else {
            bail!("{} has no list of {list}; it must be the JSON of the same command", path.display());
        };
        let mut numbers = BTreeMap::new();
        for entry in entries {
            let Some(name) = entry["name"].as_str().map(present_name) else {
                bail!("{}: one of the {list} has no name", path.display());
            };
            if let Some(value) = entry[value].as_f64() {
                let spread = match entry.get("spread_percent") {
                    Some(percent) => percent.as_f64().map(|percent| percent / 100.0),
                    None => Some(UNKNOWN_SPREAD),
                };
                numbers.insert(name, OldNumber { value, spread, entry });
            }
        }
        Ok(Self { numbers, report })
    }
}

/// Old against new.
#[derive(Serialize)]
pub(super) struct Comparison {
    /// Conditions that are not the same in both runs.
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
    /// The change that both spreads explain; `None` if one is unknown.
    #[serde(rename = "tolerance_percent", serialize_with = "as_percent")]
    tolerance: Option<f64>,
    /// Whether it got worse by more than that.
    slower: bool,
    /// Whether it got better by more than that.
    faster: bool,
    /// By how much more time it takes, as a share of the old.
    #[serde(skip)]
    slowdown: f64,
}

fn as_percent<S: serde::Serializer>(share: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    share.map(|share| 100.0 * share).serialize(serializer)
}

impl Compared {
    fn new(name: String, old: &OldNumber, new: f64, spread: Option<f64>, larger_is_better: bool) -> Self {
        let ratio = new / old.value;
        let tolerance = old.spread.zip(spread).map(|(old, new)| (old + new).max(DRIFT));
        let time = if larger_is_better { ratio.recip() } else { ratio };
        let exceeds = |change: f64| tolerance.is_some_and(|tolerance| change > tolerance);
        let (slower, faster) = (exceeds(time - 1.0), exceeds(time.recip() - 1.0));
        Self { name, old: old.value, new, ratio, tolerance, slower, faster, slowdown: time - 1.0 }
    }
}

impl Comparison {
    /// `report` is this run's JSON, and `new` its numbers. `is_selected` says of an old entry whether this run was to
    /// measure it.
    pub(super) fn new(
        Old { numbers: mut old, report: old_report }: Old,
        report: &Value,
        new: Vec<Entry>,
        is_selected: impl Fn(&Value) -> bool,
    ) -> Self {
        let mut differs = Vec::new();
        for condition in CONDITIONS {
            let (old, new) = (&old_report[condition], &report[condition]);
            if old != new && !old.is_null() && !new.is_null() {
                differs.push(format!("{condition}: {old} in the old run, {new} in this one"));
            }
        }
        let mut both = Vec::new();
        let mut only_new = Vec::new();
        for Entry { name, value, spread, larger_is_better } in new {
            let Some(value) = value else { continue };
            match old.remove(&name) {
                Some(old) => both.push(Compared::new(name, &old, value, spread, larger_is_better)),
                None => only_new.push(name),
            }
        }
        let only_old = old.into_iter().filter(|(_, old)| is_selected(&old.entry)).map(|(name, _)| name).collect();
        Self { differs, both, only_old, only_new }
    }

    pub(super) fn print(&self, format: Format) -> anyhow::Result<()> {
        let row = |compared: &Compared| {
            let &Compared { ref name, old, new, ratio, tolerance, slower, faster, .. } = compared;
            let mark = match (slower, faster, tolerance) {
                (true, ..) => "slower",
                (_, true, _) => "faster",
                (.., None) => "not judged",
                _ => "",
            };
            let [old, new, ratio] = [old, new, ratio].map(|value| number(Some(value), tolerance));
            vec![name.clone(), old, new, ratio, percent(tolerance, None), mark.to_owned()]
        };
        writeln!(std::io::stdout())?;
        let header = vec!["compared", "old", "new", "new/old", "tolerance", ""];
        Table { header, n_names: 1, rows: self.both.iter().map(row).collect() }.print(format)?;
        let mut lines = Vec::new();
        lines.extend(self.differs.iter().map(|difference| format!("not the same: {difference}")));
        lines.extend(self.only_old.iter().map(|name| format!("only in the old run: {name}")));
        lines.extend(self.only_new.iter().map(|name| format!("only in this run: {name}")));
        Ok(print_lines(&lines, format)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(old: (f64, Option<f64>), new: (f64, Option<f64>), larger_is_better: bool) -> Compared {
        let old = OldNumber { value: old.0, spread: old.1, entry: Value::Null };
        Compared::new(String::new(), &old, new.0, new.1, larger_is_better)
    }

    #[test]
    fn changes_count_beyond_both_spreads() {
        let verdict = |old, new, larger_is_better| {
            let Compared { slower, faster, .. } = compared(old, new, larger_is_better);
            (slower, faster)
        };
        let time = |new, spreads: [f64; 2]| verdict((100.0, Some(spreads[0])), (new, Some(spreads[1])), false);
        assert_eq!(time(109.0, [0.03, 0.05]), (true, false));
        assert_eq!(time(107.0, [0.03, 0.05]), (false, false));
        assert_eq!(time(91.0, [0.03, 0.05]), (false, true));
        assert_eq!(time(101.5, [0.0, 0.0]), (false, false), "clocks drift");
        assert_eq!(verdict((100.0, Some(0.01)), (80.0, Some(0.01)), true), (true, false), "a rate that fell");
        assert_eq!(verdict((100.0, None), (1000.0, Some(0.01)), false), (false, false), "one spread is unknown");
    }

    #[test]
    fn slowdowns_are_of_time() {
        let half_the_rate = compared((10.0, Some(0.0)), (5.0, Some(0.0)), true);
        let twice_the_time = compared((10.0, Some(0.0)), (20.0, Some(0.0)), false);
        assert_eq!((half_the_rate.slowdown, half_the_rate.ratio), (1.0, 0.5));
        assert_eq!((twice_the_time.slowdown, twice_the_time.ratio), (1.0, 2.0));
    }
}
