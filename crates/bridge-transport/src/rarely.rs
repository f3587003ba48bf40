//! How often something that a peer can send without end is worth a line in a log.

/// Counts what can come without end, so that an embedder who tells of it does not fill the log.
#[derive(Debug, Default)]
pub struct Rarely {
    count: u64,
}

impl Rarely {
    /// Counts one more; the count, if it is worth a line: all of the first ten, then one line each
    /// time the count has doubled.
    pub fn count(&mut self) -> Option<u64> {
        self.count += 1;
        (self.count <= 10 || self.count.is_power_of_two()).then_some(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_a_million_times_is_a_few_lines() {
        let mut odd = Rarely::default();
        let told: Vec<u64> = (0..1_000_000).filter_map(|_| odd.count()).collect();
        assert_eq!((told.len(), told.last()), (26, Some(&524_288)));
    }
}
