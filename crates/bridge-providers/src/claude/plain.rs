//! Text from the agent made fit for people: bounded, and without characters that could forge
//! what a terminal or page shows.

use std::borrow::Cow;

/// The longest prefix of at most `max` bytes that ends between two characters.
pub(super) fn head(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.split_at(end).0
}

/// The longest suffix of at most `max` bytes that begins between two characters.
pub(super) fn tail(text: &str, max: usize) -> &str {
    let mut start = text.len().saturating_sub(max);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.split_at(start).1
}

/// Keeps both ends of a text that is longer than `max` bytes and says how much is missing.
pub(super) fn shorten(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    let (first, last) = (head(text, max / 2), tail(text, max / 2));
    let missing = text.len() - first.len() - last.len();
    Cow::Owned(format!("{first}\n… {missing} bytes left out …\n{last}"))
}

/// At most `max` bytes without control characters (line ends stay) and without characters that
/// turn the direction of writing.
pub(super) fn readable(text: &str, max: usize) -> String {
    let clean: String = head(text, max)
        .chars()
        .filter(|c| *c == '\n' || !(c.is_control() || turns_direction(*c)))
        .collect();
    if text.len() > max {
        format!("{clean}…")
    } else {
        clean
    }
}

/// [`readable`], on one line.
pub(super) fn one_line(text: &str, max: usize) -> String {
    let first = text.trim().lines().next().unwrap_or_default();
    let mut line = readable(first, max);
    if text.trim().lines().nth(1).is_some() && !line.ends_with('…') {
        line.push_str(" …");
    }
    line
}

fn turns_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_only_between_characters() {
        assert_eq!((head("aé", 2), tail("éa", 2)), ("a", "a"));
        assert_eq!(shorten("ééééé", 6), "é\n… 6 bytes left out …\né");
    }

    #[test]
    fn drops_what_could_forge_a_line() {
        assert_eq!(readable("rm \u{1b}[2K\u{202e}x\r\ny", 100), "rm [2Kx\ny");
        assert_eq!(one_line("ls -l\nrm x", 100), "ls -l …");
    }
}
