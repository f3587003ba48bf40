//! The doors: [`bridge`] for machines, [`api`] for programs and the page's scripts, [`login`] for
//! browsers. [`link`] is the door for machines without a WebSocket; the one for lines over TCP is no
//! part of the router and is in [`lines`](crate::lines). One file a door, with what doors share
//! beside them: what a bridge says behind one is heard in [`connection`] and told in [`outflow`],
//! [`failure`] makes the answers to what went wrong, [`choice`] finds the machine for a task.

pub(crate) mod api;
pub(crate) mod bridge;
mod choice;
pub(crate) mod connection;
pub(crate) mod device;
pub(crate) mod failure;
pub(crate) mod files;
pub(crate) mod git;
pub(crate) mod link;
pub(crate) mod live;
pub(crate) mod login;
mod outflow;
pub(crate) mod side;
pub(crate) mod tokens;
