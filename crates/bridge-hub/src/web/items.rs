//! One item of a conversation as HTML. Everything from outside goes through the template's
//! escaping, or through the sanitising Markdown renderer.

use bridge_proto::model::{FileDiff, PlanItem, PlanStatus, ToolKind, ToolState, ToolStatus};
use maud::{Markup, PreEscaped, html};
use serde_json::Value;

use super::{
    conversation::{Body, Item, Note, Written},
    diff::{self, Line},
    layout::{Icon, icon, time},
    outcome, question,
};
use crate::markdown::render_markdown;

/// The item as one `<li>`, ready to be put into the stream or to replace its older self.
pub(crate) fn item(item: &Item) -> Markup {
    let (class, gone) = match &item.body {
        Body::Prompt { joined, .. } => ("prompt", *joined),
        Body::Answer { text, .. } => ("answer", text.trim().is_empty()),
        Body::Thinking { text, .. } => ("thinking", text.trim().is_empty()),
        Body::Tool { state, asking } => {
            let asked = asking.as_deref();
            ("tool", asked.is_some_and(|asked| says_all(asked, state)))
        }
        Body::Plan { items, .. } => ("plan", items.is_empty()),
        Body::Files { .. } => ("files", false),
        Body::Ask { .. } => ("ask", false),
        Body::Note { gone, .. } => ("note", *gone),
        Body::End { .. } => ("end", false),
    };
    html! {
        li #(item.key) class={ "item " (class) } data-order=(item.order) hidden[gone] {
            @if !gone {
                @match &item.body {
                    Body::Prompt { text, attachments, .. } => (prompt(item, text, attachments)),
                    Body::Answer { attempt, block, text, open } => (answer(attempt, block, text, *open)),
                    Body::Thinking { attempt, text, open } => (thinking(item, attempt, text, *open)),
                    Body::Tool { state, asking } => (tool(item, state, asking.is_some())),
                    Body::Plan { items, over } => (plan(items, *over)),
                    Body::Files { files } => (written(files)),
                    Body::Ask { .. } => (question::card(item)),
                    Body::Note { note: what, .. } => (note(what)),
                    Body::End { end, took_millis } => (outcome::end(end, *took_millis)),
                }
            }
        }
    }
}

fn prompt(item: &Item, text: &str, attachments: &[String]) -> Markup {
    html! {
        h3.sr { "You" }
        div.bubble {
            div.words { (text) }
            @if !attachments.is_empty() {
                ul.chips aria-label="Attachments" {
                    @for name in attachments { li { (icon(Icon::Clip)) (name) } }
                }
            }
        }
        div.when { (time(item.at)) }
    }
}

fn answer(attempt: &str, block: &str, text: &str, open: bool) -> Markup {
    let (done, rest) = if open {
        split_finished(text)
    } else {
        (text, "")
    };
    html! {
        div.prose { (markdown(done)) }
        @if open {
            div.tail data-live="text" data-run=(attempt) data-block=(block) { (rest) }
        }
    }
}

fn thinking(item: &Item, attempt: &str, text: &str, open: bool) -> Markup {
    html! {
        details.fold #{ (item.key) "-d" } {
            summary {
                span.mark.quiet { @if open { (icon(Icon::Spin)) } @else { (icon(Icon::Thought)) } }
                span.label { @if open { "Thinking…" } @else { "Thought" } }
            }
            div.inside {
                @if open {
                    div.tail data-live="thinking" data-run=(attempt) { (text) }
                } @else {
                    div.thought { (text) }
                }
            }
        }
    }
}

/// Whether a question tells everything its call would show, so that one of the two is enough.
fn says_all(asked: &str, state: &ToolState) -> bool {
    let input = state.input.as_ref().and_then(input_text);
    let told = |input: &str| asked.contains(input.strip_prefix("$ ").unwrap_or(input));
    state.diffs.is_empty() && input.is_none_or(|input| told(&input))
}

fn tool(item: &Item, state: &ToolState, asking: bool) -> Markup {
    let (mark, tone, said) = match state.status {
        ToolStatus::Pending if asking => (Icon::Question, "attention", "waits for your answer"),
        ToolStatus::Pending => (Icon::Clock, "quiet", "waiting"),
        ToolStatus::InProgress => (Icon::Spin, "active", "running"),
        ToolStatus::Completed => (Icon::Check, "good", "done"),
        ToolStatus::Failed => (Icon::Cross, "bad", "failed"),
        ToolStatus::Cancelled => (Icon::Stop, "quiet", "stopped"),
        ToolStatus::Unknown => (Icon::Dash, "quiet", "not heard of again"),
    };
    let (kind, kind_name) = tool_kind(state.kind);
    let title = if state.title.trim().is_empty() {
        kind_name
    } else {
        state.title.as_str()
    };
    let diffs: Vec<(&FileDiff, Vec<Line<'_>>)> = state
        .diffs
        .iter()
        .take(MAX_DIFFS)
        .map(|one| {
            (
                one,
                diff::lines(one.old.as_deref().unwrap_or(""), &one.new, MAX_DIFF_LINES),
            )
        })
        .collect();
    let (new, gone) = diffs.iter().fold((0, 0), |(new, gone), (_, lines)| {
        let (more, less) = diff::counts(lines);
        (new + more, gone + less)
    });
    let output = state
        .output
        .as_deref()
        .map(str::trim_end)
        .filter(|text| !text.is_empty());
    let input = state
        .input
        .as_ref()
        .filter(|_| diffs.is_empty())
        .and_then(input_text);
    let empty =
        diffs.is_empty() && output.is_none() && input.is_none() && state.locations.is_empty();
    let row = html! {
        span class={ "mark " (tone) } { (icon(mark)) span.sr { (said) ": " } }
        span.kind title=(kind_name) { (icon(kind)) }
        span.label { (title) }
        @if new + gone > 0 {
            span.counts { span.new { "+" (new) } " " span.gone { "−" (gone) } }
        }
    };
    html! {
        @if empty {
            div.fold.flat { div.row { (row) } }
        } @else {
            details.fold #{ (item.key) "-d" } open[asking] {
                summary { (row) }
                div.inside {
                    @if !state.locations.is_empty() && diffs.is_empty() {
                        ul.chips aria-label="Files" {
                            @for place in state.locations.iter().take(MAX_LOCATIONS) {
                                li { (icon(Icon::File)) (place.path)
                                    @if let Some(line) = place.line { ":" (line) } }
                            }
                        }
                    }
                    @if let Some(input) = input {
                        h4 { "Input" }
                        pre tabindex="0" { (clipped(&input)) }
                    }
                    @for (one, lines) in &diffs { (diff_table(one, lines)) }
                    @if let Some(output) = output {
                        h4 { "Output" }
                        pre.output tabindex="0" { (clipped(output)) }
                    }
                }
            }
        }
    }
}

fn tool_kind(kind: ToolKind) -> (Icon, &'static str) {
    match kind {
        ToolKind::Read => (Icon::File, "Read"),
        ToolKind::Edit => (Icon::Pencil, "Edit"),
        ToolKind::Delete => (Icon::Trash, "Delete"),
        ToolKind::Move => (Icon::File, "Move"),
        ToolKind::Search => (Icon::Search, "Search"),
        ToolKind::Execute => (Icon::Terminal, "Command"),
        ToolKind::Think => (Icon::Thought, "Think"),
        ToolKind::Fetch => (Icon::Globe, "Fetch"),
        ToolKind::SwitchMode => (Icon::Gear, "Change of mode"),
        ToolKind::Other => (Icon::Gear, "Tool"),
    }
}

/// A command reads as a command; anything else as indented JSON.
fn input_text(input: &Value) -> Option<String> {
    if let Some(text) = input.as_str() {
        return (!text.trim().is_empty()).then(|| text.to_owned());
    }
    if let Some(command) = input.get("command").and_then(Value::as_str) {
        return Some(format!("$ {command}"));
    }
    let empty = input.is_null()
        || input.as_object().is_some_and(serde_json::Map::is_empty)
        || input.as_array().is_some_and(Vec::is_empty);
    if empty {
        return None;
    }
    serde_json::to_string_pretty(input).ok()
}

fn diff_table(one: &FileDiff, lines: &[Line<'_>]) -> Markup {
    html! {
        figure.diff {
            figcaption { (icon(Icon::File)) (one.path)
                @if one.old.is_none() { span.hint { "new file" } } }
            pre tabindex="0" {
                @for line in lines {
                    @match line {
                        Line::Same(text) => span.line { "  " (clip_line(text)) "\n" },
                        Line::Gone(text) => span.line.gone { "- " (clip_line(text)) "\n" },
                        Line::New(text) => span.line.new { "+ " (clip_line(text)) "\n" },
                        Line::Skipped(count) => span.line.skipped { "⋯ " (count) " lines\n" },
                    }
                }
                @if lines.is_empty() { span.line.skipped { "no change\n" } }
            }
        }
    }
}

fn plan(items: &[PlanItem], over: bool) -> Markup {
    let done = items
        .iter()
        .filter(|one| one.status == PlanStatus::Completed)
        .count();
    html! {
        h3.part { (icon(Icon::List)) "Plan" span.hint { (done) " of " (items.len()) } }
        ol.steps {
            @for one in items {
                @match one.status {
                    PlanStatus::Pending => li.pending { span.mark.quiet { span.ring {} } span { (one.text) span.sr { ", to do" } } },
                    PlanStatus::InProgress if over => li.pending { span.mark.quiet { (icon(Icon::Dash)) } span { (one.text) span.sr { ", not finished" } } },
                    PlanStatus::InProgress => li.now { span.mark.active { (icon(Icon::Spin)) } span { (one.text) span.sr { ", in progress" } } },
                    PlanStatus::Completed => li.done { span.mark.good { (icon(Icon::Check)) } span { (one.text) span.sr { ", done" } } },
                }
            }
        }
    }
}

fn written(files: &[Written]) -> Markup {
    html! {
        span.lead { @if files.len() == 1 { "Wrote" } @else { "Wrote " (files.len()) " files" } }
        ul.chips {
            @for file in files.iter().take(MAX_LOCATIONS) {
                li {
                    @if let Some(address) = &file.address {
                        a download href=(address) { (icon(Icon::Down)) (file.path) }
                    } @else { (icon(Icon::File)) (file.path) }
                }
            }
        }
    }
}

fn note(note: &Note) -> Markup {
    let (sign, text) = match note {
        Note::Queued(0) => (Icon::Clock, "Waiting for a free place".to_owned()),
        Note::Queued(1) => (Icon::Clock, "Waiting, one task in front".to_owned()),
        Note::AfterAnswer => (Icon::Clock, "Comes after the current answer".to_owned()),
        Note::Queued(ahead) => (Icon::Clock, format!("Waiting, {ahead} tasks in front")),
        Note::Status(text) => (Icon::Dash, text.clone()),
        Note::Retrying(retry) => {
            let of = retry
                .limit
                .map_or_else(String::new, |limit| format!(" of {limit}"));
            let wait = retry.delay.map_or_else(String::new, |delay| {
                format!(", next try in {} s", delay.as_secs().max(1))
            });
            let text = format!(
                "Trying again ({}{of}{wait}): {}",
                retry.attempt, retry.reason
            );
            (Icon::Spin, text)
        }
        Note::Silent(seconds) => (Icon::Clock, format!("Nothing heard for {seconds} s")),
    };
    let sign = if sign == Icon::Spin {
        Icon::Clock
    } else {
        sign
    };
    html! { p.line { (icon(sign)) span { (text) } } }
}

fn markdown(text: &str) -> Markup {
    PreEscaped(if text.trim().is_empty() {
        String::new()
    } else {
        render_markdown(text)
    })
}

/// Splits text that is still being written after its last finished paragraph: what stands in front
/// can be rendered, the rest is shown as it comes. A code block counts as one paragraph.
fn split_finished(text: &str) -> (&str, &str) {
    let (mut fence, mut cut, mut at) = (None, 0, 0);
    for line in text.split_inclusive('\n') {
        at += line.len();
        let bare = line.trim();
        let marker = ["```", "~~~"]
            .into_iter()
            .find(|marker| bare.starts_with(marker));
        match (fence, marker) {
            (None, Some(marker)) => fence = Some(marker),
            (Some(open), Some(marker)) if open == marker && line.ends_with('\n') => {
                fence = None;
                cut = at;
            }
            (None, None) if bare.is_empty() && line.ends_with('\n') => cut = at,
            (Some(_), Some(_) | None) | (None, None) => {}
        }
    }
    text.split_at(cut)
}

/// The first part of a long text, and how much is missing.
pub(crate) fn clipped(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT_CHARS) {
        None => text.to_owned(),
        Some((cut, _)) => {
            let (shown, rest) = text.split_at(cut);
            format!("{shown}\n… {} more characters", rest.chars().count())
        }
    }
}

fn clip_line(line: &str) -> &str {
    match line.char_indices().nth(MAX_LINE_CHARS) {
        None => line,
        Some((cut, _)) => line.split_at(cut).0,
    }
}

/// Characters of one input or output that a page shows.
const MAX_TEXT_CHARS: usize = 20_000;
const MAX_LINE_CHARS: usize = 500;
const MAX_DIFF_LINES: usize = 400;
const MAX_DIFFS: usize = 20;
const MAX_LOCATIONS: usize = 50;

#[cfg(test)]
mod tests {
    use bridge_proto::model::{AskEnd, AskKind, Location, Outcome, RunEvent, Usage};

    use super::*;
    use crate::web::conversation::{
        End, fold,
        tests::{ask, event, prompt, seen, text, tool},
    };

    const EVIL: &str = "<script>alert(1)</script>\"><img src=x onerror=alert(1)>";

    fn page(events: &[bridge_proto::model::Event]) -> String {
        let folded = fold(&[prompt("a", EVIL)], (1..).zip(events));
        folded
            .items
            .iter()
            .map(|one| item(one).into_string())
            .collect()
    }

    fn assert_harmless(html: &str) {
        assert!(!html.contains("<script"), "{html}");
        assert!(!html.contains("<img"), "{html}");
    }

    #[test]
    fn everything_from_outside_comes_out_escaped() {
        let mut call = tool("x", EVIL, ToolStatus::Completed);
        call.input = Some(serde_json::json!({ "command": EVIL }));
        call.output = Some(EVIL.into());
        call.locations = vec![Location {
            path: EVIL.into(),
            line: Some(3),
        }];
        let mut edit = tool("y", EVIL, ToolStatus::Pending);
        edit.diffs = vec![FileDiff {
            path: EVIL.into(),
            old: Some("a".into()),
            new: EVIL.into(),
        }];
        let mut question = ask("q\"><img>", None);
        question.summary = EVIL.into();
        question.options[0].label = EVIL.into();
        question.options[0].id = EVIL.into();
        let plan = vec![PlanItem {
            text: EVIL.into(),
            status: PlanStatus::InProgress,
        }];
        let block = "b\"><img onerror=1>";
        let events = [
            seen("a", 1, RunEvent::Thinking { delta: EVIL.into() }),
            seen("a", 2, RunEvent::Tool(call)),
            seen("a", 3, RunEvent::Tool(edit)),
            seen("a", 4, RunEvent::Plan { items: plan }),
            seen("a", 5, RunEvent::FileWritten { path: EVIL.into() }),
            seen("a", 6, RunEvent::Ask(question)),
            seen("a", 7, RunEvent::Status { text: EVIL.into() }),
            text(
                "a",
                8,
                block,
                &format!("{EVIL}\n\n[x](javascript:alert(1))\n\n{EVIL}"),
            ),
        ];
        let html = page(&events);
        assert_harmless(&html);
        assert!(!html.contains("href=\"javascript:"), "{html}");
        assert!(html.contains("&lt;script&gt;alert(1)"));

        let reason = EVIL.to_owned();
        let fault = bridge_proto::model::Fault::Agent;
        let ended = event(
            "a",
            1,
            bridge_proto::model::EventBody::Ended {
                outcome: Outcome::Failed { fault, reason },
            },
        );
        assert_harmless(&page(&[ended]));
    }

    #[test]
    fn an_open_block_shows_finished_paragraphs_rendered_and_the_rest_as_it_comes() {
        let html = page(&[text("a", 1, "b1", "**one**\n\n**two")]);
        assert!(html.contains("<strong>one</strong>"), "{html}");
        assert!(html.contains("data-block=\"b1\">**two</div>"), "{html}");
    }

    #[test]
    fn a_withdrawn_block_is_hidden_but_keeps_its_place() {
        let block = bridge_proto::BlockId::parse("b1").unwrap();
        let events = [
            text("a", 1, "b1", "draft"),
            seen(
                "a",
                2,
                RunEvent::TextReplaced {
                    block,
                    text: String::new(),
                },
            ),
        ];
        let html = page(&events);
        assert!(html.contains("id=\"r0-1\" class=\"item answer\""), "{html}");
        assert!(html.contains(" hidden></li>"), "{html}");
    }

    #[test]
    fn only_an_open_question_has_buttons() {
        let question = ask("q", None);
        let id = question.id.clone();
        let mut events = vec![seen("a", 1, RunEvent::Ask(question))];
        assert!(page(&events).contains("<button"));
        let how = AskEnd::Answered {
            answer: "Allow".into(),
        };
        events.push(seen("a", 2, RunEvent::AskClosed { ask: id, how }));
        let html = page(&events);
        assert!(
            !html.contains("<button") && html.contains("Answered: Allow"),
            "{html}"
        );
    }

    #[test]
    fn an_answered_question_waits_for_the_agent_without_buttons() {
        let question = ask("q", None);
        let mut answered = question.clone();
        answered.answered = Some("<b>Allow</b>".into());
        let events = [
            seen("a", 1, RunEvent::Ask(question)),
            seen("a", 2, RunEvent::Ask(answered)),
        ];
        let html = page(&events);
        assert!(!html.contains("<button") && !html.contains("<b>"), "{html}");
        assert!(html.contains("waiting for the agent"), "{html}");
        assert_eq!(
            html.matches("class=\"item ask\"").count(),
            1,
            "one question"
        );
    }

    #[test]
    fn a_question_that_runs_out_counts_down_and_takes_own_words() {
        let mut question = ask("q", None);
        question.expires = Some(bridge_proto::Timestamp::from_millis(1_773_480_413_589));
        let html = page(&[seen("a", 1, RunEvent::Ask(question.clone()))]);
        assert!(
            html.contains("data-until=\"2026-03-14T09:26:53.589Z\""),
            "{html}"
        );
        assert!(
            html.contains("name=\"deny\""),
            "a permission is denied with words: {html}"
        );
        let first = html.find("<button").unwrap();
        let default = html.split_at(first).1.split('>').next().unwrap();
        assert!(
            !default.contains("name="),
            "the Enter key allows nothing: {default}"
        );
        question.kind = AskKind::Question;
        let html = page(&[seen("a", 1, RunEvent::Ask(question))]);
        assert!(html.contains("Or in your own words") && !html.contains("name=\"deny\""));
    }

    #[test]
    fn a_question_is_shown_once_and_its_call_stays_where_it_shows_more() {
        let mut call = tool("x", "rm -r build", ToolStatus::Pending);
        let mut events = vec![
            seen("a", 1, RunEvent::Tool(call.clone())),
            seen("a", 2, RunEvent::Ask(ask("q", Some("x")))),
        ];
        assert!(!page(&events).contains("rm -r build"));
        let how = AskEnd::Withdrawn;
        let id = ask("q", None).id;
        events.push(seen("a", 3, RunEvent::AskClosed { ask: id, how }));
        assert!(page(&events).contains("rm -r build"));
        let mut untold = call.clone();
        untold.input = Some(serde_json::json!({ "target": "what is not told" }));
        call.diffs = vec![FileDiff {
            path: "a.txt".into(),
            old: None,
            new: "what is not told".into(),
        }];
        for call in [call, untold] {
            let events = [
                seen("a", 1, RunEvent::Tool(call)),
                seen("a", 2, RunEvent::Ask(ask("q", Some("x")))),
            ];
            assert!(page(&events).contains("what is not told"));
        }
    }

    #[test]
    fn a_follow_up_waits_for_the_answer_before_it_and_not_for_a_number() {
        use bridge_proto::model::EventBody;
        let queued = |n| event("b", n, EventBody::Queued { ahead: 1 });
        let prompts = [prompt("a", "one"), prompt("b", "two")];
        let told = |events: &[bridge_proto::model::Event]| {
            let folded = fold(&prompts, (1..).zip(events));
            let items = folded.items.iter().map(|one| item(one).into_string());
            items.collect::<String>()
        };
        let html = told(&[text("a", 1, "b1", "x"), queued(1)]);
        assert!(html.contains("after the current answer"), "{html}");
        let outcome = Outcome::Completed;
        let over = event("a", 1, EventBody::Ended { outcome });
        assert!(told(&[over, queued(1)]).contains("one task in front"));
    }

    #[test]
    fn long_outputs_are_cut_with_a_word_about_it() {
        let mut call = tool("x", "cat", ToolStatus::Completed);
        call.output = Some("é".repeat(MAX_TEXT_CHARS + 5));
        let html = page(&[seen("a", 1, RunEvent::Tool(call))]);
        assert!(html.contains("… 5 more characters"));
    }

    #[test]
    fn an_end_without_trouble_is_short() {
        let html = outcome::end(&End::Ran(Outcome::Completed), Some(12_000));
        assert!(html.into_string().contains("Completed"));
        assert_eq!(outcome::usage(Usage::default()), None);
    }

    #[test]
    fn unfinished_text_is_cut_after_the_last_whole_paragraph() {
        assert_eq!(split_finished("one\ntwo"), ("", "one\ntwo"));
        assert_eq!(split_finished("one\n\ntwo"), ("one\n\n", "two"));
        assert_eq!(split_finished("a\n\n```\nx\n\ny"), ("a\n\n", "```\nx\n\ny"));
        assert_eq!(
            split_finished("```\nx\n\n```\nrest"),
            ("```\nx\n\n```\n", "rest")
        );
        assert_eq!(split_finished(""), ("", ""));
    }
}
