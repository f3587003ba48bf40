//! What a prompt tells the fake agent to do: one directive a line, done in order.

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Answer with this text, word by word.
    Say(String),
    /// Answer in so many pieces: `w1 w2 … `.
    Stream(u64),
    /// Answer so many times with the time it is then, in nanoseconds since 1970, so many
    /// milliseconds apart.
    Clock(u64, u64),
    /// Call a tool that works.
    Tool,
    /// Ask for a permission and say whether it was given.
    Ask,
    /// Wait for a further message in this turn and say what it was.
    Listen,
    /// Start a process that outlives the turn.
    Background,
    /// Say that a failed model call is tried again, where the protocol has a word for it.
    Retry,
    /// Do nothing more until told to stop.
    Hang,
    /// Do nothing more and read nothing any more, whatever comes.
    Deaf,
    /// End the process with this code.
    Exit(i32),
    /// The turn fails for this reason.
    Error(String),
    /// Print one line of so many bytes.
    BigLine(u64),
    /// Print lines that are not the protocol, with bytes that are not UTF-8.
    Garbage,
    /// Print lines full of what a terminal would obey.
    Escapes,
    /// Send messages of the wrong shape.
    Wrong,
    /// Send messages of kinds that nobody knows.
    Unknown,
    /// Answer requests that nobody made.
    Stray,
    /// Use ids that are in use.
    Reuse,
    /// The turn shall end for a reason that nobody knows.
    OddEnd,
    /// Start two programs that outlive this one, one of them in a session of its own; whether no
    /// signal but the last ends them.
    Children { deaf: bool },
    /// Print so many bytes to standard error.
    Stderr(u64),
    /// Say what the earlier prompts were.
    Remember,
    /// End the process with this code once the turn is over.
    ExitAfter(i32),
}

/// The steps of a prompt. A prompt without any is answered with a greeting.
pub(crate) fn read(prompt: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = prompt.lines().filter_map(step).collect();
    if steps.is_empty() {
        steps.push(Step::Say("Hello from the fake agent.".into()));
    }
    steps
}

/// What a person said beside the directives: the last line that is none.
pub(crate) fn subject(prompt: &str) -> String {
    let mut lines = prompt.lines().map(str::trim).rev();
    let line = lines.find(|line| !line.is_empty() && !line.starts_with('@'));
    line.unwrap_or_default().to_owned()
}

fn step(line: &str) -> Option<Step> {
    let line = line.trim().strip_prefix('@')?;
    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
    let number = |default: u64| rest.trim().parse().unwrap_or(default);
    let code = || rest.trim().parse().unwrap_or(7);
    let text = |default: &str| match rest.trim() {
        "" => default.to_owned(),
        text => text.to_owned(),
    };
    Some(match name {
        "say" => Step::Say(text("something")),
        "stream" => Step::Stream(number(20)),
        "clock" => {
            let rest = rest.trim();
            let (pieces, apart) = rest.split_once(' ').unwrap_or((rest, "0"));
            Step::Clock(pieces.parse().unwrap_or(20), apart.parse().unwrap_or(0))
        }
        "tool" => Step::Tool,
        "ask" => Step::Ask,
        "listen" => Step::Listen,
        "background" => Step::Background,
        "retry" => Step::Retry,
        "hang" => Step::Hang,
        "deaf" => Step::Deaf,
        "exit" => Step::Exit(code()),
        "error" => Step::Error(text("told to fail")),
        "bigline" => Step::BigLine(number(1 << 20)),
        "garbage" => Step::Garbage,
        "escapes" => Step::Escapes,
        "wrong" => Step::Wrong,
        "unknown" => Step::Unknown,
        "stray" => Step::Stray,
        "reuse" => Step::Reuse,
        "odd-end" => Step::OddEnd,
        "children" => Step::Children { deaf: false },
        "deaf-children" => Step::Children { deaf: true },
        "stderr" => Step::Stderr(number(1 << 20)),
        "remember" => Step::Remember,
        "exit-after" => Step::ExitAfter(code()),
        _ => return None,
    })
}
