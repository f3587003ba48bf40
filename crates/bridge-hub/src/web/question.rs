//! A question of an agent as a card: what is asked, what can be said, and what became of it.

use bridge_proto::model::{Ask, AskEnd, AskKind, ChoiceKind};
use maud::{Markup, html};

use super::{
    conversation::{Body, Closed, Item},
    items,
    layout::{Icon, icon, time},
};

/// The question as a card, with what can be done about it.
pub(crate) fn card(item: &Item) -> Markup {
    let Body::Ask { ask, end } = &item.body else {
        return html! {};
    };
    let head = match ask.kind {
        AskKind::Edit => "May the agent change files?",
        AskKind::Command => "May the agent run this command?",
        AskKind::Other => "The agent asks for permission",
        AskKind::Question => "The agent has a question",
    };
    let sign = if ask.kind == AskKind::Question {
        Icon::Question
    } else {
        Icon::Shield
    };
    html! {
        @match end {
            Some(closed) => {
                div.card.closed {
                    p.summary { (icon(sign)) span { (ask.summary) } }
                    p.verdict { (verdict(closed)) }
                }
            }
            None if ask.answered.is_some() => {
                div.card.closed {
                    p.summary { (icon(sign)) span { (ask.summary) } }
                    p.verdict { "Sent: " (ask.answered.as_deref().unwrap_or_default()) " · waiting for the agent" }
                }
            }
            None => {
                form.card data-ask=(ask.id) data-digest=(ask.digest.as_str()) aria-labelledby={ (item.key) "-h" } {
                    // What the Enter key presses: never one of the options.
                    button.sr type="submit" tabindex="-1" aria-hidden="true" {}
                    h3 #{ (item.key) "-h" } { (icon(sign)) (head) }
                    pre.summary tabindex="0" { (items::clipped(&ask.summary)) }
                    @if !ask.options.is_empty() {
                        div.choices {
                            @for choice in &ask.options {
                                button class={ "button " (choice_class(choice.kind)) } type="submit"
                                    name="option" value=(choice.id) { (choice.label) }
                            }
                        }
                    }
                    @let (words, say) = own_words(ask);
                    label.sr for={ (item.key) "-t" } { (words) }
                    div.reply {
                        input #{ (item.key) "-t" } name="text" type="text" autocomplete="off" placeholder=(words);
                        button.button.primary[ask.options.is_empty()] type="submit"
                            name=[(ask.kind != AskKind::Question).then_some("deny")] { (say) }
                    }
                    p.hint.sent hidden { "Sent, waiting for the machine…" }
                    @if let Some(expires) = ask.expires {
                        p.hint { "Decided without you: " span.left data-until=(expires) { (time(expires)) } }
                    }
                }
            }
        }
    }
}

/// What a person may say instead of choosing, and the word on the button for it.
fn own_words(ask: &Ask) -> (&'static str, &'static str) {
    match (ask.kind, ask.options.is_empty()) {
        (AskKind::Question, true) => ("Your answer", "Answer"),
        (AskKind::Question, false) => ("Or in your own words", "Answer"),
        (AskKind::Edit | AskKind::Command | AskKind::Other, _) => {
            ("Or what it shall do instead", "Deny and say")
        }
    }
}

fn choice_class(kind: ChoiceKind) -> &'static str {
    match kind {
        ChoiceKind::AllowOnce => "primary",
        ChoiceKind::AllowAlways | ChoiceKind::Plain => "",
        ChoiceKind::RejectOnce | ChoiceKind::RejectAlways => "danger",
    }
}

fn verdict(closed: &Closed) -> String {
    match closed {
        Closed::Told(AskEnd::Answered { answer }) => format!("Answered: {answer}"),
        Closed::Told(AskEnd::ByPolicy { rule }) => format!("Decided on the machine: {rule}"),
        Closed::Told(AskEnd::Expired) => "Nobody answered in time".to_owned(),
        Closed::Told(AskEnd::Withdrawn) => "Withdrawn".to_owned(),
        Closed::RunOver => "The run ended before an answer".to_owned(),
    }
}
