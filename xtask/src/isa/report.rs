//! What is printed and kept of a run: tables of figures, and the comparison with those of `benches/isa.md`.

use std::fmt::{self, Display, Formatter};

use super::figures::{Figures, Widths};
use super::kernels::Kernel;
use super::spirv;
use super::table::Table;

const LEGEND: &str = "\
Every kernel as the engine runs it on an AMD GPU: with native f16 and subgroups, unchecked. \"waves\" says how many
subgroups a SIMD can have in flight. VGPRs and scratch bytes are what a lane takes, LDS bytes what a workgroup takes;
VALU, VMEM, LDS and matrix count instructions. Loads of a main loop are counted by their width in bits, and VALU/weight
stands where weights go straight from memory into arithmetic.";

const WHOLE: [&str; 12] = [
    "kernel",
    "VGPRs",
    "waves",
    "VGPR spills",
    "SGPR spills",
    "scratch",
    "LDS bytes",
    "code bytes",
    "VALU",
    "VMEM",
    "LDS",
    "matrix",
];
const MAIN_LOOP: [&str; 10] =
    ["kernel", "instructions", "VALU", "VMEM", "LDS", "matrix", "barriers", "loads", "LDS loads", "VALU/weight"];

/// The columns in which a kernel may not get worse, and whether more is worse.
const WATCHED: [(&str, bool); 4] = [("VGPRs", true), ("waves", false), ("code bytes", true), ("instructions", true)];

/// What part of a figure is noise: cooperative kernels come out a few instructions longer or shorter from one run of
/// the compiler to the next.
const NOISE: u64 = 20;

#[derive(Default)]
pub(super) struct Report {
    /// Which Mesa compiled.
    pub(super) mesa: String,
    tables: Vec<Table>,
    /// Values for constants, and the kernels that were compiled with them.
    shapes: Vec<(String, Vec<String>)>,
}

impl Report {
    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    pub(super) fn add(&mut self, target: &str, kernel: &Kernel, figures: &Figures) {
        let Figures { binary, whole, main_loop, .. } = figures;
        let mut row = vec![kernel.name.clone()];
        let registers = [binary.vgprs, binary.waves, binary.spilled_vgprs, binary.spilled_sgprs];
        let bytes = [binary.scratch_bytes, binary.lds_bytes, binary.code_bytes];
        row.extend(registers.iter().chain(&bytes).map(u64::to_string));
        row.extend([whole.vector, whole.memory, whole.lds, whole.matrix].iter().map(usize::to_string));
        self.add_row(target.to_owned(), &WHOLE, row);

        if let Some(main_loop) = main_loop {
            let counts = &main_loop.counts;
            let mut row = vec![kernel.name.clone()];
            let counts = [counts.all, counts.vector, counts.memory, counts.lds, counts.matrix, counts.barriers];
            row.extend(counts.iter().map(usize::to_string));
            row.extend([widths(&main_loop.memory_loads), widths(&main_loop.lds_loads)]);
            let per_weight = main_loop.vector_instructions_per_weight();
            row.push(per_weight.map(|number| format!("{number:.2}")).unwrap_or_default());
            self.add_row(format!("{target}, main loops"), &MAIN_LOOP, row);
        }

        let values: Vec<_> = kernel.constants.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let values = values.join(" ");
        match self.shapes.iter_mut().find(|(shape, _)| *shape == values) {
            Some((_, kernels)) if kernels.contains(&kernel.name) => {}
            Some((_, kernels)) => kernels.push(kernel.name.clone()),
            None => self.shapes.push((values, vec![kernel.name.clone()])),
        }
    }

    fn add_row(&mut self, title: String, header: &[&str], row: Vec<String>) {
        match self.tables.iter_mut().find(|table| table.title == title) {
            Some(table) => table.rows.push(row),
            None => {
                let header = header.iter().map(|&column| column.to_owned()).collect();
                self.tables.push(Table { title, header, rows: vec![row] });
            }
        }
    }

    /// The whole text of `benches/isa.md`.
    pub(super) fn file(&self) -> String {
        let naga = spirv::naga_version();
        format!(
            "# What RADV makes of the kernels\n\n\
             Written by `cargo xtask isa --update` with {} and naga {naga}.\n\n{LEGEND}\n\n{self}",
            self.mesa
        )
    }

    /// Whether the file's figures come from the same Mesa: others say nothing about the kernels.
    pub(super) fn is_comparable(&self, file: &str) -> bool {
        file.contains(&format!(" with {} and naga ", self.mesa))
    }

    /// What is worse here than in the file, in words; if this report is `whole`, also what only one of them has.
    pub(super) fn worse_than(&self, file: &str, whole: bool) -> Vec<String> {
        let before = Table::read(file);
        let mut worse = Vec::new();
        for now in &self.tables {
            let empty = Table { title: now.title.clone(), header: Vec::new(), rows: Vec::new() };
            let before = before.iter().find(|before| before.title == now.title).unwrap_or(&empty);
            let mut complain = |kernel: &str, what: String| worse.push(format!("{}: {kernel}: {what}", now.title));
            for kernel in now.rows.iter().map(|row| &row[0]) {
                if whole && !before.has_row(kernel) {
                    complain(kernel, "benches/isa.md does not have it yet".to_owned());
                }
                for (column, more_is_worse) in WATCHED {
                    if let (Some(was), Some(is)) = (before.number(kernel, column), now.number(kernel, column))
                        && was != is
                        && (was < is) == more_is_worse
                        && is.abs_diff(was) * NOISE > was
                    {
                        complain(kernel, format!("{column} went from {was} to {is}"));
                    }
                }
            }
            for kernel in before.rows.iter().map(|row| &row[0]) {
                if whole && !now.has_row(kernel) {
                    complain(kernel, "benches/isa.md has it, but it is gone".to_owned());
                }
            }
        }
        worse
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        for table in &self.tables {
            writeln!(f, "{table}")?;
        }
        writeln!(f, "## Constants\n")?;
        for (values, kernels) in self.shapes.iter().filter(|(values, _)| !values.is_empty()) {
            writeln!(f, "- {}: {values}", kernels.join(", "))?;
        }
        Ok(())
    }
}

/// Such as `4x128 1x32`.
fn widths(loads: &Widths) -> String {
    loads.iter().rev().map(|(bits, count)| format!("{count}x{bits}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(rows: &[&str]) -> Report {
        let mut report = Report { mesa: "Mesa 25.0.7".to_owned(), ..Report::default() };
        for row in rows {
            let row = row.split(' ').map(str::to_owned).collect();
            report.add_row("navi31".to_owned(), &["kernel", "VGPRs", "waves", "matrix"], row);
        }
        report
    }

    #[test]
    fn a_report_is_not_worse_than_itself() {
        let report = report(&["matvec 48 16 0", "matmul 96 8 0"]);
        assert!(report.is_comparable(&report.file()));
        assert_eq!(report.worse_than(&report.file(), true), [""; 0]);
    }

    #[test]
    fn what_is_worse_is_named() {
        let before = report(&["matvec 48 16 0", "matmul 96 8 0", "gone 8 8 0"]).file();
        let now = report(&["matvec 52 16 9", "matmul 90 7 0", "new 8 8 0"]);
        let worse = ["navi31: matvec: VGPRs went from 48 to 52", "navi31: matmul: waves went from 8 to 7"];
        assert_eq!(now.worse_than(&before, false), worse);
        let only_one_has = now.worse_than(&before, true).into_iter().filter(|what| !worse.contains(&what.as_str()));
        assert_eq!(
            only_one_has.collect::<Vec<_>>(),
            ["navi31: new: benches/isa.md does not have it yet", "navi31: gone: benches/isa.md has it, but it is gone"]
        );
    }
}
