//! The table of angles for rotary position embedding.

use gptj_checkpoint::Config;

/// The cosine and sine of every position's angles, `position / 10000^(2i / rotary_dim)`: (n_positions, rotary_dim / 2)
/// pairs.
///
/// As in Hugging Face's `create_sinusoidal_positions` (modeling_gptj.py), the angle is an f32 product of f32 factors.
pub fn rotary_angles(config: &Config, n_positions: usize) -> Vec<[f32; 2]> {
    let frequencies: Vec<f32> = (0..config.rotary_dim)
        .step_by(2)
        .map(|i| 1.0 / Config::ROTARY_BASE.powf(i as f32 / config.rotary_dim as f32))
        .collect();
    (0..n_positions)
        .flat_map(|position| frequencies.iter().map(move |frequency| position as f32 * frequency))
        .map(|angle| [angle.cos(), angle.sin()])
        .collect()
}
