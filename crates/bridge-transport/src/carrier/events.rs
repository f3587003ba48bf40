//! A stream of server-sent events, cut into events. Pure; bytes may come in any pieces.

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// The last id that was named, on this event or an earlier one.
    pub(super) id: String,
    /// Its lines of data, put together again.
    pub(super) data: String,
}

/// Why a stream is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadEvents {
    #[error("an event is not UTF-8")]
    NotUtf8,
    #[error("an event is over the limit")]
    TooLong,
}

/// What was read and is no whole event yet.
pub(super) struct Events {
    /// The line at work, without its end.
    line: Vec<u8>,
    id: String,
    data: Option<String>,
    /// The last byte was a carriage return; a line feed behind it is part of the same end.
    returned: bool,
    begun: bool,
    limit: usize,
}

impl Events {
    /// `limit` bounds a line and the data of an event, in bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            line: Vec::new(),
            id: String::new(),
            data: None,
            returned: false,
            begun: false,
            limit,
        }
    }

    /// Takes the next bytes and gives the events that they complete.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<Vec<Event>, BadEvents> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            if std::mem::take(&mut self.returned)
                && let Some(rest) = bytes.strip_prefix(b"\n")
            {
                bytes = rest;
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (piece, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            if self.line.len() + piece.len() > self.limit {
                return Err(BadEvents::TooLong);
            }
            self.line.extend_from_slice(piece);
            let Some((end, rest)) = rest.split_first() else {
                break;
            };
            bytes = rest;
            self.returned = *end == b'\r';
            let line = std::mem::take(&mut self.line);
            events.extend(self.on_line(&line)?);
            // Its memory is used again.
            self.line = line;
            self.line.clear();
        }
        Ok(events)
    }

    fn on_line(&mut self, line: &[u8]) -> Result<Option<Event>, BadEvents> {
        let line = std::str::from_utf8(line).map_err(|_| BadEvents::NotUtf8)?;
        let line = match line.strip_prefix('\u{feff}') {
            Some(rest) if !self.begun => rest,
            Some(_) | None => line,
        };
        self.begun = true;
        if line.is_empty() {
            let data = self.data.take();
            return Ok(data.map(|data| Event {
                id: self.id.clone(),
                data,
            }));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                let data = match &mut self.data {
                    Some(data) => {
                        data.push('\n');
                        data
                    }
                    None => self.data.insert(String::new()),
                };
                if data.len() + value.len() > self.limit {
                    return Err(BadEvents::TooLong);
                }
                data.push_str(value);
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            // Comments, names of events, waits: nothing that counts here.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(stream: &str) -> Result<Vec<(String, String)>, BadEvents> {
        let events = Events::new(100).read(stream.as_bytes())?;
        Ok(events.into_iter().map(|it| (it.id, it.data)).collect())
    }

    fn event(id: &str, data: &str) -> (String, String) {
        (id.to_owned(), data.to_owned())
    }

    #[test]
    fn events_are_read_with_every_kind_of_end_and_comments_are_nothing() {
        for end in ["\n", "\r", "\r\n"] {
            let stream = [
                ": open",
                "",
                "id: 1",
                "data: {\"a\":1}",
                "",
                "data:x",
                "data: y",
                "retry: 5",
                "event: odd",
                "",
                "id:7",
                "",
                "data",
                "",
                "data: not yet",
                "",
            ];
            let stream = stream.join(end);
            assert_eq!(
                read(&stream).unwrap(),
                [event("1", "{\"a\":1}"), event("1", "x\ny"), event("7", "")],
                "{end:?}"
            );
        }
        assert_eq!(read("\u{feff}data: a\n\n").unwrap(), [event("", "a")]);
        assert_eq!(read("data: a").unwrap(), []);
        assert_eq!(read("data:  a\n\n").unwrap(), [event("", " a")]);
        assert_eq!(read("id: a\0\ndata: b\n\n").unwrap(), [event("", "b")]);
    }

    #[test]
    fn what_is_too_long_or_no_text_ends_the_stream() {
        let long = "x".repeat(60);
        assert_eq!(
            read(&format!(": {}", "x".repeat(99))),
            Err(BadEvents::TooLong)
        );
        let two = format!("data: {long}\ndata: {long}\n");
        assert_eq!(read(&two), Err(BadEvents::TooLong));
        let mut events = Events::new(100);
        assert_eq!(events.read(b"data: \xff\n"), Err(BadEvents::NotUtf8));
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_give_the_same_events(
            lines in prop::collection::vec("(data: ?|id: |: |)[a-zä]{0,5}(\n|\r|\r\n)", 0..20),
            cuts in prop::collection::vec(1..7_usize, 1..50),
        ) {
            let stream = lines.concat().into_bytes();
            let whole = Events::new(1000).read(&stream);
            let mut events = Events::new(1000);
            let mut pieces = Vec::new();
            let (mut rest, mut cuts) = (&stream[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, more) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                pieces.extend(events.read(piece).unwrap());
                rest = more;
            }
            prop_assert_eq!(whole, Ok(pieces));
        }
    }
}
