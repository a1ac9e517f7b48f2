//! How far the numbers of `gptj bench` can be trusted: minimum, spread and number of runs, in JSON and in tables.

use serde_json::Value;

use crate::common::gpu::gpu;
use crate::common::program::{gptj, run, run_json};

/// The columns of a table by their headers.
fn cell<'a>(table: &'a str, line: &str, column: &str) -> &'a str {
    let lines: Vec<_> = table.lines().filter(|line| line.starts_with('|')).collect();
    let cells = |line: &'a str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    let place = cells(lines[0]).iter().position(|&header| header == column).expect(column);
    let found = lines.iter().find(|text| cells(text)[0] == line).unwrap_or_else(|| panic!("{line} in {table}"));
    cells(found)[place]
}

#[test]
fn kernels_have_minimum_spread_and_runs() {
    let Some(_) = gpu() else { return };
    let command = ["bench", "kernels", "--shapes", "tiny", "--rows", "1", "argmax"];
    let report: Value = run_json(gptj(&command).args(["-o", "json"]));
    let case = &report["cases"][0];
    let number = |key: &str| case[key].as_f64().unwrap_or_else(|| panic!("{key} in {case}"));
    assert!(0.0 < number("min_microseconds") && number("min_microseconds") <= number("microseconds"), "{case}");
    assert!(number("spread_percent") >= 0.0, "{case}");
    assert!((5.0..=25.0).contains(&number("runs")), "{case}");
    // Rates are of the median.
    let rate = number("bytes") / number("microseconds") / 1e3;
    assert!((rate / number("gb_per_second") - 1.0).abs() < 1e-9, "{case}");

    let (table, _) = run(gptj(&command).args(["-o", "md"]));
    let number = |column: &str| cell(&table, "argmax", column).trim_end_matches('%').parse::<f64>().expect(column);
    assert!(0.0 < number("min µs") && number("min µs") <= number("median µs"), "{table}");
    assert!(number("spread") >= 0.0 && number("runs") >= 5.0, "{table}");
    assert!(table.contains("spread: interquartile range of the runs / median"), "{table}");
}

#[test]
fn models_have_minimum_spread_and_runs() {
    let Some(_) = gpu() else { return };
    let command = ["bench", "model", "--synthetic", "tiny", "-p", "8", "-n", "0", "-r", "4"];
    let report: Value = run_json(gptj(&command).args(["-o", "json"]));
    let measurements = report["measurements"].as_array().expect("a list");
    let measured = |name: &str| measurements.iter().find(|measured| measured["name"] == name).expect(name);
    let prompt = measured("prefill of 8");
    assert!(prompt["min"].as_f64() > Some(0.0) && prompt["min"].as_f64() <= prompt["value"].as_f64(), "{prompt}");
    assert!(prompt["spread_percent"].as_f64() >= Some(0.0) && prompt["runs"] == 4, "{prompt}");
    // One run has no spread, and a count is exact.
    let once = measured("time to first token");
    assert!(once["runs"] == 1 && once["spread_percent"].is_null(), "{once}");
    let count = measured("launches a token");
    assert!(count["runs"].is_null() && count["spread_percent"].is_null(), "{count}");

    let (table, _) = run(gptj(&command).args(["-o", "md"]));
    assert_eq!(cell(&table, "prefill of 8", "runs"), "4");
    assert!(cell(&table, "prefill of 8", "spread").ends_with('%'), "{table}");
    assert_eq!(cell(&table, "time to first token", "spread"), "-");
}
