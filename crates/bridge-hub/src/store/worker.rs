//! One thread that owns one SQLite connection and does jobs in order.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::StoreError;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A way to the thread; the thread ends, and closes its connection, with the last worker.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    pub(super) fn start(name: &str, mut connection: Connection) -> std::io::Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                while let Some(job) = queue.blocking_recv() {
                    // Whoever waits for it hears that it was not done; its transaction was rolled
                    // back when it was dropped.
                    let done = catch_unwind(AssertUnwindSafe(|| job(&mut connection)));
                    if done.is_err() {
                        tracing::error!("a job of the database panicked");
                    }
                }
            })?;
        Ok(Self { jobs })
    }

    /// Does one job. It is done even when the caller gives up waiting.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            if reply.send(work(connection)).is_err() {
                tracing::trace!("nobody waits for this answer of the database");
            }
        });
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

/// Callers wait beyond this; jobs are short.
const QUEUE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_is_not_done_and_the_next_one_is() {
        let worker = Worker::start("test", Connection::open_in_memory().unwrap()).unwrap();
        let broken = worker.run(|_| -> Result<(), StoreError> { panic!("on purpose") });
        assert!(matches!(broken.await, Err(StoreError::Closed)));
        assert!(matches!(worker.run(|_| Ok(7)).await, Ok(7)));
    }
}
