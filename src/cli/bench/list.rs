//! Lists of numbers on the command line, as llama-bench takes them: `1,8`, `1-4`, `0-512+128` and `1-64*2`.

use std::ops::RangeInclusive;

/// One item of a list: a number, or a range of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item(Vec<usize>);

/// Reads an item whose numbers are within `allowed`.
pub(super) fn item(allowed: RangeInclusive<usize>) -> impl Fn(&str) -> Result<Item, String> + Clone {
    let number = move |text: &str| match text.parse() {
        Ok(number) if allowed.contains(&number) => Ok(number),
        Ok(number) => Err(format!("{number} is not in {}..={}", allowed.start(), allowed.end())),
        Err(_) => Err(format!("{text:?} is not a number of 0 or more")),
    };
    move |text: &str| {
        let Some((first, rest)) = text.split_once('-').filter(|(first, _)| !first.is_empty()) else {
            return Ok(Item(vec![number(text)?]));
        };
        let (last, step) = match rest.split_once(['+', '*']) {
            Some((last, step)) => (last, Some(step.parse().map_err(|_| format!("{step:?} is not a number"))?)),
            None => (rest, None),
        };
        let (first, last): (usize, usize) = (number(first)?, number(last)?);
        let next: Box<dyn Fn(usize) -> usize> = match (rest.contains('*'), step) {
            (true, Some(factor)) => Box::new(move |number: usize| number.saturating_mul(factor)),
            (_, step) => Box::new(move |number: usize| number.saturating_add(step.unwrap_or(1))),
        };
        if first > last || next(first) <= first {
            return Err("a range goes upwards: FIRST-LAST, FIRST-LAST+STEP or FIRST-LAST*FACTOR".to_owned());
        }
        Ok(Item(
            std::iter::successors(Some(first), |&number| Some(next(number)).filter(|&next| next <= last)).collect(),
        ))
    }
}

/// All numbers of a list, each once.
pub(super) fn numbers(items: &[Item]) -> Vec<usize> {
    let mut numbers = Vec::new();
    for &number in items.iter().flat_map(|Item(numbers)| numbers) {
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_llama_bench() {
        let read = |text: &str| item(0..=4096)(text).map(|item| numbers(&[item]));
        assert_eq!(read("7"), Ok(vec![7]));
        assert_eq!(read("1-4"), Ok(vec![1, 2, 3, 4]));
        assert_eq!(read("0-512+128"), Ok(vec![0, 128, 256, 384, 512]));
        assert_eq!(read("1-20*3"), Ok(vec![1, 3, 9]));
        for wrong in ["", "x", "-1", "4-1", "1-", "1-9+0", "1-9*1", "0-9*2", "1-9+x", "4097", "1-5000"] {
            assert!(read(wrong).is_err(), "{wrong:?}: {:?}", read(wrong));
        }
        assert_eq!(numbers(&[Item(vec![8, 1]), Item(vec![1, 2])]), [8, 1, 2]);
    }
}
