//! What there is to say about a compiled kernel: how much it takes, what its main loop does, and what is wrong with it.

use std::collections::BTreeMap;

use anyhow::Result;

use super::assembly::{Assembly, Kind};
use super::kernels::Kernel;
use super::radv::Binary;
use super::spirv;

/// Narrower loads of weights leave bandwidth unused.
const WEIGHT_LOAD_BITS: u32 = 128;
/// All that the engine has kernels for.
const WEIGHT_BITS: u32 = 16;

pub(super) struct Figures {
    pub(super) binary: Binary,
    pub(super) whole: Counts,
    /// The loop with the most matrix instructions or, where there are none, with the most arithmetic, not counting the
    /// loops in it.
    pub(super) main_loop: Option<MainLoop>,
    matmul: Option<String>,
    /// Loads of weights in loops that are too narrow.
    narrow: Vec<String>,
}

#[derive(Default)]
pub(super) struct MainLoop {
    pub(super) counts: Counts,
    pub(super) memory_loads: Widths,
    pub(super) lds_loads: Widths,
    weight_bits: u32,
}

/// Numbers of instructions.
#[derive(Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Counts {
    // First, so that the loop with the most of them is the largest.
    pub(super) matrix: usize,
    pub(super) vector: usize,
    pub(super) memory: usize,
    pub(super) lds: usize,
    pub(super) barriers: usize,
    pub(super) all: usize,
}

/// How many loads there are of each width in bits.
pub(super) type Widths = BTreeMap<u32, u32>;

impl Figures {
    pub(super) fn new(kernel: &Kernel, binary: &Binary) -> Result<Self> {
        let assembly = Assembly::read(&binary.assembly)?;
        let weights = spirv::weight_bindings(&kernel.wgsl)?;
        let all: Vec<_> = (0..assembly.instructions().len()).collect();
        let loops: Vec<_> = assembly.loops().collect();
        let main_loop = loops.iter().max_by_key(|body| Counts::of(&assembly, body));
        Ok(Self {
            binary: binary.clone(),
            whole: Counts::of(&assembly, &all),
            main_loop: main_loop.map(|body| MainLoop::new(&assembly, body, &weights)),
            matmul: kernel.matmul.clone(),
            narrow: loops.iter().flat_map(|body| narrow_weight_loads(&assembly, body, &weights)).collect(),
        })
    }

    /// What is wrong whatever the kernel is for, in words.
    pub(super) fn faults(&self) -> Vec<String> {
        let Binary { spilled_vgprs, spilled_sgprs, scratch_bytes, .. } = self.binary;
        let mut faults = Vec::new();
        if spilled_vgprs + spilled_sgprs > 0 {
            faults.push(format!("{spilled_vgprs} VGPRs and {spilled_sgprs} SGPRs are spilled"));
        }
        if scratch_bytes > 0 {
            faults.push(format!("it needs {scratch_bytes} bytes of scratch memory"));
        }
        if !self.narrow.is_empty() {
            faults.push(format!("a loop loads weights less than 128 bits at a time: {}", self.narrow.join(", ")));
        }
        match self.matmul.as_deref() {
            // Fewer would not keep enough loads under way to fill the memory's bandwidth.
            Some("gemv") if self.binary.waves < 8 => {
                faults.push(format!(
                    "{} waves a SIMD are fewer than the 8 that hide memory's latency",
                    self.binary.waves
                ));
            }
            Some(matmul) if matmul.starts_with("coopmat") => faults.extend(self.cooperative_faults()),
            _ => {}
        }
        faults
    }
}

impl Figures {
    /// What would keep matrix units waiting.
    fn cooperative_faults(&self) -> Vec<String> {
        let Some(MainLoop { counts, lds_loads, .. }) = &self.main_loop else {
            return vec!["it is cooperative, but has no loop".to_owned()];
        };
        let mut faults = Vec::new();
        if counts.matrix == 0 {
            faults.push("it is cooperative, but no loop has matrix instructions".to_owned());
        }
        if counts.matrix < 16 * counts.barriers {
            faults.push(format!("{} matrix instructions for {} barriers", counts.matrix, counts.barriers));
        }
        if lds_loads.keys().any(|&bits| bits < 128) {
            faults.push("it loads matrices from LDS less than 128 bits at a time".to_owned());
        }
        if self.binary.waves < 4 {
            faults.push(format!("{} waves a SIMD are fewer than 4", self.binary.waves));
        }
        faults
    }
}

impl MainLoop {
    fn new(assembly: &Assembly, body: &[usize], weights: &[u32]) -> Self {
        let mut main_loop = Self { counts: Counts::of(assembly, body), ..Self::default() };
        for &index in body {
            let instruction = &assembly.instructions()[index];
            let Some((bits, accesses)) = instruction.load() else { continue };
            if instruction.kind() == Kind::Lds {
                *main_loop.lds_loads.entry(bits).or_default() += accesses;
            } else {
                *main_loop.memory_loads.entry(bits).or_default() += accesses;
                if assembly.binding(index).is_some_and(|binding| weights.contains(&binding)) {
                    main_loop.weight_bits += bits * accesses;
                }
            }
        }
        main_loop
    }

    /// Where weights go straight from memory into arithmetic.
    pub(super) fn vector_instructions_per_weight(&self) -> Option<f64> {
        let straight = self.weight_bits > 0 && self.counts.matrix == 0 && self.counts.barriers == 0;
        straight.then(|| self.counts.vector as f64 / f64::from(self.weight_bits / WEIGHT_BITS))
    }
}

impl Counts {
    fn of(assembly: &Assembly, body: &[usize]) -> Self {
        let mut counts = Self { all: body.len(), ..Self::default() };
        for &index in body {
            match assembly.instructions()[index].kind() {
                Kind::Matrix => counts.matrix += 1,
                Kind::Vector => counts.vector += 1,
                Kind::Memory => counts.memory += 1,
                Kind::Lds => counts.lds += 1,
                Kind::Barrier => counts.barriers += 1,
                Kind::Other => {}
            }
        }
        counts
    }
}

/// The loads that are narrow and, for all that is known, of weights.
fn narrow_weight_loads(assembly: &Assembly, body: &[usize], weights: &[u32]) -> Vec<String> {
    let narrow = |&&index: &&usize| {
        let instruction = &assembly.instructions()[index];
        !weights.is_empty()
            && instruction.kind() == Kind::Memory
            && instruction.load().is_some_and(|(bits, _)| bits < WEIGHT_LOAD_BITS)
            && assembly.binding(index).is_none_or(|binding| weights.contains(&binding))
    };
    body.iter().filter(narrow).map(|&index| assembly.instructions()[index].name().to_owned()).collect()
}
