//! The doors: [`bridge`] for machines, [`api`] for programs and the page's scripts, [`login`] for
//! browsers. One file a door. What a bridge says behind one is heard in [`connection`].

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
