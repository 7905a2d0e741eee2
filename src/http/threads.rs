//! [`Threads`]: the event loop behind the blocking interfaces.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use tokio::runtime::{Builder, Runtime};

use super::Failure;

/// One is enough to keep a network card busy; hashing and writing happen on the caller's thread. With a
/// second one that the system refuses, the event loop would wait for the first one for ever.
const THREADS: usize = 1;

/// Threads for requests; they start with the first one.
#[derive(Default)]
pub struct Threads {
    runtime: Mutex<Option<Arc<Runtime>>>,
}

impl Threads {
    /// The event loop, started if it was not.
    ///
    /// # Errors
    /// [`Failure::Threads`] when the system gives no thread.
    pub fn get(&self) -> Result<Arc<Runtime>, Failure> {
        let mut slot = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*slot {
            return Ok(runtime.clone());
        }
        let no_threads = |source: io::Error| Failure::Threads { source };
        // The event loop panics where it gets no thread.
        try_threads(THREADS).map_err(no_threads)?;
        let built = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("network")
            .enable_all()
            .build();
        let runtime = Arc::new(built.map_err(no_threads)?);
        *slot = Some(runtime.clone());
        Ok(runtime)
    }
}

/// Has as many threads at once, and one more for a name to be looked up.
fn try_threads(count: usize) -> io::Result<()> {
    let (release, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    std::thread::scope(|scope| {
        let release = release;
        for _ in 0..=count {
            std::thread::Builder::new().spawn_scoped(scope, || {
                // Ends when nobody can send any more.
                wait.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .iter()
                    .for_each(drop);
            })?;
        }
        drop(release);
        Ok(())
    })
}
