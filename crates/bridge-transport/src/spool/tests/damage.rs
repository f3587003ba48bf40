//! Flipped bits, torn tails, bad spots and missing files: damage costs what it hits, and is told.

use super::*;

/// A closed spool of three segments, and what it holds.
fn three_segments() -> (SimulatedDisk, Vec<Item>) {
    let mut disk = SimulatedDisk::new(0);
    let (mut spool, _) = open(&mut disk);
    for n in 1..=30_u64 {
        let payload = text(n).repeat(30);
        spool.append(0, n, payload.as_bytes()).unwrap();
    }
    assert_eq!(spool.usage().segments, 3);
    let items = all(&mut spool, 1);
    spool.close().unwrap();
    (disk, items)
}

fn segments(disk: &mut SimulatedDisk) -> Vec<(Name, u64)> {
    let listed = super::super::Disk::list(disk).unwrap();
    let mut segments: Vec<_> = listed
        .into_iter()
        .filter(|(name, _)| matches!(name, Name::Segment(_)))
        .collect();
    segments.sort();
    segments
}

#[test]
fn a_flipped_bit_anywhere_costs_one_record_and_nothing_else() {
    let (mut disk, items) = three_segments();
    let files = segments(&mut disk);
    let mut costs = std::collections::BTreeSet::new();
    for (name, size) in files {
        for at in 0..usize::try_from(size).unwrap() {
            let mut disk = disk.clone();
            disk.bytes_mut(name).unwrap()[at] ^= 1 << (at % 8);
            let (mut spool, found) = open(&mut disk);
            assert_eq!((found.next, found.epoch), (31, EPOCH), "{name} at {at}");
            let read = all(&mut spool, 1);
            let lost: Vec<u64> = (1..=30).filter(|n| !numbers(&read).contains(n)).collect();
            let told: Vec<u64> = gaps(&read)
                .iter()
                .flat_map(|gap| gap.from..=gap.to)
                .collect();
            assert_eq!(lost, told, "{name} at {at}");
            assert_eq!(gaps(&read), found.gaps, "{name} at {at}");
            assert!(gaps(&read).iter().all(|gap| gap.why == Cause::Damaged));
            for item in read
                .iter()
                .filter(|item| matches!(item, Item::Record { .. }))
            {
                assert!(items.contains(item), "{name} at {at}: {item:?}");
            }
            costs.insert(lost.len());
            assert_eq!(spool.append(0, 0, b"next").unwrap(), 31);
        }
    }
    // A head of a segment costs nothing, a record costs itself.
    assert_eq!(costs, [0, 1].into());
}

#[test]
fn a_flipped_bit_in_the_ledger_costs_nothing() {
    let (disk, items) = three_segments();
    let size = disk.clone().bytes_mut(Name::Ledger).unwrap().len();
    for at in 0..size {
        let mut disk = disk.clone();
        disk.bytes_mut(Name::Ledger).unwrap()[at] ^= 1 << (at % 8);
        let (mut spool, found) = open(&mut disk);
        assert_eq!(
            (found.clean, found.next, found.gaps),
            (true, 31, vec![]),
            "{at}"
        );
        assert_eq!(all(&mut spool, 1), items);
    }
}

#[test]
fn a_bit_flipped_while_the_spool_is_open_is_told_by_reading() {
    let (mut disk, _) = three_segments();
    let (name, size) = segments(&mut disk)[1];
    let (mut spool, found) = open(&mut disk);
    assert_eq!(found.gaps, []);
    let at = usize::try_from(size / 2).unwrap();
    spool.disk.bytes_mut(name).unwrap()[at] ^= 1;
    let read = all(&mut spool, 1);
    assert_eq!(numbers(&read).len(), 29);
    assert_eq!(gaps(&read).len(), 1);
}

#[test]
fn a_tail_torn_at_any_length_is_cut_and_nothing_before_it() {
    let mut disk = SimulatedDisk::new(0);
    let (mut spool, _) = open(&mut disk);
    let mut ends = vec![44];
    for n in 1..=5 {
        fill(&mut spool, 1);
        ends.push(ends.last().unwrap() + 24 + text(n).len());
    }
    drop(spool);
    let size = *ends.last().unwrap();
    for len in 0..size {
        let mut disk = disk.clone();
        disk.bytes_mut(Name::Segment(1)).unwrap().truncate(len);
        let (mut spool, found) = open(&mut disk);
        let whole = ends.iter().filter(|end| **end <= len).count().max(1) - 1;
        let expected: Vec<u64> = (1..=whole as u64).collect();
        assert_eq!(numbers(&all(&mut spool, 1)), expected, "{len}");
        assert_eq!(found.records, whole as u64, "{len}");
        // The system still runs: what an interrupted write left was never given out. But no
        // process leaves a segment without its head behind once there were records.
        let next = if len < ends[0] {
            1025
        } else {
            whole as u64 + 1
        };
        assert_eq!(spool.append(0, 0, b"next").unwrap(), next, "{len}");
        drop(spool);
        let (mut spool, found) = open(&mut disk);
        assert_eq!((found.cut, found.next), (0, next + 1));
        assert_eq!(numbers(&all(&mut spool, 1)).len(), whole + 1);
    }
}

#[test]
fn zeros_at_the_end_after_a_power_cut_are_cut_and_their_numbers_not_used_again() {
    let mut disk = SimulatedDisk::new(0);
    let (mut spool, _) = open(&mut disk);
    fill(&mut spool, 5);
    spool.sync().unwrap();
    drop(spool);
    disk.restart(End::Power);
    disk.bytes_mut(Name::Segment(1)).unwrap().extend([0; 700]);
    let (mut spool, found) = open(&mut disk);
    let lost = Gap {
        from: 6,
        to: 1024,
        why: Cause::LostUnsynced,
    };
    assert_eq!((found.cut, found.next), (700, 1025));
    assert_eq!(found.gaps, [lost]);
    fill(&mut spool, 1);
    let read = all(&mut spool, 1);
    assert_eq!(numbers(&read), [1, 2, 3, 4, 5, 1025]);
    assert_eq!(gaps(&read), [lost]);
    drop(spool);
    let (_, found) = open(&mut disk);
    assert_eq!(found.gaps, [lost], "it keeps its reason");
}

#[test]
fn a_missing_segment_is_a_gap() {
    for missing in 0..3 {
        let (mut disk, _) = three_segments();
        let files = segments(&mut disk);
        super::super::Disk::remove(&mut disk, files[missing].0).unwrap();
        let first = |n: usize| match files.get(n) {
            Some((Name::Segment(first), _)) => *first,
            _ => 31,
        };
        let (from, to) = (first(missing), first(missing + 1) - 1);
        let gap = Gap {
            from,
            to,
            why: Cause::Damaged,
        };
        let (mut spool, found) = open(&mut disk);
        assert_eq!(found.gaps, [gap]);
        let read = all(&mut spool, 1);
        assert_eq!(gaps(&read), [gap]);
        assert_eq!(numbers(&read).len() as u64, 30 - (to - from + 1));
        assert_eq!(spool.append(0, 0, b"next").unwrap(), 31);
    }
}

#[test]
fn without_a_ledger_the_stream_goes_on_far_above_everything_that_was_given_out() {
    let (mut disk, items) = three_segments();
    super::super::Disk::remove(&mut disk, Name::Ledger).unwrap();
    let (mut spool, found) = open(&mut disk);
    assert_eq!((found.epoch, found.fresh), (EPOCH, false));
    assert_eq!(found.next, 31 + (1 << 32));
    assert_eq!(&all(&mut spool, 1)[..30], items);
    let told = found.gaps.last().unwrap();
    assert_eq!((told.from, told.why), (31, Cause::LostUnsynced));
}

#[test]
fn a_segment_of_another_stream_is_not_taken_for_ours() {
    let (mut other, _) = three_segments();
    let theirs = other.bytes_mut(Name::Segment(1)).unwrap().clone();
    let mut disk = SimulatedDisk::new(1);
    let (mut spool, _) = Spool::open(&mut disk, small(), [7; 16]).unwrap();
    fill(&mut spool, 40);
    spool.close().unwrap();
    *disk.bytes_mut(Name::Segment(1)).unwrap() = theirs;
    let (mut spool, found) = open(&mut disk);
    assert_eq!((found.epoch, found.strangers, found.next), ([7; 16], 1, 41));
    assert_eq!(numbers(&all(&mut spool, 1)), [0_u64; 0]);
}

#[test]
fn a_bad_spot_costs_what_lies_on_it_and_is_not_overwritten() {
    let (mut disk, items) = three_segments();
    let before = disk.clone().bytes_mut(Name::Segment(1)).unwrap().clone();
    // Listing, ledger, three heads, then the first segment, and its only piece as often as it is tried.
    for operation in 5..9 {
        disk.fail_at(disk.operations() + operation, Fault::Error);
    }
    let (spool, found) = Spool::open(&mut disk, small(), [9; 16]).unwrap();
    assert!(!found.gaps.is_empty());
    drop(spool);
    disk.heal();
    assert_eq!(*disk.bytes_mut(Name::Segment(1)).unwrap(), before);
    let (mut spool, found) = open(&mut disk);
    assert_eq!(found.gaps, []);
    assert_eq!(all(&mut spool, 1), items);
}

#[test]
fn a_disk_that_gives_nothing_is_an_error_and_no_loss() {
    let (mut disk, items) = three_segments();
    for operation in 2..40 {
        disk.fail_at(disk.operations() + operation, Fault::Error);
    }
    assert!(Spool::open(&mut disk, small(), [9; 16]).is_err());
    disk.heal();
    let (mut spool, _) = open(&mut disk);
    assert_eq!(all(&mut spool, 1), items);
}
