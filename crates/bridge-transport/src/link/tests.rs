//! What the machine promises, one promise a test, in virtual time.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::{
    handle::Flushed,
    payload::{Class, Frames, Text},
    state::Phase,
};

/// A link, a clock that stands until told, and everything the link wanted since last asked.
pub(super) struct Bench {
    pub(super) link: Link<Note>,
    pub(super) now: Now,
}

#[derive(Debug, PartialEq)]
pub(super) struct Note(pub(super) Class, pub(super) &'static str);

impl Payload for Note {
    fn class(&self) -> Class {
        self.0
    }
    fn size(&self) -> usize {
        self.1.len()
    }
    fn absorb(&mut self, next: Self) -> Result<(), Self> {
        Err(next)
    }
    fn seal(&self, extended: bool) -> Frames {
        let text = if extended {
            format!("{}+", self.1)
        } else {
            self.1.to_owned()
        };
        TextFrame::from(text).into()
    }
}

pub(super) const FIRST: ConnId = ConnId(1);
pub(super) const SECOND: ConnId = ConnId(2);

pub(super) fn push(note: Note) -> Input<Note> {
    Input::Push([note].into())
}

pub(super) fn durable(text: &'static str) -> Input<Note> {
    push(Note(Class::Durable { stream: 0 }, text))
}

pub(super) fn paced(text: &'static str) -> Input<Note> {
    push(Note(Class::Paced { stream: 0 }, text))
}

pub(super) fn opened(conn: ConnId) -> Input<Note> {
    Input::Opened {
        conn,
        extended: false,
    }
}

pub(super) fn closed(conn: ConnId, code: u16) -> Input<Note> {
    Input::Closed {
        conn,
        reason: CloseReason::Code {
            code,
            reason: String::new(),
        },
    }
}

fn refused(conn: ConnId) -> Input<Note> {
    let disposition = Disposition::NeedsNewToken;
    Input::DialFailed {
        conn,
        disposition,
        reason: "refused".to_owned(),
    }
}

impl Bench {
    pub(super) fn new() -> Self {
        let greeting = Greeting {
            headers: Vec::new(),
            frames: vec!["hello".into()],
            extended_frames: Some(vec!["hello+".into()]),
        };
        let now = Now {
            at: Instant::now(),
            boot: Duration::ZERO,
        };
        let limits = Limits {
            outbox: 100,
            frame: 50,
            ..Limits::default()
        };
        let rules = CloseRules::ctrlnode();
        Self {
            link: Link::new(rules, Timings::default(), &limits, greeting, Epoch(1), now),
            now,
        }
    }

    pub(super) fn online() -> Self {
        let mut bench = Self::new();
        bench.tell(opened(FIRST));
        bench.tell(Input::Wrote { conn: FIRST });
        bench
    }

    /// Gives an input; returns the actions but for states.
    pub(super) fn tell(&mut self, input: Input<Note>) -> Vec<Action> {
        self.link.handle(self.now, 1 << 63, input).unwrap();
        std::iter::from_fn(|| self.link.next_action())
            .filter(|action| !matches!(action, Action::State(_)))
            .collect()
    }

    fn pass(&mut self, seconds: u64) {
        self.now.at += Duration::from_secs(seconds);
        self.now.boot += Duration::from_secs(seconds);
    }

    pub(super) fn pass_millis(&mut self, millis: u64) {
        self.now.at += Duration::from_millis(millis);
        self.now.boot += Duration::from_millis(millis);
    }

    /// Lets deadlines come until something is to be done; returns how long that took.
    pub(super) fn wait(&mut self) -> (Duration, Vec<Action>) {
        let began = self.now.at;
        loop {
            let actions = self.step();
            if !actions.is_empty() {
                return (self.now.at.duration_since(began), actions);
            }
        }
    }

    /// Lets the next deadline come.
    pub(super) fn step(&mut self) -> Vec<Action> {
        let (at, _) = self
            .link
            .deadline()
            .expect("a running link waits for something");
        let passed = at.saturating_duration_since(self.now.at);
        self.now.boot += passed;
        self.now.at += passed;
        self.tell(Input::Timeout)
    }

    /// Lets time pass until a ping goes out, and answers it.
    pub(super) fn answer_ping(&mut self) -> Vec<Action> {
        loop {
            if let [Action::Ping { conn, id }] = *self.step() {
                return self.tell(Input::Pong { conn, id });
            }
        }
    }

    pub(super) fn state(&self) -> &LinkState {
        &self.link.published
    }
}

fn dial(conn: ConnId) -> Action {
    Action::Dial {
        conn,
        headers: Vec::new(),
    }
}

pub(super) fn write(conn: ConnId, frames: &[&str]) -> Action {
    Action::Write {
        conn,
        frames: frames.iter().map(|text| TextFrame::from(*text)).collect(),
    }
}

fn deliver(inbound: Inbound) -> Action {
    Action::Deliver(inbound)
}

#[test]
fn greets_before_anything_queued_on_every_connection() {
    let mut bench = Bench::new();
    assert_eq!(bench.tell(durable("queued")), [dial(FIRST)]);
    let up = deliver(Inbound::Opened {
        conn: FIRST,
        extended: false,
    });
    assert_eq!(bench.tell(opened(FIRST)), [up, write(FIRST, &["hello"])]);
    assert_eq!(
        bench.tell(Input::Wrote { conn: FIRST }),
        [write(FIRST, &["queued"])]
    );
    bench.tell(closed(FIRST, 1006));
    assert_eq!(bench.wait().1, [dial(SECOND)]);
    let extended = Input::Opened {
        conn: SECOND,
        extended: true,
    };
    assert_eq!(bench.tell(extended)[1], write(SECOND, &["hello+"]));
    let resume = Position::default().resume();
    let text = Bytes::from(resume);
    assert_eq!(bench.tell(Input::Frame { conn: SECOND, text }), []);
    // Not confirmed on the first connection, so it is sent again, in the words of this one.
    let begin =
        "{\"delivery\":\"begin\",\"epoch\":\"00000000000000000000000000000001\",\"next\":1}";
    assert_eq!(
        bench.tell(Input::Wrote { conn: SECOND }),
        [write(
            SECOND,
            &[begin, "{\"seq\":1,\"messages\":[\"queued+\"]}"]
        )]
    );
    bench.tell(Input::Wrote { conn: SECOND });
    assert_eq!(
        bench.tell(durable("later")),
        [write(SECOND, &["{\"seq\":2,\"messages\":[\"later+\"]}"])]
    );
}

#[test]
fn ignores_news_of_superseded_sockets() {
    let mut bench = Bench::online();
    bench.tell(closed(FIRST, 1006));
    bench.wait();
    bench.tell(opened(SECOND));
    let text = Bytes::from_static(b"late");
    for late in [
        Input::Frame { conn: FIRST, text },
        Input::Wrote { conn: FIRST },
        Input::Pong { conn: FIRST, id: 1 },
        closed(FIRST, 1008),
        opened(FIRST),
        refused(FIRST),
    ] {
        assert_eq!(bench.tell(late), []);
    }
    assert_eq!(bench.state().phase, Phase::Online);
}

#[test]
fn a_refused_frame_does_not_end_the_connection() {
    let mut bench = Bench::online();
    let reason = FrameRefused::Binary { bytes: 3 };
    let told = deliver(Inbound::Refused {
        conn: FIRST,
        reason: reason.clone(),
    });
    assert_eq!(
        bench.tell(Input::Refused {
            conn: FIRST,
            reason
        }),
        [told]
    );
    assert_eq!(bench.state().phase, Phase::Online);
}

#[test]
fn a_refused_credential_waits_slowly_and_a_new_one_is_used_at_once() {
    let mut bench = Bench::new();
    bench.tell(refused(FIRST));
    assert_eq!(bench.state().phase, Phase::AuthRequired);
    assert_eq!(bench.state().last_error.as_deref(), Some("refused"));
    assert_eq!(bench.wait(), (Duration::from_secs(30), vec![dial(SECOND)]));
    bench.tell(refused(SECOND));
    assert_eq!(bench.tell(Input::CredentialChanged), [dial(ConnId(3))]);
}

#[test]
fn a_refusal_of_the_previous_credential_does_not_count() {
    let mut bench = Bench::new();
    assert_eq!(bench.tell(Input::CredentialChanged), [dial(FIRST)]);
    assert_eq!(bench.tell(refused(FIRST)), [dial(SECOND)]);
    bench.tell(refused(SECOND));
    assert_eq!(bench.state().phase, Phase::AuthRequired);
}

#[test]
fn close_codes_are_judged_by_the_rules_and_the_first_good_frame() {
    for (code, heard, phase) in [
        (1008, true, Phase::AuthRequired),
        (1002, false, Phase::AuthRequired),
        (1002, true, Phase::Waiting),
        (1011, false, Phase::Waiting),
    ] {
        let mut bench = Bench::online();
        if heard {
            bench.tell(Input::Frame {
                conn: FIRST,
                text: Bytes::from_static(b"{}"),
            });
        }
        bench.tell(closed(FIRST, code));
        assert_eq!(
            bench.state().phase,
            phase,
            "{code} after a good frame: {heard}"
        );
    }
}

#[test]
fn dials_at_once_after_three_hours_of_sleep() {
    let hours = Duration::from_secs(3 * 3600);
    for clock_counts_sleep in [false, true] {
        let sleep = |bench: &mut Bench| {
            bench.now.boot += hours;
            if clock_counts_sleep {
                bench.now.at += hours;
            }
        };
        let mut online = Bench::online();
        sleep(&mut online);
        let gone = Inbound::Closed {
            conn: FIRST,
            reason: CloseReason::Slept,
        };
        let hang_up = Action::HangUp {
            conn: FIRST,
            code: None,
        };
        let expected = [hang_up, deliver(gone), dial(SECOND)];
        assert_eq!(online.tell(Input::Timeout), expected);

        let mut waiting = Bench::new();
        waiting.tell(refused(FIRST));
        sleep(&mut waiting);
        assert_eq!(waiting.tell(Input::Timeout), [dial(SECOND)]);

        let mut dialling = Bench::new();
        dialling.tell(Input::Timeout);
        sleep(&mut dialling);
        let hang_up = Action::HangUp {
            conn: FIRST,
            code: None,
        };
        assert_eq!(dialling.tell(Input::Timeout), [hang_up, dial(SECOND)]);
    }
}

#[test]
fn looks_at_the_clocks_often_enough_to_notice_sleep_while_waiting() {
    let mut bench = Bench::new();
    bench.tell(refused(FIRST));
    let (at, timer) = bench.link.deadline().unwrap();
    assert_eq!(
        (at - bench.now.at, timer),
        (Duration::from_secs(5), Timer::ClockCheck)
    );
}

#[test]
fn the_outage_ends_only_after_thirty_healthy_seconds() {
    let mut bench = Bench::new();
    for number in 1..=3 {
        bench.tell(opened(ConnId(number)));
        bench.pass(1);
        bench.tell(closed(ConnId(number), 1006));
        bench.wait();
    }
    assert_eq!(bench.state().attempt, 4);
    assert!(bench.state().last_error.is_some());
    bench.tell(opened(ConnId(4)));
    bench.tell(Input::Wrote { conn: ConnId(4) });
    let up = bench.now.at;
    while bench.state().attempt > 0 {
        bench.step();
    }
    assert_eq!(bench.now.at - up, Duration::from_secs(30));
    assert_eq!(bench.state().last_error, None);
}

#[test]
fn reports_since_when_and_until_when() {
    let mut bench = Bench::online();
    let up = bench.now.at;
    bench.pass(3);
    let ping = bench.tell(Input::Timeout);
    assert_eq!(ping, [Action::Ping { conn: FIRST, id: 1 }]);
    bench.now.at += Duration::from_millis(70);
    bench.tell(Input::Pong { conn: FIRST, id: 1 });
    let online = LinkState {
        phase: Phase::Online,
        since: up,
        attempt: 1,
        next_retry: None,
        last_error: None,
        round_trip: Some(Duration::from_millis(70)),
        extended: false,
    };
    assert_eq!(bench.state(), &online);
    bench.tell(closed(FIRST, 1012));
    let waiting = LinkState {
        phase: Phase::Waiting,
        since: bench.now.at,
        next_retry: Some(bench.now.at + Duration::from_millis(500)),
        last_error: Some("closed by the peer with code 1012".to_owned()),
        round_trip: None,
        ..online
    };
    assert_eq!(bench.state(), &waiting);
}

#[test]
fn a_peer_that_falls_silent_is_left_and_dialled_again() {
    let mut bench = Bench::online();
    bench.tell(Input::Pong { conn: FIRST, id: 0 });
    let mut actions = bench.wait().1;
    while matches!(actions.as_slice(), [Action::Ping { .. }]) {
        actions = bench.wait().1;
    }
    let limit = Duration::from_secs(25);
    let gone = Inbound::Closed {
        conn: FIRST,
        reason: CloseReason::Silent(limit),
    };
    assert_eq!(
        actions,
        [
            Action::HangUp {
                conn: FIRST,
                code: None
            },
            deliver(gone)
        ]
    );
    assert_eq!(bench.wait().1, [dial(SECOND)]);
}

#[test]
fn shuts_down_after_everything_is_sent() {
    let mut bench = Bench::online();
    bench.tell(durable("last"));
    assert_eq!(
        bench.tell(Input::Drain {
            limit: Duration::from_secs(5)
        }),
        []
    );
    assert_eq!(bench.state().phase, Phase::Draining);
    let expected = [
        Action::HangUp {
            conn: FIRST,
            code: Some(1000),
        },
        deliver(Inbound::Closed {
            conn: FIRST,
            reason: CloseReason::ShutDown,
        }),
        Action::Stopped(Flushed::Everything),
    ];
    assert_eq!(bench.tell(Input::Wrote { conn: FIRST }), []);
    assert_eq!(bench.answer_ping(), expected);
    assert_eq!(bench.state().phase, Phase::Stopped);
    assert_eq!(bench.link.deadline(), None);
}

#[test]
fn shuts_down_when_time_runs_out_and_counts_what_is_left() {
    let mut bench = Bench::new();
    bench.tell(durable("never"));
    bench.tell(durable("sent"));
    bench.tell(Input::Drain {
        limit: Duration::from_secs(5),
    });
    let (waited, actions) = bench.wait();
    assert_eq!(waited, Duration::from_secs(5));
    let left = Action::Stopped(Flushed::Left {
        messages: 2,
        bytes: 9,
    });
    assert_eq!(
        actions,
        [
            Action::HangUp {
                conn: FIRST,
                code: None
            },
            left
        ]
    );
}

#[test]
fn an_idle_link_without_connection_shuts_down_at_once() {
    let mut bench = Bench::new();
    bench.tell(refused(FIRST));
    let actions = bench.tell(Input::Drain {
        limit: Duration::from_secs(5),
    });
    assert_eq!(actions, [Action::Stopped(Flushed::Everything)]);
}

#[test]
fn an_own_message_over_the_frame_limit_is_reported_and_does_not_block() {
    let mut bench = Bench::online();
    let long = "0123456789012345678901234567890123456789012345678901234567890";
    let told = Inbound::Refused {
        conn: FIRST,
        reason: FrameRefused::TooLargeToSend { bytes: long.len() },
    };
    assert_eq!(bench.tell(durable(long)), [deliver(told)]);
    assert_eq!(bench.tell(durable("next")), [write(FIRST, &["next"])]);
}

#[test]
fn plain_text_is_a_payload() {
    let sealed = Text("hi".to_owned()).seal(true);
    assert_eq!(*sealed, [TextFrame::from("hi")]);
}

#[test]
fn increments_are_written_when_their_pace_is_over_and_at_once_before_anything_else() {
    let mut bench = Bench::online();
    let (_, first_ping) = bench.wait();
    assert_eq!(first_ping.len(), 1, "{first_ping:?}");
    assert_eq!(bench.tell(paced("a")), [write(FIRST, &["a"])]);
    bench.tell(Input::Wrote { conn: FIRST });
    assert_eq!(bench.tell(paced("b")), []);
    let pace = bench.link.timings.pace;
    let due = (bench.now.at + pace, Timer::Pace);
    assert_eq!(bench.link.deadline(), Some(due));
    assert_eq!(bench.wait(), (pace, vec![write(FIRST, &["b"])]));
    bench.tell(Input::Wrote { conn: FIRST });
    assert_eq!(bench.tell(paced("c")), []);
    assert_eq!(bench.tell(durable("end")), [write(FIRST, &["c", "end"])]);
}

#[test]
fn a_link_that_drains_waits_for_no_pace() {
    let mut bench = Bench::online();
    bench.tell(paced("a"));
    bench.tell(Input::Wrote { conn: FIRST });
    assert_eq!(bench.tell(paced("b")), []);
    let drain = Input::Drain {
        limit: Duration::from_secs(5),
    };
    assert_eq!(bench.tell(drain), [write(FIRST, &["b"])]);
}

#[test]
fn over_the_rate_reading_pauses_and_goes_on_and_that_is_nobodys_silence() {
    let mut bench = Bench::online();
    bench.answer_ping();
    let frame = |number: u32| Input::Frame {
        conn: FIRST,
        text: number.to_string().into(),
    };
    let burst = Limits::default().frames.burst;
    for number in 0..burst {
        bench.tell(frame(number));
    }
    assert!(bench.link.takes_frames());
    assert_eq!(
        bench.tell(frame(burst)).len(),
        1,
        "what was read is delivered"
    );
    assert!(!bench.link.takes_frames());
    let begun = bench.now.at;
    while !bench.link.takes_frames() {
        bench.step();
    }
    assert!(bench.now.at - begun <= Duration::from_millis(100));
    assert_eq!(bench.state().phase, Phase::Online);
}

#[test]
fn a_server_that_floods_is_left_with_a_reason_and_dialled_again() {
    let mut bench = Bench::online();
    let mut last = Vec::new();
    for _ in 0..=Limits::default().useless.burst {
        let reason = FrameRefused::Binary { bytes: 1 };
        last = bench.tell(Input::Refused {
            conn: FIRST,
            reason,
        });
    }
    let code = Some(POLICY_VIOLATION);
    assert_eq!(last[1], Action::HangUp { conn: FIRST, code });
    assert_eq!(
        bench.state().phase,
        Phase::Waiting,
        "the token is not to blame"
    );
    let error = bench.state().last_error.clone().unwrap();
    assert_eq!(error, "2001 useless frames, more than are put up with");
    assert_eq!(bench.wait().1, [dial(SECOND)]);
}
