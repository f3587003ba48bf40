//! Inputs: what is valid, changed in ways that hurt.

/// Splitmix64.
pub(crate) struct Random(u64);

impl Random {
    /// The numbers of one input.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut random = Self(seed);
        random.0 = random.next() ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d);
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % bound).unwrap_or_default()
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> Option<&'a T> {
        from.get(self.below(from.len())).copied()
    }
}

/// A valid input with some changes.
pub(crate) fn invent(random: &mut Random, corpus: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
    let valid = |random: &mut Random| {
        let chosen = random.below(corpus.len());
        corpus.get(chosen).cloned().unwrap_or_default()
    };
    let mut input = valid(random);
    for _ in 0..=random.below(6) {
        let (from, to) = stretch(random, input.len());
        match random.below(10) {
            0 => flip(random, &mut input),
            1 => {
                if let Some(byte) = input.get_mut(from) {
                    *byte = EDGES[random.below(EDGES.len())];
                }
            }
            2 => input.truncate(from),
            3 => drop(input.drain(from..to)),
            4 => {
                let twice = input.get(from..to).unwrap_or_default().to_vec();
                insert(&mut input, to, &twice);
            }
            5 => {
                if let Some(word) = random.pick(words) {
                    insert(&mut input, from, word);
                }
            }
            6 => {
                if let Some(word) = random.pick(words) {
                    drop(input.drain(from..to));
                    insert(&mut input, from, word);
                }
            }
            7 => {
                let other = valid(random);
                let (begin, end) = stretch(random, other.len());
                insert(&mut input, from, other.get(begin..end).unwrap_or_default());
            }
            8 => {
                let noise: Vec<u8> = (0..random.below(40))
                    .map(|_| random.next().to_le_bytes()[0])
                    .collect();
                insert(&mut input, from, &noise);
            }
            _ => {
                let piece = input.get(from..to).unwrap_or_default().to_vec();
                let times = random.below(200);
                if piece.len() * times < LARGEST {
                    insert(&mut input, from, &piece.repeat(times));
                }
            }
        }
    }
    input.truncate(LARGEST);
    input
}

/// A part, short more often than long.
fn stretch(random: &mut Random, len: usize) -> (usize, usize) {
    let from = random.below(len + 1);
    let most = if random.below(4) == 0 { len } else { 24 };
    let to = (from + random.below(most + 1)).min(len);
    (from, to)
}

fn flip(random: &mut Random, input: &mut [u8]) {
    let at = random.below(input.len());
    let bit = random.below(8);
    if let Some(byte) = input.get_mut(at) {
        *byte ^= 1 << bit;
    }
}

fn insert(input: &mut Vec<u8>, at: usize, more: &[u8]) {
    input.splice(at..at, more.iter().copied());
}

/// Bytes at the edges of what formats care about.
const EDGES: [u8; 12] = [
    0, 1, 0x7F, 0x80, 0xC0, 0xED, 0xF5, 0xFE, 0xFF, b'"', b'\\', b'{',
];

/// No input is longer.
const LARGEST: usize = 256 * 1024;
