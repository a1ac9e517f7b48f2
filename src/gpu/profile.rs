//! How long recorded work takes.
//!
//! Where an adapter has timestamps, it notes the time itself at both ends of a pass; else the host's clock runs from
//! submitting the work until it is done. On a software adapter the two are the same thing, so the host's is taken.

use std::time::{Duration, Instant};

use super::{Gpu, Plan, Readback, StepSize, Submission};
use crate::error::Result;

/// Whose clock measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// The GPU's, from the first dispatch to the end of the last.
    Gpu,
    /// The host's, submission and waiting included.
    Host,
}

impl Clock {
    /// Shorter samples would be made of the clock's own coarseness and, on the host, of the way to the GPU.
    fn sample(self) -> Duration {
        match self {
            Self::Gpu => Duration::from_millis(2),
            Self::Host => Duration::from_millis(20),
        }
    }
}

/// How long one run of some work took.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// The median of all samples: what to expect.
    pub median: Duration,
    /// The fastest sample: what the GPU can do when nothing else wants it.
    pub fastest: Duration,
}

/// Samples whose median is the result.
const SAMPLES: usize = 5;

/// Runs of a sample at most, whatever the clock says.
const MAX_RUNS: usize = 10_000;

/// Measures on one GPU.
pub struct Profiler {
    gpu: Gpu,
    timestamps: Option<Timestamps>,
}

/// The GPU's notes of when a pass began and ended, on their way to the host.
struct Timestamps {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    readback: Readback,
}

/// Bytes of two timestamps.
const TIMESTAMP_BYTES: u64 = 16;

impl Profiler {
    /// Takes the GPU's own clock where it has one.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) where the GPU has no room for two timestamps.
    pub async fn new(gpu: &Gpu) -> Result<Self> {
        let has_clock = gpu.device().features().contains(wgpu::Features::TIMESTAMP_QUERY);
        let timestamps = if has_clock && !gpu.info().is_software() { Some(Timestamps::new(gpu).await?) } else { None };
        Ok(Self { gpu: gpu.clone(), timestamps })
    }

    /// Whose clock measures.
    pub fn clock(&self) -> Clock {
        if self.timestamps.is_some() { Clock::Gpu } else { Clock::Host }
    }

    /// Times one of `plans`, which do the same over different memory and run in turn.
    ///
    /// # Errors
    /// [`Error::Gpu`](crate::Error::Gpu) where the GPU failed.
    pub async fn time(&self, plans: &[Plan], step: StepSize) -> Result<Times> {
        assert!(!plans.is_empty(), "something is measured");
        let mut in_turn = plans.iter().cycle();
        let mut sample = async |runs| self.sample(in_turn.by_ref().take(runs), step).await;
        // The first run pays for what drivers put off until then.
        sample(1).await?;
        let mut runs = 1;
        let mut elapsed = sample(runs).await?;
        while elapsed < self.clock().sample() && runs < MAX_RUNS {
            let wanted = self.clock().sample().as_secs_f64() / elapsed.as_secs_f64().max(1e-9) * 1.2;
            runs = ((runs as f64 * wanted.clamp(2.0, 16.0)) as usize).min(MAX_RUNS);
            elapsed = sample(runs).await?;
        }
        let mut samples = vec![elapsed];
        while samples.len() < SAMPLES {
            samples.push(sample(runs).await?);
        }
        samples.sort();
        let [fastest, median] = [samples[0], samples[SAMPLES / 2]].map(|sample| sample / runs as u32);
        Ok(Times { median, fastest })
    }

    /// Runs plans one after another in one pass.
    async fn sample<'p>(&self, plans: impl Iterator<Item = &'p Plan>, step: StepSize) -> Result<Duration> {
        let mut submission = Submission::new(&self.gpu, "sample");
        {
            let timestamp_writes = self.timestamps.as_ref().map(|timestamps| wgpu::ComputePassTimestampWrites {
                query_set: &timestamps.queries,
                beginning_of_pass_write_index: Some(0),
                end_of_pass_write_index: Some(1),
            });
            let descriptor = wgpu::ComputePassDescriptor { label: Some("sample"), timestamp_writes };
            let mut pass = submission.encoder().begin_compute_pass(&descriptor);
            for plan in plans {
                plan.encode(&mut pass, step);
            }
        }
        if let Some(Timestamps { queries, resolved, readback }) = &self.timestamps {
            submission.encoder().resolve_query_set(queries, 0..2, resolved, 0);
            submission.read_buffer(resolved, TIMESTAMP_BYTES, readback);
        }
        let encoded = submission.encode();
        let start = Instant::now();
        let submitted = encoded.submit();
        if self.timestamps.is_none() {
            submitted.wait().await?;
            return Ok(start.elapsed());
        }
        let ticks: Vec<u64> = submitted.take().await?;
        let nanoseconds = ticks[1].saturating_sub(ticks[0]) as f64 * f64::from(self.gpu.queue().get_timestamp_period());
        Ok(Duration::from_secs_f64(nanoseconds * 1e-9))
    }
}

impl Timestamps {
    async fn new(gpu: &Gpu) -> Result<Self> {
        let descriptor =
            wgpu::QuerySetDescriptor { label: Some("timestamps"), ty: wgpu::QueryType::Timestamp, count: 2 };
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        Ok(Self {
            queries: gpu.device().create_query_set(&descriptor),
            resolved: gpu.create_buffer("timestamps", TIMESTAMP_BYTES, usage).await?,
            readback: Readback::new(gpu, "timestamps", TIMESTAMP_BYTES).await?,
        })
    }
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;
    use crate::gpu::{Format, GpuOptions, Tensor};
    use crate::kernels::Kernels;
    use crate::regime::Geometry;
    use crate::{Config, Error};

    /// Also on software adapters, which have the GPU's clock but are not asked for it.
    #[test]
    fn either_clock_measures() {
        let gpu = match block_on(Gpu::open(&GpuOptions::default())) {
            Ok(gpu) => gpu,
            Err(Error::Adapter(reason)) => {
                let required = std::env::var_os("GPTJ_REQUIRE_GPU").is_some_and(|value| value == "1");
                assert!(!required, "GPTJ_REQUIRE_GPU is set, but: {reason}");
                return eprintln!("SKIPPED, nothing was tested: {reason}");
            }
            Err(error) => panic!("{error}"),
        };
        let config = Config::preset("tiny").expect("there is one");
        let kernels = Kernels::new(&gpu, &config, 1, Geometry::for_adapter(gpu.info()));
        let tensor = |name, width| block_on(Tensor::whole(&gpu, name, 1, width, Format::F32)).expect("room");
        let mut plan = Plan::default();
        plan.run(kernels.fma_ceiling(16, &tensor("chain", 2), &tensor("sums", 4 * 1024)));
        let plans = [plan];
        let step = StepSize { rows: 1, outputs: 0, positions: 1 };

        let host = Profiler { gpu: gpu.clone(), timestamps: None };
        let mut profilers = vec![host];
        if gpu.device().features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            let timestamps = Some(block_on(Timestamps::new(&gpu)).expect("room"));
            profilers.push(Profiler { gpu: gpu.clone(), timestamps });
        }
        for profiler in profilers {
            let times = block_on(profiler.time(&plans, step)).expect("the GPU works");
            assert!(Duration::ZERO < times.fastest && times.fastest <= times.median, "{:?}", profiler.clock());
        }
    }
}
