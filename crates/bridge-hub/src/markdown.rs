//! Markdown of agents to HTML that can be shown: rendered by a library, then sanitised by another.

use std::{borrow::Cow, collections::HashSet};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd, html};

/// Renders untrusted Markdown as HTML without scripts, styles, forms, frames, or anything that is
/// fetched from elsewhere: images become links. Links open with `rel="noopener noreferrer"`.
/// A text of more than 64 KiB comes out as it is, escaped.
pub fn render_markdown(text: &str) -> String {
    if text.len() > MOST_BYTES {
        return maud::html! { pre { (text) } }.into_string();
    }
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let events = not_too_deep(Parser::new_ext(text, options)).map(|event| match event {
        Event::Start(Tag::Image {
            link_type,
            dest_url,
            title,
            id,
        }) => Event::Start(Tag::Link {
            link_type,
            dest_url,
            title,
            id,
        }),
        Event::End(TagEnd::Image) => Event::End(TagEnd::Link),
        Event::Html(raw) | Event::InlineHtml(raw) => Event::Text(raw),
        // Agents write for a terminal: where a line ends there, it ends here.
        Event::SoftBreak => Event::HardBreak,
        Event::TaskListMarker(done) => Event::Text(if done { "☑ " } else { "☐ " }.into()),
        other @ (Event::Start(_)
        | Event::End(_)
        | Event::Text(_)
        | Event::Code(_)
        | Event::InlineMath(_)
        | Event::DisplayMath(_)
        | Event::FootnoteReference(_)
        | Event::HardBreak
        | Event::Rule) => other,
    });
    let mut rendered = String::with_capacity(text.len() + text.len() / 2);
    html::push_html(&mut rendered, events);
    sanitiser().clean(&rendered).to_string()
}

/// Leaves out the marks of what is nested deeper than [`MOST_NESTED`], not its text: the sanitiser
/// needs minutes for some thousand quotes or lists in one another, which are a line of text.
fn not_too_deep<'a>(events: impl Iterator<Item = Event<'a>>) -> impl Iterator<Item = Event<'a>> {
    let mut depth = 0_usize;
    events.filter(move |event| match event {
        Event::Start(_) => {
            depth += 1;
            depth <= MOST_NESTED
        }
        Event::End(_) => {
            depth = depth.saturating_sub(1);
            depth < MOST_NESTED
        }
        Event::Text(_)
        | Event::Code(_)
        | Event::InlineMath(_)
        | Event::DisplayMath(_)
        | Event::Html(_)
        | Event::InlineHtml(_)
        | Event::FootnoteReference(_)
        | Event::SoftBreak
        | Event::HardBreak
        | Event::Rule
        | Event::TaskListMarker(_) => true,
    })
}

/// A long answer has a tenth of it. The time that the sanitiser needs grows with the square of the
/// text where that is full of `&` and `<`.
const MOST_BYTES: usize = 64 * 1024;

/// More than anybody nests on purpose.
const MOST_NESTED: usize = 64;

fn sanitiser() -> ammonia::Builder<'static> {
    let mut builder = ammonia::Builder::default();
    builder
        .rm_tags(["img", "map", "area"])
        .url_schemes(HashSet::from(["http", "https", "mailto"]))
        .url_relative(ammonia::UrlRelative::Deny)
        .link_rel(Some("noopener noreferrer nofollow"))
        .add_tag_attributes("code", ["class"])
        .attribute_filter(|element, attribute, value| match (element, attribute) {
            ("code", "class") => is_language(value).then_some(Cow::Borrowed(value)),
            _ => Some(Cow::Borrowed(value)),
        });
    builder
}

/// `language-rust` and the like, never a class the page uses itself.
fn is_language(class: &str) -> bool {
    class.strip_prefix("language-").is_some_and(|name| {
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-_#".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_where_the_agent_ended_them() {
        assert_eq!(render_markdown("one\ntwo"), "<p>one<br>\ntwo</p>\n");
    }

    #[test]
    fn what_is_nested_without_end_is_rendered_at_once_and_keeps_its_text() {
        for mark in [">", "> ", "- ", "1. ", "* - "] {
            let html = render_markdown(&format!("{}deep", mark.repeat(20_000)));
            assert!(html.contains("deep") && html.len() < 100_000, "{mark}");
        }
        let quotes = render_markdown(&format!("{}deep", ">".repeat(20)));
        assert_eq!(quotes.matches("<blockquote>").count(), 20);
    }

    #[test]
    fn a_text_beyond_measure_is_shown_as_it_is() {
        let html = render_markdown(&"<&*a* ".repeat(200_000));
        assert!(html.starts_with("<pre>&lt;&amp;*a* ") && html.ends_with("</pre>"));
    }

    #[test]
    fn renders_what_agents_write() {
        assert_eq!(
            render_markdown("**bold** `x`"),
            "<p><strong>bold</strong> <code>x</code></p>\n"
        );
        let code = render_markdown("```rust\nfn main() {}\n```");
        assert_eq!(
            code,
            "<pre><code class=\"language-rust\">fn main() {}\n</code></pre>\n"
        );
        assert!(render_markdown("|a|\n|-|\n|b|").contains("<td>b</td>"));
        assert!(render_markdown("- [x] done").contains("☑ done"));
    }

    #[test]
    fn nothing_in_it_can_run_or_be_fetched() {
        let hostile = [
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "![x](https://elsewhere.example/pixel.png)",
            "![x](javascript:alert(1))",
            "[x](javascript:alert(1))",
            "[x](JaVaScRiPt:alert(1))",
            "[x](data:text/html,<script>alert(1)</script>)",
            "<iframe src=https://elsewhere.example></iframe>",
            "<style>*{display:none}</style>",
            "<form action=https://elsewhere.example><input></form>",
            "<a href=\"javascript:alert(1)\">x</a>",
            "<svg onload=alert(1)>",
            "<p style=\"position:fixed\">x</p>",
            "```\"><script>alert(1)</script>\n```",
            "[x](vbscript:x)",
            "<https://ok.example/\"onmouseover=alert(1)>",
            "[x][y]\n\n[y]: javascript:alert(1)",
        ];
        for text in hostile {
            let html = render_markdown(text).to_lowercase();
            for tag in html
                .split('<')
                .skip(1)
                .map(|rest| rest.split('>').next().unwrap_or(rest))
            {
                for bad in ["script", "img", "iframe", "style", "form", "input", "svg"] {
                    assert!(!tag.starts_with(bad), "{text} gave {html}");
                }
                for bad in [
                    " onerror",
                    " onload",
                    " onmouseover",
                    "href=\"javascript",
                    "href=\"data",
                    "href=\"vbscript",
                    " style=",
                ] {
                    assert!(!tag.contains(bad), "{text} gave {html}");
                }
            }
        }
    }

    #[test]
    fn links_do_not_leak_where_they_came_from() {
        let html = render_markdown("[x](https://ok.example/)");
        assert!(
            html.contains("rel=\"noopener noreferrer nofollow\""),
            "{html}"
        );
    }

    #[test]
    fn code_blocks_cannot_borrow_a_class_of_the_page() {
        assert!(!render_markdown("```\u{a0}x\ny\n```").contains("class=\"x"));
        assert!(!is_language("language-a b") && !is_language("toolbar"));
    }
}
