//! Results as Markdown: which steps passed, the engine beside PyTorch, and every measurement as a table.
//!
//! The comparison knows what it compares. All else is shown as it came, whatever its form.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::{PASSED, Report};

pub(super) fn markdown(report: &Report) -> String {
    let device = report.adapter["name"].as_str().unwrap_or("No GPU");
    let mut text = format!(
        "# {device}\n\ngptj {}; written by `cargo xtask gpu-report` from the file of the same name that ends in .json.\n\n",
        report.version
    );
    text += &show("The GPU", &report.adapter);

    let steps = report.steps.iter().map(|step| {
        let seconds = format!("{:.1}", step.seconds);
        [step.name.clone(), step.outcome.clone(), seconds, step.date.clone(), format!("`{}`", step.command)].to_vec()
    });
    text += &table("Steps", &["step", "outcome", "seconds", "date", "command"], &steps.collect::<Vec<_>>());

    let starts = ["start-cold", "start-warm"].into_iter().filter_map(|step| {
        let timings = report.result(step).get("timings")?;
        Some(vec![step.to_owned(), cell(&timings["load_seconds"]), cell(&timings["first_token_seconds"])])
    });
    let header = ["built-in model", "seconds to load it", "seconds to the first token"];
    text += &table("Starting, without and with kept pipelines", &header, &starts.collect::<Vec<_>>());
    text += &comparison(["model", "pytorch", "pytorch-graph"].map(|step| report.result(step)));
    for (step, title) in [
        ("model", "GPT-J-6B"),
        ("plan", "A token's step, for the host"),
        ("tune", "Configurations of the matmuls with few rows"),
        ("kernels", "Kernels"),
        ("pytorch", "PyTorch"),
        ("pytorch-graph", "PyTorch as a CUDA graph"),
    ] {
        text += &show(title, report.result(step));
    }
    for step in report.steps.iter().filter(|step| step.outcome != PASSED && !step.output.is_empty()) {
        // A fence that is longer than any in the text.
        let _ =
            write!(text, "## {}: {}\n\n``````text\n{}\n``````\n\n", step.name, step.outcome, step.output.trim_end());
    }
    text.trim_end().to_owned() + "\n"
}

/// Whatever PyTorch measured, plain and as a CUDA graph, beside what the engine measured under the same name.
fn comparison(results: [&Value; 3]) -> String {
    let measurements = |result: &Value| result["measurements"].as_array().cloned().unwrap_or_default();
    let [ours, plain, graph] = results.map(measurements);
    let mut names: Vec<_> = Vec::new();
    for measurement in plain.iter().chain(&graph) {
        let name = (&measurement["name"], &measurement["unit"]);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let row = |&(name, unit): &(&Value, &Value)| {
        let find = |measurements: &[Value]| {
            let found = measurements.iter().find(|found| (&found["name"], &found["unit"]) == (name, unit));
            found.and_then(|found| found["value"].as_f64())
        };
        let [ours, plain, graph] = [&ours, &plain, &graph].map(|measurements| find(measurements));
        let shown = |value: Option<f64>| value.map_or_else(String::new, number);
        let beside = |theirs: Option<f64>| shown(ours.zip(theirs).map(|(ours, theirs)| ours / theirs));
        vec![cell(name), cell(unit), shown(ours), shown(plain), beside(plain), shown(graph), beside(graph)]
    };
    let header = ["batch 1, f16", "unit", "gptj", "PyTorch", "gptj / it", "PyTorch's CUDA graph", "gptj / it"];
    table("Beside PyTorch", &header, &names.iter().map(row).collect::<Vec<_>>())
}

/// Any JSON: what is single as a list, each list of objects as a table of its own.
fn show(title: &str, value: &Value) -> String {
    let Value::Object(object) = value else {
        return match value {
            Value::Array(entries) => entry_table(title, entries),
            _ => String::new(),
        };
    };
    let is_nested = |value: &Value| match value {
        Value::Object(_) => true,
        Value::Array(entries) => entries.iter().any(Value::is_object),
        _ => false,
    };
    let rows: Vec<_> = object.iter().filter(|(_, value)| !value.is_null() && !is_nested(value)).collect();
    let rows: Vec<_> = rows.into_iter().map(|(key, value)| vec![key.clone(), cell(value)]).collect();
    let mut text = table(title, &["", ""], &rows);
    for (key, value) in object.iter().filter(|(_, value)| is_nested(value)) {
        text += &show(&format!("{title}: {}", key.replace('_', " ")), value);
    }
    text
}

/// A table of objects, a column for each key that any of them has a value for; names come first.
fn entry_table(title: &str, entries: &[Value]) -> String {
    let entries: Vec<Map<_, _>> = entries.iter().map(flat).collect();
    let mut header: Vec<&str> = Vec::new();
    for (key, value) in entries.iter().flatten() {
        if !value.is_null() && !header.contains(&key.as_str()) {
            header.push(key);
        }
    }
    header.sort_by_key(|&key| key != "name");
    let row =
        |entry: &Map<String, Value>| header.iter().map(|&key| entry.get(key).map_or_else(String::new, cell)).collect();
    table(title, &header, &entries.iter().map(row).collect::<Vec<_>>())
}

/// The object with the keys of objects in it joined to their own; anything else under the key `value`.
fn flat(value: &Value) -> Map<String, Value> {
    let Value::Object(object) = value else { return Map::from_iter([("value".to_owned(), value.clone())]) };
    let mut flattened = Map::new();
    for (key, value) in object {
        if value.is_object() {
            flattened.extend(flat(value).into_iter().map(|(inner, value)| (format!("{key} {inner}"), value)));
        } else {
            flattened.insert(key.clone(), value.clone());
        }
    }
    flattened
}

/// Nothing at all where there is no row.
fn table(title: &str, header: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let line = |cells: &[String]| {
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let header: Vec<_> = header.iter().map(|name| name.replace('_', " ")).collect();
    let rules = "|---".repeat(header.len()) + "|\n";
    let rows: String = rows.iter().map(|row| line(row)).collect();
    format!("## {title}\n\n{}{rules}{rows}\n", line(&header))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(", "),
        // Counts are exact; only measurements have a point.
        Value::Number(exact) if exact.is_f64() => exact.as_f64().map_or_else(String::new, number),
        other => other.to_string(),
    }
}

/// Four digits, and no fewer before the point than there are.
fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let digits = 3 - value.abs().log10().floor() as i32;
    format!("{value:.*}", digits.clamp(0, 12) as usize)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Step;
    use super::*;

    fn step(name: &str, outcome: &str, result: Value) -> Step {
        let [command, output] = ["a | b", "what it said\n"].map(str::to_owned);
        let [name, outcome] = [name, outcome].map(str::to_owned);
        Step { name, command, date: "2026-11-24".to_owned(), outcome, seconds: 1.25, result, output }
    }

    #[test]
    fn a_report_compares_and_shows_and_names_what_failed() {
        let measured =
            |value: f64| json!({"measurements": [{"name": "prefill of 8", "unit": "tok/s", "value": value}]});
        let report = Report {
            version: "abc".to_owned(),
            adapter: json!({"name": "A GPU", "subgroups": [8, 32], "memory": 1_000_000_000_000_u64}),
            steps: vec![
                step("model", PASSED, measured(50.0)),
                step("pytorch", PASSED, measured(40.0)),
                step(
                    "kernels",
                    "exit status: 1",
                    json!([{"fault": null, "name": "embed", "best": {"time": 0.000_123_456}}, {"other": 1}]),
                ),
            ],
        };
        let text = markdown(&report);
        for part in [
            "# A GPU\n",
            "| subgroups | 8, 32 |\n",
            "| memory | 1000000000000 |\n",
            "| prefill of 8 | tok/s | 50.00 | 40.00 | 1.250 |  |  |\n",
            "| model | passed | 1.2 | 2026-11-24 | `a \\| b` |\n",
            "| name | best time | other |\n|---|---|---|\n| embed | 0.0001235 |  |\n|  |  | 1 |\n",
            "## kernels: exit status: 1\n\n``````text\nwhat it said\n``````\n",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn a_report_without_any_result_is_still_one() {
        let report = Report { version: String::new(), adapter: Value::Null, steps: Vec::new() };
        assert!(markdown(&report).starts_with("# No GPU\n"));
    }
}
