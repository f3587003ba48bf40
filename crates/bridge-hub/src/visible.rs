//! What machines say of themselves in one line, without what a reader would not see or would see in
//! another order than it stands.

/// The text without such characters. Right-to-left scripts do not need them.
pub(crate) fn visible(text: &str) -> String {
    text.chars().filter(|c| is_visible(*c)).collect()
}

/// Whether a character is seen where it stands: no control character, no mark that turns the
/// direction of text, nothing without a width.
pub(crate) fn is_visible(c: char) -> bool {
    let unseen = matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    );
    !c.is_control() && !unseen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_controls_go_and_words_of_any_script_stay() {
        let text = "ev\u{202e}il\u{2066}\u{200b}\u{1b}[2J\n\u{e0041}";
        assert_eq!(visible(text), "evil[2J");
        for word in ["böx-7", "مرحبا", "サーバー", "a b"] {
            assert_eq!(visible(word), word);
        }
    }
}
