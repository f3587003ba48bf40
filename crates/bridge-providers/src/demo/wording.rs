//! What the demo agent says.

use super::script::Script;

/// The answer to a prompt, as Markdown.
pub(crate) fn answer(script: &Script, earlier: &[String], file: &str) -> String {
    if script.remember {
        return remembered(earlier);
    }
    if let Some(pieces) = script.long {
        return (1..=pieces)
            .map(|n| format!("word{n} "))
            .collect::<Vec<_>>()
            .concat();
    }
    if script.haiku {
        return format!("{}\n", haiku(&script.subject));
    }
    let said = if script.subject.is_empty() {
        "(nothing)"
    } else {
        &script.subject
    };
    let unknown = match script.unknown.first() {
        Some(name) => format!("I do not know the directive `{name}`.\n\n"),
        None => String::new(),
    };
    format!(
        "Hello! I am the demo agent that is built into ctrlnode.\n\n\
         I need no account, no key and no network, and I always say the same. Everything around \
         me is real, though: this text reaches you piece by piece, the plan and the file are \
         events of a real agent protocol, and you can stop me, answer me and write again.\n\n\
         You wrote:\n\n> {said}\n\n\
         {unknown}My answer is going to be in `{file}`.\n\n\
         A line with `#demo ask` makes me ask for a permission, `#demo slow 20` gives you time \
         to cancel, and `#demo remember` shows that I know what you wrote before.\n"
    )
}

/// What was written before, oldest first.
fn remembered(earlier: &[String]) -> String {
    if earlier.is_empty() {
        return "This is the first thing you have written to me.\n".to_owned();
    }
    let lines = earlier
        .iter()
        .enumerate()
        .map(|(n, prompt)| format!("{}. {prompt}\n", n + 1));
    format!(
        "Before this you wrote:\n\n{}",
        lines.collect::<Vec<_>>().concat()
    )
}

fn haiku(subject: &str) -> &'static str {
    let sum: usize = subject.bytes().map(usize::from).sum();
    HAIKUS.get(sum % HAIKUS.len()).copied().unwrap_or_default()
}

/// The pieces an answer is streamed in: words with what follows them.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive([' ', '\n'])
}

const HAIKUS: [&str; 4] = [
    "A small task arrives.\nOne light blinks on the machine;\nthe answer flows back.",
    "No port left open,\nthe daemon dials out at dawn.\nRain on quiet roofs.",
    "The link breaks at noon.\nPatient, it counts and returns;\nnot one word is lost.",
    "Asked before writing,\nthe agent waits by the pond.\nA nod, and it leaps.",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_friendly_answer_has_many_pieces_and_loses_nothing() {
        let text = answer(&Script::read("tell me a joke"), &[], "output/answer.md");
        assert!(text.contains("> tell me a joke"));
        assert!(pieces(&text).count() > 50);
        assert_eq!(pieces(&text).collect::<String>(), text);
    }

    #[test]
    fn a_haiku_has_three_lines_and_stays_the_same() {
        let haiku = answer(&Script::read("write a haiku"), &[], "f");
        assert_eq!(haiku.lines().count(), 3);
        assert_eq!(haiku, answer(&Script::read("write a haiku"), &[], "f"));
    }

    #[test]
    fn a_long_answer_has_as_many_pieces_as_told() {
        assert_eq!(
            pieces(&answer(&Script::read("#demo long 7"), &[], "f")).count(),
            7
        );
    }
}
