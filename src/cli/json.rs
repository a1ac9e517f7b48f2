//! JSON as the program prints it: lists of numbers on one line, and no number that other programs would round.

use std::io::Write;

use serde::Serialize;
use serde_json::Value;

use super::out;

/// Integers up to here are exact if numbers are f64, as in JavaScript.
const LARGEST_EXACT: u64 = 1 << 53;

/// Prints one JSON object or list, indented.
pub(crate) fn print_json(value: &Value) -> anyhow::Result<()> {
    Ok(writeln!(out(), "{}", pretty(value))?)
}

/// The same as text.
pub(crate) fn pretty(value: &Value) -> String {
    let mut text = String::new();
    write_value(&mut text, value, 0);
    text
}

/// Prints one JSON object on a line.
pub(crate) fn print_json_line(value: &Value) -> anyhow::Result<()> {
    Ok(writeln!(out(), "{value}")?)
}

/// A seed: a number, or a string if other programs would round it.
pub(crate) fn seed(seed: u64) -> Value {
    if seed > LARGEST_EXACT { seed.to_string().into() } else { seed.into() }
}

/// A value with floats as short as their own type allows: 0.9 for an f32, and not its 0.8999999761581421 as an f64.
pub(crate) fn shortest(value: &impl Serialize) -> serde_json::Result<Value> {
    serde_json::from_str(&serde_json::to_string(value)?)
}

/// A value with null for integers that other programs would round, which stand for "no limit".
pub(crate) fn exact(mut value: Value) -> Value {
    match &mut value {
        Value::Number(number) if number.as_u64().is_some_and(|number| number > LARGEST_EXACT) => return Value::Null,
        Value::Array(items) => items.iter_mut().for_each(|item| *item = exact(item.take())),
        Value::Object(fields) => fields.values_mut().for_each(|field| *field = exact(field.take())),
        _ => {}
    }
    value
}

fn write_value(text: &mut String, value: &Value, depth: usize) {
    let is_number = |value: &Value| value.is_number() || value.is_null();
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let fields = fields.iter().map(|(name, value)| (format!("{}: ", Value::from(name.as_str())), value));
            write_items(text, ['{', '}'], fields, depth);
        }
        Value::Array(items) if items.iter().all(is_number) => {
            let numbers: Vec<_> = items.iter().map(Value::to_string).collect();
            *text += &format!("[{}]", numbers.join(", "));
        }
        Value::Array(items) => write_items(text, ['[', ']'], items.iter().map(|item| (String::new(), item)), depth),
        simple => *text += &simple.to_string(),
    }
}

/// A line for each item.
fn write_items<'a>(
    text: &mut String,
    [open, close]: [char; 2],
    items: impl Iterator<Item = (String, &'a Value)>,
    depth: usize,
) {
    text.push(open);
    for (index, (name, value)) in items.enumerate() {
        *text += if index > 0 { ",\n" } else { "\n" };
        *text += &"  ".repeat(depth + 1);
        *text += &name;
        write_value(text, value, depth + 1);
    }
    *text += &format!("\n{}{close}", "  ".repeat(depth));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_of_numbers_stay_on_a_line_and_the_rest_is_indented() {
        let value = json!({"a\"b": [1, -2.5, null], "c": [[1, 2], [3]], "d": ["x"], "e": [], "f": {}});
        let text = pretty(&value);
        let expected = concat!(
            "{\n  \"a\\\"b\": [1, -2.5, null],\n  \"c\": [\n    [1, 2],\n    [3]\n  ],\n",
            "  \"d\": [\n    \"x\"\n  ],\n  \"e\": [],\n  \"f\": {}\n}",
        );
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Value>(&text).expect("it is JSON"), value);
    }

    #[test]
    fn no_number_is_one_that_an_f64_rounds() {
        assert_eq!(seed(7), json!(7));
        assert_eq!(seed(u64::MAX), json!("18446744073709551615"));
        let limits = json!({ "a": [1_u64 << 53, u64::MAX], "b": { "c": u64::MAX, "d": 1e300, "e": -1 }, "f": "x" });
        let printed = json!({ "a": [1_u64 << 53, null], "b": { "c": null, "d": 1e300, "e": -1 }, "f": "x" });
        assert_eq!(exact(limits), printed);
    }
}
