//! The end of a program that was run to its end: what is left of it is ended, and its output read
//! until nobody can print any more.

use std::time::Duration;

use tokio::{sync::watch, time};

use super::{child::Child, terminate::Ladder};

/// Takes in what a program prints.
pub(super) trait Taking {
    /// Waits for something that the program does, and takes it in. Nothing is lost when the future
    /// is dropped.
    async fn next(&mut self, child: &mut Child);

    /// Whether nothing more can come but from the child itself.
    fn is_over(&self) -> bool;
}

/// Takes in what is printed until the program has exited, or `enough` says so.
pub(super) async fn read_until_exit<T: Taking>(
    child: &mut Child,
    output: &mut T,
    enough: impl Fn(&T) -> bool,
) {
    while !child.has_exited() && !enough(output) {
        output.next(child).await;
    }
}

/// Ends what is left, and reads what was printed until then.
pub(super) async fn finish(child: &mut Child, ladder: Ladder, output: &mut impl Taking) {
    let (_unchanged, plan) = watch::channel(ladder);
    let Some(end) = child.end(plan) else { return };
    tokio::pin!(end);
    let survivors = loop {
        tokio::select! {
            survivors = &mut end => break survivors,
            () = output.next(child) => {}
        }
    };
    if survivors > 0 {
        tracing::warn!(survivors, "processes would not end");
    }
    let rest = async {
        while !(child.has_exited() && child.is_drained() && output.is_over()) {
            output.next(child).await;
        }
    };
    if time::timeout(DRAIN_LIMIT, rest).await.is_err() {
        tracing::debug!("somebody else holds the output of a program that ended");
    }
}

/// How long output is waited for when everybody who could print is dead.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);
