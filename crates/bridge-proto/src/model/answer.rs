//! What a person's words mean for an open question (decision 18).

use super::{Answer, Ask, AskKind, Choice, ChoiceKind};

/// What the words mean: the number of an option (from 1), its label or its id in any case, and for
/// permissions also `y`, `yes`, `n` and `no`. Everything else is free text.
///
/// `yes` never means more than this once when that can be chosen; `no` without an option that says
/// so is a [`Answer::Deny`].
pub fn match_answer(ask: &Ask, text: &str) -> Answer {
    let words = text.trim();
    let choose = |choice: &Choice| Answer::Choose {
        option: choice.id.clone(),
    };
    let same = |other: &str| other.trim().to_lowercase() == words.to_lowercase();
    let by_number = words
        .parse::<usize>()
        .ok()
        .and_then(|number| ask.options.get(number.checked_sub(1)?));
    let named = by_number
        .or_else(|| ask.options.iter().find(|choice| same(&choice.label)))
        .or_else(|| ask.options.iter().find(|choice| same(&choice.id)));
    if let Some(choice) = named {
        return choose(choice);
    }
    let of = |kinds: [ChoiceKind; 2]| {
        kinds
            .iter()
            .find_map(|kind| ask.options.iter().find(|choice| choice.kind == *kind))
    };
    let permission = match ask.kind {
        AskKind::Edit | AskKind::Command | AskKind::Other => true,
        AskKind::Question => false,
    };
    match words.to_lowercase().as_str() {
        "y" | "yes" if permission => {
            if let Some(choice) = of([ChoiceKind::AllowOnce, ChoiceKind::AllowAlways]) {
                return choose(choice);
            }
        }
        "n" | "no" if permission => {
            return of([ChoiceKind::RejectOnce, ChoiceKind::RejectAlways]).map_or_else(
                || Answer::Deny {
                    reason: words.to_owned(),
                },
                choose,
            );
        }
        _ => {}
    }
    Answer::Text {
        text: text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{AskId, Digest};

    fn ask(kind: AskKind, options: &[(&str, &str, ChoiceKind)]) -> Ask {
        Ask {
            id: AskId::parse("a").unwrap(),
            kind,
            summary: "Run cargo test?".into(),
            options: options
                .iter()
                .map(|(id, label, kind)| Choice {
                    id: (*id).into(),
                    label: (*label).into(),
                    kind: *kind,
                })
                .collect(),
            digest: Digest::of(&["x"]),
            tool: None,
            expires: None,
            answered: None,
            action: None,
        }
    }

    fn permission() -> Ask {
        ask(
            AskKind::Command,
            &[
                ("always", "Always allow", ChoiceKind::AllowAlways),
                ("once", "Allow once", ChoiceKind::AllowOnce),
                ("never", "Reject", ChoiceKind::RejectOnce),
            ],
        )
    }

    fn chosen(option: &str) -> Answer {
        Answer::Choose {
            option: option.into(),
        }
    }

    fn said(text: &str) -> Answer {
        Answer::Text { text: text.into() }
    }

    #[test]
    fn numbers_labels_and_ids_name_options() {
        for (words, option) in [
            ("1", "always"),
            (" 3 ", "never"),
            ("allow ONCE", "once"),
            ("Never", "never"),
        ] {
            assert_eq!(
                match_answer(&permission(), words),
                chosen(option),
                "{words}"
            );
        }
    }

    #[test]
    fn numbers_outside_the_list_are_text() {
        for words in ["0", "4", "-1", "99999999999999999999999"] {
            assert_eq!(match_answer(&permission(), words), said(words));
        }
    }

    #[test]
    fn yes_allows_once_and_no_rejects_a_permission() {
        for (words, option) in [
            ("y", "once"),
            ("YES", "once"),
            ("n", "never"),
            ("No", "never"),
        ] {
            assert_eq!(
                match_answer(&permission(), words),
                chosen(option),
                "{words}"
            );
        }
    }

    #[test]
    fn yes_without_an_allowing_option_is_text_and_no_denies() {
        let bare = ask(AskKind::Edit, &[]);
        assert_eq!(match_answer(&bare, "yes"), said("yes"));
        assert_eq!(
            match_answer(&bare, "no"),
            Answer::Deny {
                reason: "no".into()
            }
        );
    }

    #[test]
    fn a_question_takes_yes_and_no_as_words_unless_they_are_labels() {
        let colour = ask(AskKind::Question, &[("r", "Red", ChoiceKind::Plain)]);
        assert_eq!(match_answer(&colour, "yes"), said("yes"));
        assert_eq!(match_answer(&colour, "red"), chosen("r"));
        assert_eq!(match_answer(&colour, " dark blue "), said(" dark blue "));
    }
}
