//! The only place that starts programs, and the place that ends them with all they started.

mod environment;
mod launch;
mod run_to_end;

pub use environment::{AllowList, Environment};
pub use launch::Launch;
pub use run_to_end::{Output, RunError, run_to_end};
