//! Without the feature `spool` there is none.

use std::{convert::Infallible, marker::PhantomData};

use crate::link::{ReadBack, Record};

/// What a spool would say of writing.
#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "only a spool says so")]
pub(crate) enum Appended {
    Upto(u64),
    Nothing,
    Lost,
}

/// What a spool would answer.
#[derive(Debug)]
#[expect(dead_code, reason = "only a spool answers")]
pub(crate) enum Answer<P> {
    Appended(Appended),
    Read(ReadBack<P>),
    Expired(u64),
    Ended,
}

/// No spool can be in use.
pub(crate) struct Keeper<P>(Infallible, PhantomData<fn() -> P>);

impl<P> Keeper<P> {
    pub(crate) fn append(&mut self, _: Vec<Record>) -> Option<Answer<P>> {
        match self.0 {}
    }

    pub(crate) fn read(&mut self, _: u64, _: u64, _: usize) -> Option<Answer<P>> {
        match self.0 {}
    }

    pub(crate) fn trim(&mut self, _: u64) {
        match self.0 {}
    }

    #[expect(clippy::unused_async, reason = "a spool waits")]
    pub(crate) async fn next(&mut self) -> Answer<P> {
        match self.0 {}
    }

    pub(crate) fn is_appending(&self) -> bool {
        match self.0 {}
    }

    #[expect(clippy::unused_async, reason = "a spool waits")]
    pub(crate) async fn close(self) {
        match self.0 {}
    }
}
