//! Decisions: commands become runs, runs become events.
//!
//! ```text
//!  link inbox ─► intake ─► supervisor ─► runner ─► conversation (bridge-providers)
//!                            │    ▲         │
//!                            │    └ reports ┘
//!                            ├ dispatch, approvals, health, agents   pure machines
//!                            └ scribe (journal)            link ◄── events of the runners
//! ```
//!
//! Reading order: [`policy`] and [`rules`] (what this machine allows), [`dispatch`] (which run may work when),
//! [`approvals`] (what waits for a person), [`supervisor`] (the loop), `intake` (frames to
//! commands, each once: `numbers`) with `homes` and `serving` (file requests), [`git`] (what is asked of repositories), `gateway` (what is asked of OpenClaw past its runs), `drops` (tasks that somebody here drops into a folder), `runner` (one task at work), [`outgoing`] (events to frames), `watching` with `stirring` (files of OpenClaw's agents that change).
//! Numbered decisions are those of `docs/decisions.md`.
//! Nothing here knows a wire's field names or an agent's protocol.

pub mod agents;
pub mod approvals;
mod blueprint;
mod capabilities;
mod clock;
mod contents;
pub mod dispatch;
mod drops;
mod ends;
mod gateway;
pub mod git;
pub mod health;
mod homes;
mod intake;
pub mod manifest;
mod numbers;
pub mod outgoing;
mod patience;
mod pipeline;
mod plans;
pub mod policy;
mod prompt;
pub mod rules;
mod run_log;
mod runner;
mod scribe;
mod serving;
mod stirring;
pub mod supervisor;
mod unwritten;
mod watching;

pub use drops::DropSettings;
pub use manifest::SideWord;
pub use numbers::heard;
pub use outgoing::Outgoing;
pub use policy::{CommandRule, EditRule, Policy, RemoteRule};
pub use rules::{ActionKind, Pattern, PatternError, Rule, RuleDecision, Rules};
pub use supervisor::{Settings, Stopped, SuperviseError, Supervisor, first_greeting};
