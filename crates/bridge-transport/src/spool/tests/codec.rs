//! Records as bytes: what was written reads back, and nothing else does.

use proptest::prelude::*;

use super::super::record::{Piece, Salt, Scan, SegmentHead, head};

fn salt() -> Salt {
    Salt::new(&super::EPOCH, 1)
}

type Written = (u8, u64, Vec<u8>);
type Read = (u32, u8, u64, Vec<u8>);

fn encoded(records: &[Written]) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut starts) = (Vec::new(), Vec::new());
    for (place, (flags, at_ms, payload)) in (0..).zip(records) {
        starts.push(bytes.len());
        bytes.extend(head(salt(), place, *flags, *at_ms, payload).unwrap());
        bytes.extend(payload);
    }
    (bytes, starts)
}

/// Everything that is read, by place, and how it ended.
fn read(bytes: &[u8], whole: bool) -> (Vec<Read>, Piece) {
    let mut scan = Scan::new(bytes, salt(), 0, u64::MAX, whole);
    let mut records = Vec::new();
    loop {
        match scan.next() {
            Piece::Record(it) => records.push((
                it.place,
                it.flags,
                it.at_ms,
                bytes[it.payload.clone()].to_vec(),
            )),
            Piece::Damage(_) => {}
            ended @ (Piece::End | Piece::Torn { .. } | Piece::More { .. }) => {
                assert_eq!(scan.next(), ended, "it stays at its end");
                return (records, ended);
            }
        }
    }
}

fn records() -> impl Strategy<Value = Vec<Written>> {
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..80),
        proptest::collection::vec(Just(0xFF), 0..80),
    ];
    proptest::collection::vec((any::<u8>(), any::<u64>(), payload), 0..12)
}

proptest! {
    #[test]
    fn records_read_back_as_they_were_written(records in records()) {
        let (bytes, _) = encoded(&records);
        let (read, ended) = read(&bytes, true);
        prop_assert_eq!(ended, Piece::End);
        let expected: Vec<_> = (0..)
            .zip(records)
            .map(|(place, (flags, at, payload))| (place, flags, at, payload))
            .collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn one_changed_byte_costs_its_record_alone(
        records in records(), at in any::<prop::sample::Index>(), change in 1..=255_u8,
    ) {
        let (mut bytes, starts) = encoded(&records);
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        let hit = starts.partition_point(|start| *start <= at) - 1;
        let (read, _) = read(&bytes, true);
        let expected: Vec<_> = (0..)
            .zip(records)
            .filter(|(place, _)| usize::try_from(*place).unwrap() != hit)
            .map(|(place, (flags, at, payload))| (place, flags, at, payload))
            .collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn any_bytes_can_be_scanned(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for whole in [true, false] {
            read(&bytes, whole);
        }
    }

    #[test]
    fn a_beginning_asks_for_more_and_never_calls_it_damage(
        records in records(), at in any::<prop::sample::Index>(),
    ) {
        let (bytes, starts) = encoded(&records);
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        let (read, ended) = read(&bytes[..at], false);
        let begun = starts.partition_point(|start| *start < at);
        let complete = if starts.contains(&at) { begun } else { begun.saturating_sub(1) };
        prop_assert_eq!(read.len(), complete);
        match ended {
            Piece::End => prop_assert!(starts.contains(&at)),
            Piece::More { from, bytes } => {
                prop_assert_eq!(Some(&from), starts.get(complete));
                prop_assert!(bytes > at - from);
            }
            other @ (Piece::Record(_) | Piece::Damage(_) | Piece::Torn { .. }) => {
                prop_assert!(false, "{other:?}");
            }
        }
    }
}

#[test]
fn a_payload_that_looks_like_a_record_is_none() {
    let other = Salt::new(b"another epoch...", 1);
    let forged = [&head(other, 5, 0, 0, b"forged").unwrap()[..], b"forged"].concat();
    let (mut bytes, _) = encoded(&[(0, 0, forged), (0, 0, b"true".to_vec())]);
    bytes[0] = 0;
    let (read, ended) = read(&bytes, true);
    assert_eq!(read, [(1, 0, 0, b"true".to_vec())]);
    assert_eq!(ended, Piece::End);
}

#[test]
fn a_segment_head_with_a_flipped_bit_is_none() {
    let head = SegmentHead {
        epoch: super::EPOCH,
        first: 7,
        after: 5,
    };
    let bytes = head.encode();
    assert_eq!(SegmentHead::decode(&bytes), Some(head));
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes;
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(SegmentHead::decode(&bytes), None, "bit {bit}");
    }
}
