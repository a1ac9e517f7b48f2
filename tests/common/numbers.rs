//! Numbers to compute with, and how near to each other they must be.

/// What a number of a model's stage, its logits included, may be off by where the reference computes in f32: of the
/// stage's largest number.
///
/// The engine rounds the cache's keys and values to f16, to 2^-11 of each or to 2^-10 where a driver rounds towards
/// zero, and sums in another order, which is some 2^-20. A block adds to the stream a mixture of rounded values and an
/// MLP's answer to it: twice 2^-10, for passing through up to five blocks.
pub const STAGE_TOLERANCE: f32 = 1.0 / 512.0;

/// `count` numbers between -1 and 1 that f16 holds exactly: multiples of 1/64, from a formula. Different `seed`s give
/// different numbers.
pub fn numbers(seed: u32, count: usize) -> Vec<f32> {
    let number = |i: u32| {
        // Enough to leave no pattern that a wrong index would reproduce.
        let mut bits = i.wrapping_mul(0x9E37_79B9) ^ seed.wrapping_mul(0x85EB_CA6B);
        bits = (bits ^ (bits >> 15)).wrapping_mul(0x2C1B_3C6D);
        bits ^= bits >> 13;
        (bits % 129) as f32 / 64.0 - 1.0
    };
    (0..count as u32).map(number).collect()
}

/// The largest magnitude.
pub fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0f32, |largest, value| largest.max(value.abs()))
}

/// Fails where a number differs from the wanted one by more than `absolute + relative * |wanted|`, and shows the first
/// ten that do.
pub fn assert_close(what: &str, got: &[f32], want: &[f32], absolute: f32, relative: f32) {
    assert_eq!(got.len(), want.len(), "{what}: as many numbers as wanted");
    let differs = |(_, (got, want)): &(usize, (&f32, &f32))| {
        let error = (*got - *want).abs();
        error.is_nan() || error > absolute + relative * want.abs()
    };
    let wrong: Vec<_> = got.iter().zip(want).enumerate().filter(differs).collect();
    if !wrong.is_empty() {
        let shown: Vec<_> =
            wrong.iter().take(10).map(|(i, (got, want))| format!("  [{i}] {got}, not {want}")).collect();
        panic!("{what}: {} of {} numbers are wrong\n{}", wrong.len(), got.len(), shown.join("\n"));
    }
}

/// The largest difference.
pub fn difference(got: &[f32], want: &[f32]) -> f32 {
    got.iter().zip(want).fold(0f32, |most, (got, want)| most.max((got - want).abs()))
}

/// Fails where a number differs from the wanted one by more than `tolerance` of the largest wanted. Prints and returns
/// the largest difference, as a part of that largest.
pub fn assert_close_to_largest(what: &str, got: &[f32], want: &[f32], tolerance: f32) -> f32 {
    let largest = largest(want);
    assert_close(what, got, want, tolerance * largest, 0.0);
    let difference = difference(got, want) / largest;
    println!("{what}: off by at most {difference:.1e} of the largest number, {largest}");
    difference
}
