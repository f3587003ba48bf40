//! Between the numbers of the link and those of the journal, which name the same commands.

use bridge_transport::{
    Receipt,
    delivery::{Epoch, Position},
};
use bridge_workspace::{CommandId, Journal, Numbering};

/// Up to where the hub was heard in earlier lives, for
/// [`Endpoint::heard`](bridge_transport::Endpoint::heard).
pub fn heard(journal: &Journal) -> Position {
    journal.kept().map(position).unwrap_or_default()
}

pub(crate) fn position(upto: CommandId) -> Position {
    Position {
        epoch: Some(Epoch(upto.numbering.0)),
        last: upto.seq,
    }
}

/// The command that a receipt stands for.
pub(crate) fn command(receipt: Receipt) -> Option<CommandId> {
    let seq = receipt.seq;
    place(receipt.upto).map(|upto| CommandId { seq, ..upto })
}

/// The last command up to a position.
pub(crate) fn place(upto: Position) -> Option<CommandId> {
    upto.epoch.map(|epoch| CommandId {
        numbering: Numbering(epoch.0),
        seq: upto.last,
    })
}
