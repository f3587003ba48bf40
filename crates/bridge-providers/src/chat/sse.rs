//! Server-sent events: bytes in, whole payloads out, with bounded memory. Pure.

use std::fmt;

/// Cuts a body into the payloads of its events.
#[derive(Debug, Default)]
pub(super) struct EventStream {
    line: Vec<u8>,
    data: Vec<u8>,
    /// A `data` field was there since the last event.
    any: bool,
    /// The last byte was a carriage return, whose line feed is still to come.
    after_return: bool,
}

/// One event is longer than [`EVENT_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one event is longer than {} MiB", EVENT_BYTES >> 20)
    }
}

impl EventStream {
    /// Takes a piece of the body; gives the payloads that became whole. Bytes that are not UTF-8
    /// are replaced. After an error nothing more may be handed in.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, TooLong> {
        let mut whole = Vec::new();
        for &byte in bytes {
            let again = byte == b'\n' && std::mem::take(&mut self.after_return);
            if again {
                continue;
            }
            self.after_return = byte == b'\r';
            if byte == b'\n' || byte == b'\r' {
                whole.extend(self.end_line()?);
            } else if self.line.len() < EVENT_BYTES {
                self.line.push(byte);
            } else {
                return Err(TooLong);
            }
        }
        Ok(whole)
    }

    /// The body is over: gives the payload whose end was left out.
    pub(super) fn finish(&mut self) -> Result<Option<String>, TooLong> {
        if !self.line.is_empty() {
            let whole = self.end_line()?;
            debug_assert!(whole.is_none(), "a line with something on it ends no event");
        }
        Ok(self.take())
    }

    fn end_line(&mut self) -> Result<Option<String>, TooLong> {
        if self.line.is_empty() {
            return Ok(self.take());
        }
        let line = std::mem::take(&mut self.line);
        // Comments and the other fields say nothing here.
        if let Some(value) = line.strip_prefix(b"data:".as_slice()) {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            if self.data.len() + value.len() > EVENT_BYTES {
                return Err(TooLong);
            }
            if std::mem::replace(&mut self.any, true) {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value);
        }
        Ok(None)
    }

    fn take(&mut self) -> Option<String> {
        let data = std::mem::take(&mut self.data);
        std::mem::take(&mut self.any).then(|| String::from_utf8_lossy(&data).into_owned())
    }
}

/// Far more than one increment of an answer; a whole file to be written fits as well.
const EVENT_BYTES: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads(body: &[u8], step: usize) -> Vec<String> {
        let mut stream = EventStream::default();
        let mut all = Vec::new();
        for piece in body.chunks(step) {
            all.extend(stream.push(piece).unwrap());
        }
        all.extend(stream.finish().unwrap());
        all
    }

    #[test]
    fn payloads_are_the_same_wherever_the_body_is_cut() {
        let body = b": busy\r\n\r\nevent: x\r\ndata: one\r\n\r\ndata:two\ndata: lines\n\nid: 3\n\n\
                     data: [DONE]";
        for step in 1..body.len() {
            assert_eq!(payloads(body, step), ["one", "two\nlines", "[DONE]"]);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(payloads(b"data: a\xff\n\n", 3), ["a\u{fffd}"]);
    }

    #[test]
    fn a_line_or_an_event_without_an_end_is_refused() {
        let mut stream = EventStream::default();
        assert_eq!(stream.push(&vec![b'x'; EVENT_BYTES + 1]), Err(TooLong));
        let mut stream = EventStream::default();
        let line = [
            b"data: ".as_slice(),
            &vec![b'x'; EVENT_BYTES / 2 + 1],
            b"\n",
        ]
        .concat();
        assert_eq!(stream.push(&line), Ok(Vec::new()));
        assert_eq!(stream.push(&line), Err(TooLong));
    }
}
