//! The forms in which `gptj bench` prints: a table, Markdown, CSV, JSON, a plot.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::common::gpu::gpu;
use crate::common::program::{finish, gptj, run, run_json};

#[path = "../../build.rs"]
#[expect(dead_code, reason = "only the part that asks git")]
mod build_script;

const KERNELS: [&str; 7] = ["bench", "kernels", "--shapes", "tiny", "--rows", "1,2", "argmax"];

#[test]
fn markdown_aligns_numbers() {
    let Some(_) = gpu() else { return };
    let (text, _) = run(gptj(&KERNELS).args(["--output", "md"]));
    let lines: Vec<_> = text.lines().collect();
    let cells = |line: &'static str| line.trim_matches('|').split('|').count();
    assert_eq!(lines[0].matches('|').count(), lines[1].matches('|').count());
    let rules: Vec<_> = lines[1].trim_matches('|').split('|').collect();
    assert_eq!(rules.len(), cells("|kernel|shape|product|rows|positions|min|median|spread|runs|GB/s|read|FLOP/s|fma|"));
    let aligned = |rule: &&str| rule.trim_end_matches(':').chars().all(|c| c == '-');
    assert!(rules.iter().all(aligned), "{text}");
    assert!(rules[..3].iter().all(|rule| !rule.ends_with(':')) && rules[3..].iter().all(|rule| rule.ends_with(':')));
    assert!(lines[2].starts_with("| argmax | 1000 ") && lines[3].starts_with("| argmax | 1000 "), "{text}");
    assert_eq!(lines[4], "", "the table ends before what follows");
    assert!(lines[5].starts_with("- ") && text.contains("- ceilings: read "), "{text}");
}

#[test]
fn csv_has_a_line_for_each_measurement() {
    let Some(_) = gpu() else { return };
    let report: Value = run_json(gptj(&KERNELS).args(["-o", "json"]));
    let (text, _) = run(gptj(&KERNELS).args(["-o", "csv"]));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let headers: Vec<String> = reader.headers().expect("headers").iter().map(str::to_owned).collect();
    let records: Vec<_> = reader.records().map(|record| record.expect("as wide as the headers")).collect();
    let value = |line: usize, column: &str| {
        let place =
            headers.iter().position(|header| header == column).unwrap_or_else(|| panic!("{column}: {headers:?}"));
        records[line][place].to_owned()
    };
    assert_eq!((headers[0].as_str(), records.len()), ("name", 2));
    assert_eq!([value(0, "name"), value(1, "name")], ["argmax 1000, rows 1", "argmax 1000, rows 2"]);
    for column in ["adapter", "driver", "version", "shapes", "clock"] {
        assert_eq!(value(1, column), report[column].as_str().expect("a text"), "{column}");
    }
    for column in ["microseconds", "min_microseconds", "spread_percent", "ceilings.read_gb_per_second"] {
        assert!(value(1, column).parse::<f64>().is_ok_and(|number| number >= 0.0), "{column}");
    }
    assert_eq!(
        (value(1, "rows").as_str(), value(1, "correct").as_str(), value(1, "fault").as_str()),
        ("2", "true", "")
    );

    let (text, _) = run(&mut gptj(&["bench", "plan", "--shapes", "tiny", "-o", "csv"]));
    assert_eq!(text.lines().count(), 2, "a plan is one line: {text}");
}

#[test]
fn json_has_two_names_and_tables_are_the_default() {
    let Some(_) = gpu() else { return };
    let [long, short]: [Value; 2] =
        [&["--json"][..], &["-o", "json"]].map(|option| run_json(gptj(&KERNELS).args(option)));
    let keys = |report: &Value| report.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&long), keys(&short));
    let (table, _) = run(&mut gptj(&KERNELS));
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("kernel") && lines[1].starts_with("---") && lines[2].starts_with("argmax"), "{table}");

    for (arguments, word) in [(&["--json", "-o", "md"][..], "--output"), (&["-o", "xml"], "xml")] {
        let (code, _, message) = finish(gptj(&KERNELS).args(arguments));
        assert!(code == 2 && message.contains(word), "{arguments:?}: {message}");
    }
}

#[test]
fn reports_say_where_and_when_they_were_made() {
    let Some(gpu) = gpu() else { return };
    let report: Value = run_json(&mut gptj(&["bench", "plan", "--shapes", "tiny", "--json"]));
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(report["driver"], gpu.info().driver);
    assert_eq!(report["adapter"], gpu.info().to_string());
    let date = humantime::parse_rfc3339(report["date"].as_str().expect("a date")).expect("ISO 8601");
    let age = SystemTime::now().duration_since(date).expect("in the past");
    assert!(age < Duration::from_secs(60), "{age:?}");
    let is_commit = |commit: &str| commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit());
    assert!(report["commit"].is_null() || report["commit"].as_str().is_some_and(is_commit), "{}", report["commit"]);
}

/// The build asks git, but only about the package's own repository.
#[test]
fn commits_are_those_of_the_checkout() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    assert_eq!(build_script::commit(directory.path()), None, "no checkout");
    let git = |arguments: &[&str]| {
        let who = ["-c", "user.name=Somebody", "-c", "user.email=somebody@localhost"];
        let output = Command::new("git").arg("-C").arg(directory.path()).args(who).args(arguments).output().ok()?;
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        Some(String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned())
    };
    if git(&["init", "--quiet"]).is_none() {
        return eprintln!("SKIPPED, nothing was tested: git is not installed");
    }
    assert_eq!(build_script::commit(directory.path()), None, "no commit yet");
    git(&["commit", "--quiet", "--allow-empty", "-m", "Begin"]);
    let commit = git(&["rev-parse", "HEAD"]);
    assert_eq!(build_script::commit(directory.path()), commit);
    assert_eq!(commit.map(|commit| commit.len()), Some(40));
    let vendored = directory.path().join("vendor");
    std::fs::create_dir(&vendored).expect("a directory");
    assert_eq!(build_script::commit(&vendored), None, "another project's repository");
}

/// A run that fails leaves an earlier plot as it was, and nothing beside it.
#[test]
fn plots_are_whole_or_not_there() {
    let Some(_) = gpu() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("plot.svg");
    let plot = path.to_str().expect("UTF-8");
    let files = || std::fs::read_dir(directory.path()).expect("a directory").count();
    std::fs::write(&path, "an earlier plot").expect("a file");
    let (code, _, _) = finish(&mut gptj(&["bench", "kernels", "--shapes", "tiny", "no such case", "--plot", plot]));
    assert_eq!((code, std::fs::read_to_string(&path).expect("a file").as_str(), files()), (1, "an earlier plot", 1));

    run(&mut gptj(&["bench", "kernels", "--shapes", "tiny", "--rows", "1", "layer_norm", "--plot", plot]));
    let svg = std::fs::read_to_string(&path).expect("a file");
    assert_eq!(files(), 1);
    let texts: Vec<_> = svg.lines().collect();
    for text in ["arithmetic intensity (FLOP/byte)", "layer_norm 256", "layer_norm_outputs 256"] {
        assert!(texts.contains(&text), "{text} in {svg}");
    }
    assert!(svg.contains("prefers-color-scheme: dark"), "it suits dark pages");

    let folder = directory.path().join("folder");
    std::fs::create_dir(&folder).expect("a directory");
    let here = |path: &Path| finish(&mut gptj(&["bench", "kernels", "--plot", path.to_str().expect("UTF-8")]));
    let (code, _, message) = here(&folder);
    assert!(code == 1 && message.contains("it is a directory"), "{message}");
}
