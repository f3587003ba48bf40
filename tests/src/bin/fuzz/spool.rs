//! Opening a spool whose files are anything: it opens, tells everything there is or is not,
//! and goes on.

use bridge_transport::spool::{
    Disk as _, Item, Name, Spool, SpoolConfig,
    simulation::{End, SimulatedDisk},
};

use crate::Target;

pub(crate) struct Recovery;

impl Target for Recovery {
    fn name(&self) -> &'static str {
        "spool"
    }

    /// All files of a spool in a row, each with its length before it; see [`files`].
    fn corpus(&self) -> Vec<Vec<u8>> {
        let config = SpoolConfig {
            segment_bytes: 4096,
            ..SpoolConfig::default()
        };
        let lives: [&[u64]; 4] = [&[0], &[3], &[40], &[10, 30, 5]];
        let made = lives.iter().map(|lives| {
            let mut disk = SimulatedDisk::new(1);
            for records in *lives {
                let (mut spool, _) = Spool::open(&mut disk, config, EPOCH).expect("a good disk");
                for n in 0..*records {
                    let text = format!("{{\"n\":{n}}}").repeat(20);
                    spool.append(1, n, text.as_bytes()).expect("there is room");
                }
                let acked = spool.next_seq() - 1 - records / 2;
                spool.trim(acked).expect("it was given out");
                spool.sync().expect("a good disk");
                drop(spool);
                disk.restart(End::Power);
            }
            image(&mut disk)
        });
        made.collect()
    }

    fn words(&self) -> &'static [&'static [u8]] {
        &[
            b"spool\0\0\x01",
            b"\xFE\x01\x00\x01",
            b"\xFF\x01",
            &[0; 24],
            &[0; 512],
            &[0xFF; 24],
            b"\xFF\xFF\xFF\xFF",
            b"\x00\x00\x00\x02",
            b"\x01\x00\x00\x00\x00\x00\x00\x00",
            b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F",
        ]
    }

    fn read(&self, input: &[u8]) {
        let mut disk = files(input);
        let mut next = 0;
        for _ in 0..2 {
            let (mut spool, found) =
                Spool::open(&mut disk, SpoolConfig::default(), EPOCH).expect("a good disk");
            assert!(found.next >= next, "numbers went back");
            assert!(found.first <= found.next);
            covered(&mut spool, found.first, found.next);
            let seq = spool.append(1, 2, b"more").expect("there is room");
            assert!(seq >= found.next);
            covered(&mut spool, found.first, seq + 1);
            next = seq + 1;
            spool.trim(seq / 2).expect("it was given out");
            if seq % 2 == 0 {
                spool.close().expect("a good disk");
            }
        }
    }
}

/// Reading gives every number once, in order.
fn covered(spool: &mut Spool<&mut SimulatedDisk>, first: u64, next: u64) {
    let mut at = first;
    while at < next {
        let items = spool.read(at, 64 * 1024, 100).expect("a good disk");
        assert!(!items.is_empty(), "nothing is told of {at}");
        for item in items {
            let (from, to) = match item {
                Item::Record { seq, .. } => (seq, seq),
                Item::Gap { from, to, .. } => (from, to),
            };
            assert!(from == at && to >= from, "{from} to {to} at {at}");
            at = to + 1;
        }
    }
    assert_eq!(at, next);
}

fn image(disk: &mut SimulatedDisk) -> Vec<u8> {
    let mut image = Vec::new();
    for (name, _) in disk.list().expect("a good disk") {
        let number = match name {
            Name::Segment(first) => first,
            Name::Ledger => 0,
            Name::Draft => continue,
        };
        let bytes = disk.bytes_mut(name).cloned().unwrap_or_default();
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        image.extend(number.to_le_bytes());
        image.extend(len.to_le_bytes());
        image.extend(bytes);
    }
    image
}

/// Files as [`image`] wrote them, or as near to it as the bytes are.
fn files(mut image: &[u8]) -> SimulatedDisk {
    let mut disk = SimulatedDisk::new(2);
    while let Some((head, rest)) = image.split_first_chunk::<12>() {
        let [number @ .., a, b, c, d] = *head;
        let number = u64::from_le_bytes(number);
        let len = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let (bytes, rest) = rest.split_at(len.min(rest.len()));
        let name = if number == 0 {
            Name::Ledger
        } else {
            Name::Segment(number)
        };
        disk.create(name).expect("a good disk");
        disk.append(name, bytes).expect("a good disk");
        image = rest;
    }
    disk
}

const EPOCH: [u8; 16] = [7; 16];
