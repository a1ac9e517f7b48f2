//! What `cargo bench` hands to the program.

#[path = "../../benches/program/mod.rs"]
#[expect(dead_code, reason = "starting the program is for the benchmarks")]
mod program;

#[test]
fn arguments_reach_the_program() {
    let arguments = |given: &[&str]| program::arguments(given.iter().map(|&argument| argument.to_owned()));
    let wanted = ["block_in", "--shapes", "tiny"].map(str::to_owned).to_vec();
    assert_eq!(arguments(&["block_in", "--shapes", "tiny", "--bench"]), Some(wanted));
    assert_eq!(arguments(&["--bench"]), Some(Vec::new()));
    // As `cargo test --benches` starts it.
    assert_eq!(arguments(&[]), None);
    assert_eq!(arguments(&["block_in"]), None);
}
