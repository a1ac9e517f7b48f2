//! Statistics of samples, and numbers with only the digits that their spread leaves certain.

/// Samples of one number, summarised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Statistics {
    pub(super) min: f64,
    pub(super) median: f64,
    /// The interquartile range divided by the median; `None` for a single sample.
    pub(super) spread: Option<f64>,
    /// The number of samples.
    pub(super) runs: usize,
}

impl Statistics {
    /// `None` if there are no samples.
    pub(super) fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, runs) = (sorted.first()?, sorted.len());
        let [lower, median, upper] = [0.25, 0.5, 0.75].map(|share| quantile(&sorted, share));
        Some(Self { min, median, spread: (runs > 1).then(|| (upper - lower) / median), runs })
    }
}

/// Between the two samples nearest to it, in proportion, as in numpy.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let index = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[index.floor() as usize], sorted[index.ceil() as usize]);
    below + (above - below) * index.fract()
}

/// A number with as many digits as its spread, a share of it, leaves certain, and three at most; `-` for none.
pub(super) fn number(value: Option<f64>, spread: Option<f64>) -> String {
    let Some(value) = value else { return "-".to_owned() };
    if value == 0.0 {
        return "0".to_owned();
    }
    // The place of the leading digit: 0 for units, 1 for tens.
    let place = |value: f64| value.abs().log10().floor() as i32;
    let rounded = |place: i32| (value / 10f64.powi(place)).round() * 10f64.powi(place);
    // 9.999 becomes 10.0.
    let leading = place(rounded(place(value) - 2));
    let uncertain = spread.filter(|&spread| spread > 0.0).map_or(i32::MIN, |spread| place(value * spread));
    let last = uncertain.clamp(leading - 2, leading);
    format!("{:.*}", last.min(0).unsigned_abs() as usize, rounded(last))
}

/// A spread that leaves two digits, for numbers whose own is unknown or not all of their error.
pub(super) const TWO_DIGITS: f64 = 0.1;

/// A share with this spread, as a percentage of two digits at most; `-` for none.
pub(super) fn percent(share: Option<f64>, spread: Option<f64>) -> String {
    let spread = spread.map_or(TWO_DIGITS, |spread| spread.max(TWO_DIGITS));
    share.map_or_else(|| "-".to_owned(), |share| format!("{}%", number(Some(100.0 * share), Some(spread))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quartiles as `numpy.quantile` gives them.
    #[test]
    fn samples_are_summarised() {
        assert_eq!(Statistics::of([]), None);
        assert_eq!(Statistics::of([7.0]), Some(Statistics { min: 7.0, median: 7.0, spread: None, runs: 1 }));
        let odd = Statistics::of([4.0, 2.0, 10.0, 3.0, 5.0]).expect("samples");
        assert_eq!(odd, Statistics { min: 2.0, median: 4.0, spread: Some(0.5), runs: 5 });
        let even = Statistics::of([1.0, 2.0, 4.0, 8.0]).expect("samples");
        assert_eq!(even, Statistics { min: 1.0, median: 3.0, spread: Some((5.0 - 1.75) / 3.0), runs: 4 });
    }

    #[test]
    fn uncertain_digits_are_not_printed() {
        for (value, spread, printed) in [
            (123.4, None, "123"),
            (123.4, Some(0.001), "123"),
            (123.4, Some(0.2), "120"),
            (12_345.0, Some(0.001), "12300"),
            (5.234, Some(0.03), "5.2"),
            (5.234, Some(0.001), "5.23"),
            (5.234, Some(3.0), "5"),
            (0.076_54, Some(0.02), "0.077"),
            (0.076_54, Some(0.0), "0.0765"),
            (99.96, Some(0.05), "100"),
            (9.999, None, "10.0"),
            (0.0, Some(0.1), "0"),
        ] {
            assert_eq!(number(Some(value), spread), printed, "{value} {spread:?}");
        }
        assert_eq!(number(None, Some(0.1)), "-");
        let shares = [Some(0.0042), Some(0.126), Some(1.54), None].map(|share| percent(share, None));
        assert_eq!(shares, ["0.42%", "13%", "150%", "-"]);
        assert_eq!(percent(Some(0.126), Some(0.9)), "10%");
    }
}
