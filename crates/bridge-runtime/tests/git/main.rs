//! What may be asked of git, tried with a real git and real repositories. Needs git 2.31 or newer.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod changes;
mod hostile;
mod looks;
mod places;
mod support;
