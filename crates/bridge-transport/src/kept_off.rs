//! Without the feature `spool` there is none.

use std::time::Instant;

use crate::link::Record;

/// What a spool would say of writing.
#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "only a spool says so")]
pub(crate) enum Appended {
    Upto(u64),
    Nothing,
    Lost,
}

/// No spool can be in use.
#[derive(Debug)]
pub(crate) enum Kept {}

impl Kept {
    pub(crate) fn append(&mut self, _: Vec<Record>) -> Appended {
        match *self {}
    }

    pub(crate) fn go_on(&mut self) -> Appended {
        match *self {}
    }

    pub(crate) fn trim(&mut self, _: u64) {
        match *self {}
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match *self {}
    }

    pub(crate) fn close(self) {
        match self {}
    }
}
