//! One table: what was measured, what the raw way does, what is to be reached.

/// A line of the table.
#[derive(Debug)]
pub(super) struct Row {
    what: String,
    seen: String,
    raw: String,
    ratio: String,
    goal: String,
    pub(super) verdict: Verdict,
}

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Reached,
    Missed,
    /// A time above its limit. It depends on the machine and on what else it does, so it is told
    /// and fails nothing.
    Late,
    /// Nothing was to be reached.
    Told,
}

impl Row {
    /// A figure that is told and not judged.
    pub(super) fn told_only(what: impl Into<String>, seen: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            seen: seen.into(),
            raw: String::new(),
            ratio: String::new(),
            goal: String::new(),
            verdict: Verdict::Told,
        }
    }

    /// A count that has to be zero.
    pub(super) fn none(what: impl Into<String>, seen: u64) -> Self {
        Self::told_only(what, seen.to_string()).judged("0", seen == 0)
    }

    /// Something that has to be so.
    pub(super) fn holds(what: impl Into<String>, seen: impl Into<String>, so: bool) -> Self {
        Self::told_only(what, seen).judged("yes", so)
    }

    /// A size or share that may be at most so much.
    pub(super) fn at_most(what: impl Into<String>, seen: f64, unit: &str, most: f64) -> Self {
        let goal = format!("≤ {most} {unit}");
        Self::told_only(what, amount(seen, unit)).judged(goal, seen <= most)
    }

    /// A factor that has to be at least so much.
    pub(super) fn at_least(what: impl Into<String>, seen: f64, unit: &str, least: f64) -> Self {
        let goal = format!("≥ {least} {unit}");
        Self::told_only(what, amount(seen, unit)).judged(goal, seen >= least)
    }

    /// A time that may be at most so much.
    pub(super) fn time(what: impl Into<String>, seen: f64, unit: &str, most: f64) -> Self {
        let mut row = Self::at_most(what, seen, unit, most);
        if row.verdict == Verdict::Missed {
            row.verdict = Verdict::Late;
        }
        row
    }

    /// A rate that has to be at least this share of the raw one.
    pub(super) fn share(
        what: impl Into<String>,
        seen: f64,
        raw: f64,
        unit: &str,
        least: f64,
    ) -> Self {
        let share = 100.0 * seen / raw;
        let goal = format!("≥ {least} %");
        Self {
            ratio: format!("{share:.0} %"),
            ..Self::told_only(what, amount(seen, unit))
                .beside(raw, unit)
                .judged(goal, share >= least)
        }
    }

    /// Missed whatever was seen, unless what it stands on was so.
    pub(super) fn only_if(mut self, so: bool) -> Self {
        if !so {
            self.verdict = Verdict::Missed;
        }
        self
    }

    /// What the raw way does, in the same run.
    pub(super) fn beside(mut self, raw: f64, unit: &str) -> Self {
        self.raw = amount(raw, unit);
        self
    }

    fn judged(mut self, goal: impl Into<String>, reached: bool) -> Self {
        self.goal = goal.into();
        self.verdict = if reached {
            Verdict::Reached
        } else {
            Verdict::Missed
        };
        self
    }

    /// The line.
    pub(super) fn told(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Reached => "reached",
            Verdict::Missed => "MISSED",
            Verdict::Late => "late",
            Verdict::Told => "",
        };
        let Self {
            what,
            seen,
            raw,
            ratio,
            goal,
            ..
        } = self;
        line([what, seen, raw, ratio, goal, verdict])
    }
}

/// The head of the table.
pub(super) fn head() -> String {
    line(["figure", "seen", "raw way", "ratio", "to reach", ""])
}

/// A figure with its unit, as many digits as mean something.
pub(super) fn amount(value: f64, unit: &str) -> String {
    let digits = match value.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$} {unit}").trim_end().to_owned()
}

fn line([what, seen, raw, ratio, goal, verdict]: [&str; 6]) -> String {
    let line = format!("{what:<58}  {seen:>16}  {raw:>16}  {ratio:>7}  {goal:>12}  {verdict}");
    line.trim_end().to_owned()
}
