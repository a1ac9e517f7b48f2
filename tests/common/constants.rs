//! Values for the shaders' override constants where no model is at hand: those of a GPT-J-6B.

/// The constants that a stitched shader declares, with values.
pub fn constants_of(text: &str) -> Vec<(&'static str, f64)> {
    CONSTANTS.into_iter().filter(|(name, _)| text.contains(&format!("override {name}:"))).collect()
}

const CONSTANTS: [(&str, f64); 23] = [
    ("EPS", 1e-5),
    ("FIRST_OUT", 0.0),
    ("FIRST_ROW", 0.0),
    ("FIRST_TOKEN", 0.0),
    ("HEAD_DIM", 256.0),
    ("IN", 4096.0),
    ("N_EMBD", 4096.0),
    ("NEEDLE", 1.0),
    ("N_HEAD", 16.0),
    ("N_LOADS", 33_554_432.0),
    ("N_POSITIONS", 2048.0),
    ("N_ROWS", 4096.0),
    ("N_SPLITS", 8.0),
    ("N_TOKENS", 50_400.0),
    ("OUT", 16_384.0),
    ("OUT_WIDTH", 16_384.0),
    ("ROTARY_DIM", 64.0),
    ("ROUNDS", 64.0),
    ("SCALE", 1.0 / 16.0),
    ("SPLIT", 256.0),
    ("VOCAB_SIZE", 50_400.0),
    ("WG_SIZE", 64.0),
    ("WIDTH", 4096.0),
];
