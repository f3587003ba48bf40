//! Models behind an OpenAI-compatible endpoint (Ollama, OpenRouter, any other) made an agent by a
//! small loop of our own: this same binary as a child process that speaks the Agent Client
//! Protocol. A model gets five tools for the files of the working directory and nothing else: it
//! runs no commands, changes nothing unasked and cannot leave the folders of its run.
//!
//! ```text
//!  client ◄─ACP─► agent ──► talk (pure) ◄──► reply ◄── sse, chunk, fence (pure)
//!                   │         └── history, request, tools, retry, words (pure)
//!                   ├── endpoint: HTTP
//!                   └── place, files, search, protected: files beneath an open handle
//! ```
//!
//! Reading order: [`ChatSettings`] (what it is told), `talk` (what a conversation does), `reply`
//! and `trouble` (what an answer is, and why there is none), `place` and `files` (which files),
//! `agent` (the protocol around it), [`ChatProvider`] (how it is found and started).

mod agent;
mod chunk;
mod endpoint;
mod fence;
mod files;
mod history;
mod memory;
mod models;
mod place;
mod protected;
mod provider;
mod reply;
mod request;
mod retry;
mod run;
mod search;
mod settings;
mod sse;
#[cfg(test)]
mod stage;
mod talk;
mod tools;
mod trouble;
mod words;

pub use provider::ChatProvider;
pub use run::{ChatError, ChatJob, run};
pub use settings::{Api, BaseUrl, BaseUrlError, ChatSettings};
