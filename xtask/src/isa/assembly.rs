//! Reads RADV's assembly: which instructions, in which loops, and what a load loads.
//!
//! The text has a line per instruction and a label per basic block; a loop is what lies between a label and the last
//! branch back to it. Names differ between generations (`buffer_load_dwordx4` is `buffer_load_b128` since RDNA 3).
//! Knows nothing of kernels.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use anyhow::{Context, Result, ensure};

pub(super) struct Assembly {
    instructions: Vec<Instruction>,
    /// By where they begin; each lies apart from, within, or around any other.
    loops: Vec<Range<usize>>,
}

pub(super) struct Instruction {
    name: String,
    operands: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Arithmetic of all lanes, except on matrices.
    Vector,
    Matrix,
    /// Anything that goes to memory for each lane.
    Memory,
    /// The same to workgroup memory.
    Lds,
    Barrier,
    Other,
}

impl Assembly {
    pub(super) fn read(text: &str) -> Result<Self> {
        let mut instructions: Vec<Instruction> = Vec::new();
        let mut labels = HashMap::new();
        for line in text.lines().map(|line| line.split(';').next().unwrap_or_default().trim()) {
            if let Some(label) = line.strip_suffix(':') {
                labels.insert(label, instructions.len());
            } else if let Some(times) = line.strip_prefix("(then repeated ") {
                let times = times.trim_end_matches(" times)").parse().context("an instruction is repeated")?;
                let last = instructions.last().context("the repeated instruction is missing")?;
                let (name, operands) = (last.name.clone(), last.operands.clone());
                instructions.extend((0..times).map(|_: u32| Instruction::new(&name, &operands)));
            } else if !line.is_empty() {
                let (name, operands) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
                instructions.push(Instruction::new(name, operands.trim_start()));
            }
        }
        ensure!(
            labels.contains_key("BB0"),
            "RADV shows no assembly: {}",
            text.lines().find(|line| !line.is_empty()).unwrap_or("its text is empty")
        );

        let mut loops = BTreeMap::new();
        for (index, instruction) in instructions.iter().enumerate() {
            if let Some(&start) = labels.get(instruction.operands.as_str())
                && instruction.name.contains("branch")
                && start <= index
            {
                loops.insert(start, index + 1);
            }
        }
        let loops = loops.into_iter().map(|(start, end)| start..end).collect();
        Ok(Self { instructions, loops })
    }

    pub(super) fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// The instructions of each loop, without those of the loops in it.
    pub(super) fn loops(&self) -> impl Iterator<Item = Vec<usize>> {
        self.loops.iter().map(|outer| {
            let inner = |index: &usize| {
                self.loops.iter().any(|inner| inner != outer && within(inner, outer) && inner.contains(index))
            };
            outer.clone().filter(|index| !inner(index)).collect()
        })
    }

    /// The binding from which the instruction loads, where it can be followed back: a load names four scalar registers
    /// that hold the buffer's descriptor, and they were loaded from the table of descriptors, 16 bytes a binding.
    pub(super) fn binding(&self, load: usize) -> Option<u32> {
        let descriptor = self.instructions[load].scalars().next()?;
        let before = self.instructions[..load].iter().rev();
        let from_table = before.into_iter().find(|instruction| {
            let result = instruction.operands.starts_with('s').then(|| instruction.scalars().next()).flatten();
            result.is_some_and(|result| result.contains(&descriptor.start))
        })?;
        if !from_table.name.starts_with("s_load") {
            return None;
        }
        let offset = match from_table.operands.rsplit(", ").next()? {
            "null" | "0" => 0,
            hexadecimal => u32::from_str_radix(hexadecimal.strip_prefix("0x")?, 16).ok()?,
        };
        Some((offset + 4 * (descriptor.start - from_table.scalars().next()?.start)) / 16)
    }
}

fn within(inner: &Range<usize>, outer: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

impl Instruction {
    fn new(name: &str, operands: &str) -> Self {
        Self { name: name.to_owned(), operands: operands.to_owned() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn kind(&self) -> Kind {
        let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| self.name.starts_with(prefix));
        if begins(&["v_wmma", "v_swmmac", "v_mfma", "v_smfmac"]) {
            Kind::Matrix
        } else if begins(&["v_"]) {
            Kind::Vector
        } else if begins(&["buffer_", "global_", "flat_", "scratch_"]) {
            Kind::Memory
        } else if begins(&["ds_"]) {
            Kind::Lds
        } else if begins(&["s_barrier"]) {
            Kind::Barrier
        } else {
            Kind::Other
        }
    }

    /// For a load by each lane, from memory or workgroup memory: how wide its accesses are, in bits, and how many it
    /// makes.
    pub(super) fn load(&self) -> Option<(u32, u32)> {
        let is_load = matches!(self.kind(), Kind::Memory | Kind::Lds)
            && (self.name.contains("_load") || self.name.contains("_read"));
        let bits = |part: &str| match part {
            "b128" | "dwordx4" => Some(128),
            "b96" | "dwordx3" => Some(96),
            "b64" | "dwordx2" => Some(64),
            "b32" | "dword" => Some(32),
            "b16" | "u16" | "i16" | "ushort" | "sshort" | "short" => Some(16),
            "b8" | "u8" | "i8" | "ubyte" | "sbyte" => Some(8),
            _ => None,
        };
        let accesses = if self.name.contains("read2") || self.name.contains("2addr") { 2 } else { 1 };
        is_load.then(|| self.name.split('_').find_map(bits)).flatten().map(|bits| (bits, accesses))
    }

    /// The ranges of scalar registers among the operands, in their order.
    fn scalars(&self) -> impl Iterator<Item = Range<u32>> {
        self.operands.split(", ").filter_map(|operand| {
            let numbers = operand.split(' ').next()?.strip_prefix('s')?;
            let (first, last) = match numbers.strip_prefix('[') {
                Some(range) => range.strip_suffix(']')?.split_once(':')?,
                None => (numbers, numbers),
            };
            Some(first.parse().ok()?..last.parse::<u32>().ok()? + 1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "BB0:
	v_mov_b32_e32 v1, 0                                         ; 7e020280
	(then repeated 2 times)
BB1:
	s_load_b256 s[8:15], s[2:3], 0x10                           ; f4080406 f8000010
	v_cmpx_le_u32_e32 0x200, v0                                 ; 7d9600ff 00000200
BB2:
	ds_load_2addr_b64 v[4:7], v1 offset1:4
	s_cbranch_scc0 BB2                                          ; bfa10078
BB3:
	buffer_load_b128 v[8:11], v5, s[12:15], 0 offen             ; e05c0000 80440805
	v_wmma_f32_16x16x16_f16 v[0:3], v[8:15], v[8:15], v[0:3]
	s_branch BB1                                                ; bfa0ff83
BB4:
	s_endpgm                                                    ; bfb00000
";

    #[test]
    fn loops_have_their_own_instructions() {
        let assembly = Assembly::read(TEXT).expect("the text is sound");
        let loops: Vec<_> = assembly.loops().collect();
        assert_eq!(loops, [vec![3, 4, 7, 8, 9], vec![5, 6]]);
        assert!(assembly.instructions()[8].kind() == Kind::Matrix);
    }

    #[test]
    fn loads_have_a_width_and_a_binding() {
        let assembly = Assembly::read(TEXT).expect("the text is sound");
        assert_eq!(assembly.instructions()[5].load(), Some((64, 2)));
        assert_eq!(assembly.instructions()[7].load(), Some((128, 1)));
        assert_eq!(assembly.binding(7), Some(2), "four registers into what begins at binding 1");
        for (name, bits) in [("buffer_load_dwordx2", 64), ("ds_read_u16_d16_hi", 16), ("global_load_ubyte", 8)] {
            assert_eq!(Instruction::new(name, "").load(), Some((bits, 1)), "{name}");
        }
        for name in ["buffer_store_b128", "s_load_b128", "v_mov_b32"] {
            assert_eq!(Instruction::new(name, "").load(), None, "{name}");
        }
    }

    #[test]
    fn other_text_is_no_assembly() {
        let error =
            Assembly::read("Disassembly is not supported\n\nInstead:\nBB0\n").err().expect("there is no label BB0");
        assert_eq!(error.to_string(), "RADV shows no assembly: Disassembly is not supported");
    }
}
