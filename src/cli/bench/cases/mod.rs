//! The cases: every kernel of the forward pass at the shapes of a block, one function per family.

mod attention;
mod ceilings;
mod matmuls;
mod rows;

use gptj::internals::gpu::{Dispatch, Plan};
use gptj::internals::kernels::{KernelVariant, Matmul, SPLIT_ROWS, StepSize, TILE_ROWS, Tuning};
use gptj::{Config, Gpu, Result};
use serde_json::Value;

pub(super) use self::ceilings::ceilings;
pub(super) use self::matmuls::{block_in, block_out};
use super::workbench::{Work, Workbench};

/// A kernel on one shape.
pub(super) struct Case {
    pub(super) kernel: &'static str,
    /// The sizes that do not change with the step.
    pub(super) shape: String,
    /// How it multiplies, if it does.
    pub(super) matmul: Option<Matmul>,
    pub(super) rows: usize,
    /// The longest history of the step, if it matters.
    pub(super) positions: Option<usize>,
    pub(super) make: Make,
}

/// Makes the case; until then it takes no memory.
type Make = Box<dyn Fn(&mut Workbench) -> Result<Work>>;

impl Case {
    fn new(
        kernel: &'static str,
        shape: String,
        rows: usize,
        make: impl Fn(&mut Workbench) -> Result<Work> + 'static,
    ) -> Self {
        Self { kernel, shape, matmul: None, rows, positions: None, make: Box::new(make) }
    }

    /// The kernel, the shape and the matmul, which several cases may have in common.
    pub(super) fn series(&self) -> String {
        let matmul = self.matmul.map_or_else(String::new, |matmul| format!(" {}", matmul.name()));
        format!("{} {}{matmul}", self.kernel, self.shape)
    }

    /// A name that no other case has.
    pub(super) fn name(&self) -> String {
        let positions = self.positions.map_or_else(String::new, |positions| format!(", positions {positions}"));
        format!("{}, rows {}{positions}", self.series(), self.rows)
    }
}

/// Names of version 0.1.0, valid in its reports, in filters, and in the field `product`.
const EARLIER_NAMES: [(&str, &str); 5] = [
    ("token_embedding", "embed"),
    ("gemv", "vector"),
    ("tiled", "tile"),
    ("coopmat16", "cooperative16"),
    ("coopmat8", "cooperative8"),
];

/// A matmul's earlier name.
pub(super) fn earlier_matmul_name(matmul: Matmul) -> &'static str {
    let earlier = EARLIER_NAMES.iter().find(|(name, _)| *name == matmul.name());
    earlier.expect("every matmul has an earlier name").1
}

/// A case's name, from its earlier or present one.
pub(super) fn present_name(name: &str) -> String {
    translate(name, |word| EARLIER_NAMES.iter().find(|(_, earlier)| *earlier == word).map(|(name, _)| *name))
}

/// A case's earlier name.
fn earlier_name(name: &str) -> String {
    translate(name, |word| EARLIER_NAMES.iter().find(|(name, _)| *name == word).map(|(_, earlier)| *earlier))
}

/// A name, word by word.
fn translate(name: &str, of_word: impl Fn(&str) -> Option<&'static str>) -> String {
    let is_separator = |letter: char| !letter.is_ascii_alphanumeric() && letter != '_';
    let mut translated = String::new();
    for part in name.split_inclusive(is_separator) {
        let word = part.trim_end_matches(is_separator);
        translated += of_word(word).unwrap_or(word);
        translated += &part[word.len()..];
    }
    translated
}

/// The cases to measure.
#[derive(Default)]
pub(super) struct Selection {
    /// In lower case; a case's name contains one of them, unless there are none.
    pub(super) filters: Vec<String>,
    /// Rows of a step, instead of each kernel's usual ones.
    pub(super) rows: Option<Vec<usize>>,
    /// Positions of attention's histories, likewise.
    pub(super) depths: Option<Vec<usize>>,
    /// Shapes of matmuls, instead of all other cases.
    pub(super) shapes: Option<Vec<[usize; 2]>>,
}

impl Selection {
    fn has(&self, name: &str) -> bool {
        let names = [name.to_lowercase(), earlier_name(name).to_lowercase()];
        let matches = |filter: &String| names.iter().any(|name| name.contains(filter));
        self.filters.is_empty() || self.filters.iter().any(matches)
    }

    /// Whether it has the case of an entry of a report.
    pub(super) fn has_entry(&self, entry: &Value) -> bool {
        let number = |key: &str| entry[key].as_u64().map(|number| number as usize);
        let among = |numbers: &Option<Vec<usize>>, key: &str| {
            numbers.as_ref().zip(number(key)).is_none_or(|(numbers, number)| numbers.contains(&number))
        };
        let has_shape = |shapes: &Vec<[usize; 2]>| {
            entry["kernel"] == "lm_head" && shapes.iter().any(|&shape| entry["shape"] == shape_name(shape))
        };
        self.has(entry["name"].as_str().unwrap_or_default())
            && among(&self.rows, "rows")
            && among(&self.depths, "positions")
            && self.shapes.as_ref().is_none_or(has_shape)
    }

    fn rows_or<'a>(&'a self, usual: &'a [usize]) -> &'a [usize] {
        self.rows.as_deref().unwrap_or(usual)
    }

    /// The same for steps whose logits can all be computed at once.
    fn outputs_or<'a>(&'a self, usual: &'a [usize]) -> impl Iterator<Item = usize> + 'a {
        self.rows_or(usual).iter().copied().filter(|&rows| rows <= SPLIT_ROWS)
    }
}

/// The cases of a selection.
pub(super) fn all(gpu: &Gpu, config: &Config, tuning: Tuning, selection: &Selection) -> Vec<Case> {
    let rows = selection.rows_or(&[1, 2, 4, 8, 16, 32, 128, 512]);
    let mut cases = match &selection.shapes {
        Some(shapes) => free_matmuls(gpu, tuning, shapes, rows),
        None => of_model(gpu, config, tuning, selection, rows),
    };
    cases.retain(|case| selection.has(&case.name()));
    cases
}

/// Matmuls of any shape, by every kernel variant.
fn free_matmuls(gpu: &Gpu, tuning: Tuning, shapes: &[[usize; 2]], rows: &[usize]) -> Vec<Case> {
    let variants = variants(gpu, tuning, rows);
    let mut cases = Vec::new();
    for &shape in shapes {
        cases.extend(variants.iter().map(|&(variant, rows)| matmuls::lm_head(shape, variant, rows)));
    }
    cases
}

/// The kernels of a model's forward pass.
fn of_model(gpu: &Gpu, config: &Config, tuning: Tuning, selection: &Selection, matmul_rows: &[usize]) -> Vec<Case> {
    let few = selection.rows_or(&[1, 32, 512]);
    let mut cases = Vec::new();
    cases.extend(few.iter().map(|&rows| rows::token_embedding(config, rows)));
    cases.extend(few.iter().map(|&rows| rows::layer_norm(config, rows)));
    let variants = variants(gpu, tuning, matmul_rows);
    cases.extend(variants.iter().map(|&(variant, rows)| block_in(config, variant, rows)));
    cases.extend(of_attention(config, selection));
    cases.extend(variants.iter().map(|&(variant, rows)| block_out(config, variant, rows)));
    cases.extend(selection.outputs_or(&[1, 8]).map(|rows| rows::layer_norm_outputs(config, rows)));
    let head = [config.vocab_size, config.n_embd];
    let outputs = selection.outputs_or(matmul_rows);
    cases.extend(outputs.map(|rows| matmuls::lm_head(head, tuning.head_variant(rows), rows)));
    cases.extend(selection.outputs_or(&[1, 8]).map(|rows| rows::argmax(config, rows)));
    cases.push(matmuls::merge_lora(config));
    cases
}

/// Few rows, each the last of its sequence, at several depths; prompts from their beginning, or as the end of a longer
/// history; attention's weights.
fn of_attention(config: &Config, selection: &Selection) -> Vec<Case> {
    let depths_or = |usual: &[usize]| -> Vec<usize> {
        match &selection.depths {
            Some(depths) => depths.clone(),
            None => usual.iter().copied().filter(|&depth| depth <= config.n_positions).collect(),
        }
    };
    let mut cases = Vec::new();
    for &rows in selection.rows_or(&[1, 8, 256, 512]) {
        if rows > SPLIT_ROWS {
            let depths = depths_or(&[rows]).into_iter().filter(|&depth| depth >= rows);
            cases.extend(depths.map(|depth| attention::attention(config, "flash_attention", rows, depth)));
            continue;
        }
        for depth in depths_or(&[1, 512, 2047]) {
            cases.push(attention::attention(config, "attention", rows, depth));
            cases.push(attention::attention(config, "merge_attention", rows, depth));
        }
    }
    for rows in selection.outputs_or(&[SPLIT_ROWS]) {
        let depths = depths_or(&[config.n_positions.min(512)]).into_iter().filter(|&depth| depth >= rows);
        cases.extend(depths.map(|depth| attention::attention_weights(config, rows, depth)));
    }
    cases
}

/// Each number of rows with the engine's variant for it; then the most rows with the matmuls that it would not take.
fn variants(gpu: &Gpu, tuning: Tuning, rows: &[usize]) -> Vec<(KernelVariant, usize)> {
    let mut variants: Vec<_> = rows.iter().map(|&rows| (tuning.variant(rows), rows)).collect();
    let most = rows.iter().copied().max().unwrap_or(1);
    let taken = tuning.variant(most).matmul;
    let offered: Vec<_> = gpu.matrix_sides().iter().map(|&side| Matmul::on_matrix_units(side)).collect();
    for matmul in Matmul::ALL {
        if matmul != taken && (!matmul.is_coopmat() || offered.contains(&matmul)) {
            variants.push((KernelVariant { matmul, ..tuning.head_variant(most) }, most));
        }
    }
    // Cases of one matmul are one series of a plot.
    variants.sort_by_key(|(variant, _)| variant.matmul);
    variants
}

fn shape_name([rows, width]: [usize; 2]) -> String {
    format!("{rows}x{width}")
}

/// Rows of a tensor, such that every tile of a matmul is whole.
fn capacity(n_rows: usize) -> usize {
    n_rows.next_multiple_of(TILE_ROWS)
}

fn plan(launches: impl IntoIterator<Item = Vec<Dispatch>>) -> Plan {
    let mut plan = Plan::default();
    launches.into_iter().for_each(|launch| plan.run(launch));
    plan
}

/// No work yet, for a step of `n_rows` rows that all have logits.
fn nothing(n_rows: usize) -> Work {
    Work {
        prepare: Plan::default(),
        plans: Vec::new(),
        finish: Plan::default(),
        step: StepSize { rows: n_rows as u32, outputs: n_rows as u32, positions: n_rows as u32 },
        bytes: 0,
        flops: 0,
        checks: Vec::new(),
    }
}
