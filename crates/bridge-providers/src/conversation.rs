//! Joins a dialogue and a process to a conversation.

use crate::{
    dialogue::Dialogue,
    process::Launch,
    provider::{Conversation, StartError},
};

/// Starts the program and lets `dialogue` talk with it.
pub async fn converse(
    launch: Launch,
    dialogue: Box<dyn Dialogue>,
) -> Result<Conversation, StartError> {
    let (_, _) = (launch, dialogue);
    todo!()
}
