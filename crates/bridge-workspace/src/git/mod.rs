//! What may be asked of git: where ([`place`]), with which names ([`branch`]), by which commands
//! ([`command`]), and what its answers mean ([`settings`], [`submodules`], [`status`]). Starts no program; whoever
//! does asks here what to start and hands in what was printed.
//!
//! A repository is hostile until its owner said that it is trusted. Looking at one starts no
//! program but git itself: its hooks, monitors, pagers, filters, drivers and helpers are switched
//! off. Changing one whose own settings are not known to be harmless is refused: to switch a filter
//! off can mean to commit what it was to encrypt.

pub mod branch;
pub mod command;
mod objects;
pub mod place;
pub mod settings;
pub mod status;
pub mod submodules;

pub use branch::{BranchFault, BranchName};
pub use command::{GitCommand, Hooks, Reach, without_logins};
pub use place::{GitPlace, NoPlace, TrackedFile, WorkTree};
pub use settings::{OwnSettings, SettingsError};
pub use status::{LineCounts, Porcelain, PorcelainError};
pub use submodules::Submodules;
