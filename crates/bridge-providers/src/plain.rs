//! Text from the agent made fit for people: bounded, and without characters that could forge
//! what a terminal or page shows.

use std::borrow::Cow;

/// The longest prefix of at most `max` bytes that ends between two characters.
pub(crate) fn head(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.split_at(end).0
}

/// The longest suffix of at most `max` bytes that begins between two characters.
pub(crate) fn tail(text: &str, max: usize) -> &str {
    let mut start = text.len().saturating_sub(max);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.split_at(start).1
}

/// Keeps both ends of a text that is longer than `max` bytes and says how much is missing.
pub(crate) fn shorten(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    let (first, last) = (head(text, max / 2), tail(text, max / 2));
    let missing = text.len() - first.len() - last.len();
    Cow::Owned(format!("{first}\n… {missing} bytes left out …\n{last}"))
}

/// At most `max` bytes without control characters (line ends stay) and without characters that
/// turn the direction of writing.
pub(crate) fn readable(text: &str, max: usize) -> String {
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
pub(crate) fn one_line(text: &str, max: usize) -> String {
    let first = text.trim().lines().next().unwrap_or_default();
    let mut line = readable(first, max);
    if text.trim().lines().nth(1).is_some() && !line.ends_with('…') {
        line.push_str(" …");
    }
    line
}

/// Text for a person: terminal escapes and control characters gone, white space folded, at most
/// `max` characters.
pub(crate) fn sentence(text: &str, max: usize) -> String {
    let mut out = String::new();
    let mut count = 0;
    let mut chars = text.chars().peekable();
    let mut gap = false;
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            if chars.next_if_eq(&'[').is_some() {
                while chars
                    .next()
                    .is_some_and(|c| !('@'..='~').contains(&c) || c == '<')
                {}
            }
        } else if c.is_whitespace() || c.is_control() {
            gap = true;
        } else if turns_direction(c) {
            // Nothing of it is shown.
        } else {
            if gap && !out.is_empty() {
                out.push(' ');
                count += 1;
            }
            gap = false;
            if count >= max {
                out.push('…');
                return out;
            }
            out.push(c);
            count += 1;
        }
    }
    out
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

    #[test]
    fn sentences_lose_escapes_and_stay_short() {
        assert_eq!(
            sentence("\u{1b}[?1049h\u{1b}[2J\u{1b}[<u a\r\n\tb", 10),
            "a b"
        );
        assert_eq!(sentence("äöüß", 3), "äöü…");
    }
}
