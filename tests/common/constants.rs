//! Values for the shaders' override constants where no model is at hand: those of a GPT-J-6B.

/// The constants that a stitched shader declares, with values.
pub fn constants_of(text: &str) -> Vec<(&'static str, f64)> {
    CONSTANTS.into_iter().filter(|(name, _)| text.contains(&format!("override {name}:"))).collect()
}

const CONSTANTS: [(&str, f64); 36] = [
    ("B_PANEL", 0.0),
    ("DEPTH", 2.0),
    ("EMBD_QUADS", 1024.0),
    ("EPS", 1e-5),
    ("FIRST_PANEL", 0.0),
    ("FIRST_ROW", 0.0),
    ("FIRST_TOKEN", 0.0),
    ("HEAD_DIM", 256.0),
    ("INNER_QUADS", 4096.0),
    ("INPUT_QUADS", 1024.0),
    ("IN_GROUPS", 512.0),
    ("LANE_POSITIONS", 1.0),
    ("LANE_ROWS", 8.0),
    ("NEEDLE", 1.0),
    ("N_EMBD", 4096.0),
    ("N_HEAD", 16.0),
    ("N_LOADS", 33_554_432.0),
    ("N_POSITIONS", 2048.0),
    ("N_ROWS", 4096.0),
    ("N_SHARES", 2.0),
    ("N_SLOTS", 1.0),
    ("N_SPLITS", 32.0),
    ("N_TOKENS", 50_400.0),
    ("PANEL", 0.0),
    ("PANELS_0", 896.0),
    ("PANELS_1", 0.0),
    ("RANK", 16.0),
    ("ROTARY_DIM", 64.0),
    ("ROUNDS", 64.0),
    ("ROWS", 1.0),
    ("SCALE", 1.0 / 16.0),
    ("SPLIT", 64.0),
    ("VOCAB_QUADS", 12_600.0),
    ("VOCAB_SIZE", 50_400.0),
    ("WG_SIZE", 64.0),
    ("WIDTH", 4096.0),
];
