//! A measured case, and the ceilings of the device.

use std::time::Duration;

use anyhow::{Context, bail};
use gptj::internals::gpu::Profiler;
use gptj::internals::kernels::Matmul;
use pollster::block_on;

use super::cases::{self, Case};
use super::statistics::Statistics;
use super::workbench::Workbench;

/// The result of a case.
pub(super) struct Outcome {
    pub(super) case: Case,
    pub(super) bytes: u64,
    pub(super) flops: u64,
    pub(super) launches: usize,
    /// Seconds, if the result is correct.
    pub(super) seconds: Option<Statistics>,
    pub(super) fault: Option<String>,
}

impl Outcome {
    /// Checks a case, then times it; takes only one sample once `stopped`.
    pub(super) fn measure(
        case: Case,
        bench: &mut Workbench,
        profiler: &Profiler,
        stopped: &dyn Fn() -> bool,
    ) -> anyhow::Result<Self> {
        let name = case.name();
        let work = (case.make)(bench).with_context(|| name.clone())?;
        let fault = work.check(&bench.gpu).with_context(|| name.clone())?;
        let seconds = match fault {
            Some(_) => None,
            None => {
                let samples = block_on(profiler.samples(&work.plans, work.step, stopped)).with_context(|| name)?;
                Statistics::of(samples.iter().map(Duration::as_secs_f64))
            }
        };
        let launches = work.plans[0].dispatches().len();
        Ok(Self { case, bytes: work.bytes, flops: work.flops, launches, seconds, fault })
    }

    pub(super) fn microseconds(&self) -> Option<f64> {
        self.seconds.map(|seconds| seconds.median * 1e6)
    }

    pub(super) fn min_microseconds(&self) -> Option<f64> {
        self.seconds.map(|seconds| seconds.min * 1e6)
    }

    /// As a share of any number derived from the time.
    pub(super) fn spread(&self) -> Option<f64> {
        self.seconds.and_then(|seconds| seconds.spread)
    }

    pub(super) fn gigabytes(&self) -> Option<f64> {
        self.seconds.map(|seconds| self.bytes as f64 / seconds.median / 1e9)
    }

    /// `None` for a kernel that only moves numbers.
    pub(super) fn gigaflops(&self) -> Option<f64> {
        let seconds = self.seconds.filter(|_| self.flops > 0);
        seconds.map(|seconds| self.flops as f64 / seconds.median / 1e9)
    }
}

/// The highest rates of the device, in GB/s and GFLOP/s.
pub(super) struct Ceilings {
    pub(super) read: f64,
    pub(super) fma: f64,
}

impl Ceilings {
    pub(super) fn measure(
        bench: &mut Workbench,
        profiler: &Profiler,
        stopped: &dyn Fn() -> bool,
    ) -> anyhow::Result<Self> {
        let measured = cases::ceilings(bench.gpu.info().is_software()).map(|case| {
            let outcome = Outcome::measure(case, bench, profiler, stopped)?;
            if let Some(fault) = &outcome.fault {
                bail!("{} computes wrong numbers: {fault}", outcome.case.name());
            }
            let fastest = outcome.seconds.context("a correct case has samples")?.min;
            anyhow::Ok([outcome.bytes, outcome.flops].map(|amount| amount as f64 / fastest / 1e9))
        });
        let [read, fma] = measured;
        Ok(Self { read: read?[0], fma: fma?[1] })
    }

    /// The share of the reading ceiling that a case reaches.
    pub(super) fn of_read(&self, outcome: &Outcome) -> Option<f64> {
        outcome.gigabytes().map(|rate| rate / self.read)
    }

    /// The same of the arithmetic one; `None` for matmuls on matrix units, which have another.
    pub(super) fn of_fma(&self, outcome: &Outcome) -> Option<f64> {
        let on_matrix_units = outcome.case.matmul.is_some_and(Matmul::is_coopmat);
        outcome.gigaflops().filter(|_| !on_matrix_units).map(|rate| rate / self.fma)
    }

    /// The higher of two measurements: other work of the machine may have lowered either.
    pub(super) fn max(self, other: &Self) -> Self {
        Self { read: self.read.max(other.read), fma: self.fma.max(other.fma) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 5 GB and 1 GFLOP in a second.
    fn outcome(matmul: Option<Matmul>, fault: Option<String>) -> Outcome {
        let make = Box::new(|_: &mut Workbench| unreachable!("it has been measured"));
        let case = Case { kernel: "some", shape: String::new(), matmul, rows: 1, positions: None, make };
        let seconds = Statistics::of([0.5, 1.0, 1.0, 1.0, 2.0]).filter(|_| fault.is_none());
        Outcome { case, bytes: 5_000_000_000, flops: 1_000_000_000, launches: 1, seconds, fault }
    }

    #[test]
    fn rates_are_shares_of_their_own_ceilings() {
        let ceilings = Ceilings { read: 10.0, fma: 100.0 };
        let gemv = outcome(Some(Matmul::Gemv), None);
        assert_eq!((ceilings.of_read(&gemv), ceilings.of_fma(&gemv)), (Some(0.5), Some(0.01)));
        let coopmat = outcome(Some(Matmul::CoopMat16), None);
        assert_eq!((ceilings.of_read(&coopmat), ceilings.of_fma(&coopmat)), (Some(0.5), None));
        let higher = ceilings.max(&Ceilings { read: 5.0, fma: 200.0 });
        assert_eq!((higher.read, higher.fma), (10.0, 200.0));
    }

    #[test]
    fn wrong_results_have_no_rates() {
        let (wrong, ceilings) = (outcome(None, Some("element 3".to_owned())), Ceilings { read: 10.0, fma: 100.0 });
        assert_eq!((wrong.microseconds(), ceilings.of_read(&wrong), ceilings.of_fma(&wrong)), (None, None, None));
    }
}
