//! The state shared by the threads of a transfer: its progress, and whether to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// The progress of fetching a model.
#[derive(Debug, Clone, Default)]
pub struct HubProgress {
    /// The file that received bytes last; empty before the first.
    pub file: Arc<str>,
    /// Its bytes on disk, including those of an earlier run.
    pub file_done: u64,
    /// Its size.
    pub file_total: u64,
    /// The same for all files together that were not in the cache.
    pub done: u64,
    /// The bytes of all files known so far: 0 before the Hub responds; it grows when the weights start.
    pub total: u64,
}

/// The most requests or downloads at once.
const PARALLEL: usize = 4;

pub(super) struct Transfer {
    sender: Sender<HubProgress>,
    stopped: Arc<AtomicBool>,
    arrived: AtomicU64,
    done: AtomicU64,
    total: AtomicU64,
}

impl Transfer {
    /// Reports to `sender`, and stops soon after `stopped` is set.
    pub(super) fn new(sender: Sender<HubProgress>, stopped: Arc<AtomicBool>) -> Self {
        Self { sender, stopped, arrived: AtomicU64::new(0), done: AtomicU64::new(0), total: AtomicU64::new(0) }
    }

    /// Fails if the transfer is to stop.
    pub(super) fn check(&self) -> Result<()> {
        if self.stopped.load(Ordering::Relaxed) { Err(Error::Stopped) } else { Ok(()) }
    }

    /// Waits; fails early if the transfer is to stop.
    pub(super) fn wait(&self, duration: Duration) -> Result<()> {
        const INTERVAL: Duration = Duration::from_millis(20);
        let end = Instant::now() + duration;
        loop {
            self.check()?;
            match end.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return Ok(()),
                rest => std::thread::sleep(rest.min(INTERVAL)),
            }
        }
    }

    /// Adds bytes to the total.
    pub(super) fn expect(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The number of bytes downloaded.
    pub(super) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Whether the cache lacked anything.
    pub(super) fn has_changed_cache(&self) -> bool {
        self.total.load(Ordering::Relaxed) > 0
    }

    pub(super) fn file(&self, name: &str, size: u64) -> FileTransfer<'_> {
        FileTransfer { transfer: self, name: name.into(), done: 0, size }
    }

    /// Calls `work` for each item, on a few threads; the first error stops the whole transfer.
    pub(super) fn in_parallel<T: Sync, R: Send>(
        &self,
        items: &[T],
        work: impl Fn(&T) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let next = AtomicUsize::new(0);
        let worker = || {
            let mut results = Vec::new();
            while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                results.push(self.check().and_then(|()| work(item)));
                if matches!(results.last(), Some(Err(_))) {
                    self.stopped.store(true, Ordering::Relaxed);
                    break;
                }
            }
            results
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..PARALLEL.min(items.len())).map(|_| scope.spawn(worker)).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("a worker does not panic")).collect()
        });
        let (mut done, mut failed) = (Vec::new(), None);
        for result in results {
            match result {
                Ok(item) => done.push(item),
                // The first error stops the other threads: it matters more than their `Stopped`.
                Err(error) if failed.as_ref().is_none_or(|failed| matches!(failed, Error::Stopped)) => {
                    failed = Some(error);
                }
                Err(_) => {}
            }
        }
        failed.map_or(Ok(done), Err)
    }
}

/// One file of a transfer.
pub(super) struct FileTransfer<'a> {
    transfer: &'a Transfer,
    name: Arc<str>,
    done: u64,
    size: u64,
}

impl FileTransfer<'_> {
    /// Counts bytes that have arrived.
    pub(super) fn arrive(&mut self, bytes: u64) -> Result<()> {
        self.transfer.arrived.fetch_add(bytes, Ordering::Relaxed);
        self.set_done(self.done + bytes)
    }

    /// Reports that the first `done` bytes of the file are on disk; fails if the transfer is to stop.
    pub(super) fn set_done(&mut self, done: u64) -> Result<()> {
        let transfer = self.transfer;
        transfer.check()?;
        // Negative, and so wrapping, if the file restarts.
        let change = done.wrapping_sub(self.done);
        let all = transfer.done.fetch_add(change, Ordering::Relaxed).wrapping_add(change);
        self.done = done;
        // The receiver is gone after a stop.
        _ = transfer.sender.send(HubProgress {
            file: Arc::clone(&self.name),
            file_done: done,
            file_total: self.size,
            done: all,
            total: transfer.total.load(Ordering::Relaxed),
        });
        Ok(())
    }
}
