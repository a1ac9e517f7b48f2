//! Results, as a table, as Markdown, as CSV or as JSON.

use std::time::SystemTime;

use clap::Args;
use gptj::Gpu;
use serde_json::{Map, Value, json};

use super::compare::Comparison;
use super::table::{Format, Table, print_lines};
use crate::cli::{json, out, print_json};

#[derive(Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArguments {
    /// How to print the results.
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    output: Format,

    /// The same as --output json.
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

impl OutputArguments {
    pub(super) fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }
}

/// A command's results.
pub(super) struct Report {
    /// All of them.
    pub(super) json: Value,
    /// The key of the measurements in `json`.
    pub(super) list: &'static str,
    pub(super) table: Table,
    /// The lines below the table.
    pub(super) footer: Vec<String>,
    pub(super) comparison: Option<Comparison>,
}

impl Report {
    pub(super) fn print(mut self, format: Format) -> anyhow::Result<()> {
        if let Some(comparison) = &self.comparison {
            self.json["comparison"] = serde_json::to_value(comparison)?;
        }
        match format {
            Format::Json => return print_json(&self.json),
            Format::Csv => return print_csv(&self.json, self.list),
            Format::Table | Format::Md => (),
        }
        self.table.print(format)?;
        print_lines(&self.footer, format)?;
        self.comparison.map_or(Ok(()), |comparison| comparison.print(format))
    }
}

/// A line for each measurement: its own fields, its name first, then those of the comparison, then those of the run.
fn print_csv(report: &Value, list: &str) -> anyhow::Result<()> {
    // A report without a list is one line.
    let entries = report[list].as_array().map_or_else(|| vec![json!({})], Vec::clone);
    let compared = report["comparison"]["both"].as_array().map_or(&[][..], Vec::as_slice);
    let of_run = fields("", report);
    let line = |entry: &Value| {
        let mut line = fields("", entry);
        line.sort_by_key(|(key, _)| key != "name");
        if !report["comparison"].is_null() {
            let old = compared.iter().find(|compared| compared["name"] == entry["name"]).unwrap_or(&Value::Null);
            let keys = ["old", "ratio", "tolerance_percent", "slower"];
            line.extend(keys.map(|key| (format!("comparison.{key}"), cell(&old[key]))));
        }
        line.extend(of_run.iter().cloned());
        line
    };
    let lines: Vec<Vec<(String, String)>> = entries.iter().map(line).collect();
    let mut writer = csv::Writer::from_writer(out());
    if let Some(first) = lines.first() {
        writer.write_record(first.iter().map(|(key, _)| key))?;
    }
    for line in &lines {
        writer.write_record(line.iter().map(|(_, value)| value))?;
    }
    Ok(writer.flush()?)
}

/// The fields of an object but lists; fields of nested objects have both keys: `ceilings.read_gb_per_second`.
fn fields(prefix: &str, object: &Value) -> Vec<(String, String)> {
    let of_key = |(key, value): (&String, &Value)| match value {
        Value::Array(_) => Vec::new(),
        Value::Object(_) if key == "comparison" => Vec::new(),
        Value::Object(_) => fields(&format!("{prefix}{key}."), value),
        Value::Null if key == "comparison" => Vec::new(),
        value => vec![(format!("{prefix}{key}"), cell(value))],
    };
    object.as_object().into_iter().flat_map(Map::iter).flat_map(of_key).collect()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// The JSON of a report: the program, the device, and `more`.
pub(super) fn report(gpu: &Gpu, more: Value) -> Value {
    let mut report = json!({
        "version": env!("CARGO_PKG_VERSION"),
        // The commit that a release build was built from, if in a git checkout.
        "commit": option_env!("GPTJ_COMMIT"),
        "date": humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        "adapter": gpu.info().to_string(),
        "driver": gpu.info().driver,
    });
    if let (Some(report), Value::Object(more)) = (report.as_object_mut(), more) {
        report.extend(more);
    }
    json::exact(report)
}
