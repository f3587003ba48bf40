//! Cursor CLI, which speaks the Agent Client Protocol ([`quirks`]); versions that do not are driven
//! in their print mode ([`StreamDialogue`]). Built from documents and reports of others: nobody
//! here has seen it run.

mod provider;
mod stream;
mod stream_tools;

pub use provider::{CursorProvider, quirks};
pub use stream::StreamDialogue;
