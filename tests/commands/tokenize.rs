//! `gptj tokenize`.

use serde_json::{Value, json};

use crate::common::program::{gptj, run, run_json};

#[test]
fn tokenize_goes_both_ways() {
    let text = "To be, or not to be?";
    let ids = "410,305,12,526,324,290,305,31";
    for (arguments, input, want) in [
        (&["tokenize", text][..], "", ids),
        (&["tokenize"], text, ids),
        (&["tokenize"], "To be, or not to be?\n", ids),
        (&["tokenize", "--decode", ids], "", text),
        (&["tokenize", "--decode", "[410, 305,\n12, 526, 324, 290, 305, 31]"], "", text),
        (&["tokenize", "--decode", "410 305 12 526 324 290 305 31"], "", text),
    ] {
        let (stdout, stderr) = run(gptj(arguments).write_stdin(input));
        assert_eq!(stdout, format!("{want}\n"), "{arguments:?}");
        assert_eq!(stderr, "", "{arguments:?}");
    }

    let want = json!({
        "ids": [410, 305, 12, 526, 324, 290, 305, 31],
        "tokens": ["To", "Ġbe", ",", "Ġor", "Ġnot", "Ġto", "Ġbe", "?"],
        "text": text,
    });
    for arguments in [&["tokenize", "--json", text][..], &["tokenize", "--json", "--decode", ids]] {
        assert_eq!(run_json::<Value>(&mut gptj(arguments)), want, "{arguments:?}");
    }
}
