//! One file a command; each gives an exit code or a problem to report.

pub(crate) mod bridge;
pub(crate) mod doctor;
mod follow;
pub(crate) mod hub;
pub(crate) mod login;
pub(crate) mod setup;
pub(crate) mod status;
pub(crate) mod task;
pub(crate) mod up;
