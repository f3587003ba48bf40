//! The self-hosted control plane: bridges connect to it, viewers look through it.
//!
//! It owns the truth about tasks, their events and who may do what. It must never know how an
//! agent is started or what a bridge keeps on its disk.
//!
//! Reading order: [`config`](HubConfig), [`start`], the handle [`Hub`], what viewers see (`view`),
//! what is decided (`state` and `devices`, pure), who drives it (`owner`, `commands`), what viewers
//! ask for (`prepare`, `requests`), what is kept (`store`, and before it `backlog`), the doors
//! (`endpoint`, with `packed`; `links` and `lines` for other carriers), who may come in (`listener`,
//! `arriving`, `places`, `refusals`, `guard`, `access`), the pages (`web`).

mod access;
mod arriving;
mod backlog;
mod clock;
mod commands;
mod config;
mod devices;
mod endpoint;
mod error;
mod guard;
mod hub;
mod hub_devices;
mod lines;
mod links;
mod listener;
mod markdown;
mod owner;
mod packed;
mod places;
mod prepare;
mod questions;
mod refusals;
mod requests;
mod resend;
mod server;
mod socket;
mod state;
mod store;
mod useless;
mod view;
mod visible;
mod web;

pub use self::{
    config::HubConfig,
    error::HubError,
    hub::{Hub, Watch},
    markdown::render_markdown,
    server::{RunningHub, StartError, start},
    store::StoreError,
    view::{
        AgentView, Applies, Attachment, FileContent, Files, MAX_ATTACHMENT_BYTES, MAX_PROMPT_BYTES,
        Machine, Mode, NewTask, NewToken, OpenAsk, RunView, StoredEvent, TaskStatus, TaskSummary,
        TaskView, TokenView, Told,
    },
};
