//! Line differences for display: which lines went, which came, which stayed nearby.

/// One line of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// Stayed.
    Same(&'a str),
    /// Went.
    Gone(&'a str),
    /// Came.
    New(&'a str),
    /// So many lines that stayed are not shown.
    Skipped(usize),
}

/// The difference between two texts with three lines around each change, at most `limit` lines
/// (what is beyond is counted in a last [`Line::Skipped`]). Texts too different for a quick
/// comparison come out as all old lines gone and all new lines new.
pub(crate) fn lines<'a>(old: &'a str, new: &'a str, limit: usize) -> Vec<Line<'a>> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (&old[head..], &new[head..]);
    let tail = old_rest
        .iter()
        .rev()
        .zip(new_rest.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let old_middle = &old_rest[..old_rest.len() - tail];
    let new_middle = &new_rest[..new_rest.len() - tail];

    let mut all: Vec<Line<'a>> = old[..head].iter().copied().map(Line::Same).collect();
    middle(old_middle, new_middle, &mut all);
    all.extend(
        old_rest[old_rest.len() - tail..]
            .iter()
            .copied()
            .map(Line::Same),
    );

    let mut shown = fold_context(&all);
    if shown.len() > limit {
        let rest = shown.split_off(limit);
        shown.push(Line::Skipped(rest.len()));
    }
    shown
}

/// How many lines came and how many went.
pub(crate) fn counts(lines: &[Line<'_>]) -> (usize, usize) {
    lines.iter().fold((0, 0), |(new, gone), line| match line {
        Line::New(_) => (new + 1, gone),
        Line::Gone(_) => (new, gone + 1),
        Line::Same(_) | Line::Skipped(_) => (new, gone),
    })
}

/// Longest common subsequence by table; the table is bounded by [`TABLE_CELLS`].
fn middle<'a>(old: &[&'a str], new: &[&'a str], out: &mut Vec<Line<'a>>) {
    let width = new.len() + 1;
    if (old.len() + 1).saturating_mul(width) > TABLE_CELLS {
        out.extend(old.iter().copied().map(Line::Gone));
        out.extend(new.iter().copied().map(Line::New));
        return;
    }
    let mut table = vec![0_u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            table[i * width + j] = if old[i] == new[j] {
                table[(i + 1) * width + j + 1] + 1
            } else {
                table[(i + 1) * width + j].max(table[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            out.push(Line::Same(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len()
            || (i < old.len() && table[(i + 1) * width + j] >= table[i * width + j + 1])
        {
            out.push(Line::Gone(old[i]));
            i += 1;
        } else {
            out.push(Line::New(new[j]));
            j += 1;
        }
    }
}

fn fold_context<'a>(all: &[Line<'a>]) -> Vec<Line<'a>> {
    let changed: Vec<usize> = all
        .iter()
        .enumerate()
        .filter(|(_, line)| matches!(line, Line::Gone(_) | Line::New(_)))
        .map(|(at, _)| at)
        .collect();
    let mut shown = Vec::new();
    let mut next = 0;
    for at in changed {
        let from = at.saturating_sub(CONTEXT).max(next);
        if from > next {
            shown.push(Line::Skipped(from - next));
        }
        let to = (at + CONTEXT + 1).min(all.len());
        shown.extend_from_slice(&all[from..to]);
        next = to;
    }
    if !shown.is_empty() && next < all.len() {
        shown.push(Line::Skipped(all.len() - next));
    }
    shown
}

/// Lines shown around a change.
const CONTEXT: usize = 3;
/// 4 MB of table: two files of a thousand lines that differ everywhere.
const TABLE_CELLS: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(word: &str, count: usize) -> String {
        let lines: Vec<String> = (0..count).map(|n| format!("{word}{n}\n")).collect();
        lines.concat()
    }

    #[test]
    fn a_changed_line_is_gone_and_new_between_its_neighbours() {
        assert_eq!(
            lines("a\nb\nc\n", "a\nB\nc\n", 100),
            [
                Line::Same("a"),
                Line::Gone("b"),
                Line::New("B"),
                Line::Same("c")
            ]
        );
    }

    #[test]
    fn a_new_file_is_all_new_and_equal_texts_show_nothing() {
        assert_eq!(lines("", "a\nb", 100), [Line::New("a"), Line::New("b")]);
        assert_eq!(lines("a\nb", "a\nb", 100), []);
    }

    #[test]
    fn far_lines_are_counted_not_shown() {
        let old = numbered("", 20);
        let new = old.replace("10\n", "ten\n");
        let shown = lines(&old, &new, 100);
        assert_eq!(shown.first(), Some(&Line::Skipped(7)));
        assert_eq!(shown.last(), Some(&Line::Skipped(6)));
        assert_eq!(counts(&shown), (1, 1));
        assert_eq!(shown.len(), 2 + 6 + 2);
    }

    #[test]
    fn neighbouring_changes_share_their_context_without_repeating_lines() {
        let shown = lines("a\nb\nc\nd\ne", "A\nb\nc\nd\nE", 100);
        assert_eq!(
            shown,
            [
                Line::Gone("a"),
                Line::New("A"),
                Line::Same("b"),
                Line::Same("c"),
                Line::Same("d"),
                Line::Gone("e"),
                Line::New("E"),
            ]
        );
    }

    #[test]
    fn huge_and_different_texts_stay_cheap_and_limited() {
        let old = numbered("old ", 3000);
        let new = numbered("new ", 3000);
        let shown = lines(&old, &new, 50);
        assert_eq!(shown.len(), 51);
        assert_eq!(shown.last(), Some(&Line::Skipped(5950)));
    }
}
