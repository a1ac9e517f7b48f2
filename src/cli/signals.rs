//! Signals that end the program: Ctrl-C, SIGTERM and SIGHUP.
//!
//! While a command listens, the first signal only asks it to end, so that it can print its results and leave nothing
//! half-written. A second one ends it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Context;
#[cfg(unix)]
use signal_hook::consts::SIGHUP;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

#[cfg(unix)]
const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];
#[cfg(not(unix))]
const SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

/// A command ended early because of this signal, and has said so.
#[derive(Debug, thiserror::Error)]
#[error("ended by signal {0}")]
pub(crate) struct Interrupted(i32);

impl Interrupted {
    /// The exit code that shells use for it.
    pub(crate) fn status(&self) -> u8 {
        status(self.0) as u8
    }

    /// Its name in messages.
    pub(crate) fn cause(&self) -> &'static str {
        match self.0 {
            SIGINT => "Ctrl-C",
            SIGTERM => "SIGTERM",
            _ => "SIGHUP",
        }
    }
}

fn status(signal: i32) -> i32 {
    128 + signal
}

/// The signals received since [`Signals::listen`].
pub(crate) struct Signals {
    /// The last one, or 0.
    last: Arc<AtomicUsize>,
    /// Whether one was received, so that the next ends the program.
    any: Arc<AtomicBool>,
}

impl Signals {
    /// Starts to listen.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let signals = Self { last: Arc::default(), any: Arc::default() };
        for signal in SIGNALS {
            let failed = "cannot listen for Ctrl-C";
            // They take effect in this order: only the second signal finds the flag set.
            flag::register_conditional_shutdown(signal, status(signal), Arc::clone(&signals.any)).context(failed)?;
            flag::register(signal, Arc::clone(&signals.any)).context(failed)?;
            flag::register_usize(signal, Arc::clone(&signals.last), signal as usize).context(failed)?;
        }
        Ok(signals)
    }

    /// The last signal, if there was one.
    pub(crate) fn received(&self) -> Option<Interrupted> {
        let signal = self.last.load(Ordering::SeqCst);
        (signal != 0).then_some(Interrupted(signal as i32))
    }

    /// Fails if there was a signal.
    pub(crate) fn check(&self) -> Result<(), Interrupted> {
        self.received().map_or(Ok(()), Err)
    }

    /// Forgets a Ctrl-C that ended only a text.
    pub(crate) fn forget_ctrl_c(&self) {
        if self.last.compare_exchange(SIGINT as usize, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.any.store(false, Ordering::SeqCst);
        }
    }
}
