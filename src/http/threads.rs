//! [`Threads`]: the event loop behind the blocking interfaces.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::{Builder, Runtime};

use super::Failure;

/// Two are enough to keep a network card busy; hashing and writing happen on the caller's thread.
const THREADS: usize = 2;

/// Threads for requests; they start with the first one.
#[derive(Default)]
pub struct Threads {
    runtime: Mutex<Option<Arc<Runtime>>>,
}

impl Threads {
    /// The event loop, started if it was not.
    ///
    /// # Errors
    /// [`Failure::Settings`] when the system gives no thread.
    pub fn get(&self) -> Result<Arc<Runtime>, Failure> {
        let mut slot = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*slot {
            return Ok(runtime.clone());
        }
        let built = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("network")
            .enable_all()
            .build();
        let runtime = Arc::new(built.map_err(|error: io::Error| Failure::Settings {
            detail: format!("cannot start the threads for the network: {error}"),
        })?);
        *slot = Some(runtime.clone());
        Ok(runtime)
    }
}
