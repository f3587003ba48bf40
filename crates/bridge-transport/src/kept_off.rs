//! Without the feature `spool` there is none.

use std::{convert::Infallible, marker::PhantomData, time::Instant};

use crate::link::{Read, Record};

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
pub(crate) struct Kept<P>(Infallible, PhantomData<fn() -> P>);

impl<P> Kept<P> {
    pub(crate) fn append(&mut self, _: Vec<Record>) -> Appended {
        match self.0 {}
    }

    pub(crate) fn go_on(&mut self) -> Appended {
        match self.0 {}
    }

    pub(crate) fn read(&mut self, _: u64, _: u64, _: usize) -> Option<Read<P>> {
        match self.0 {}
    }

    pub(crate) fn read_again(&mut self) -> Option<Read<P>> {
        match self.0 {}
    }

    pub(crate) fn trim(&mut self, _: u64) {
        match self.0 {}
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.0 {}
    }

    pub(crate) fn close(self) {
        match self.0 {}
    }
}
