//! One promise each.

use super::{super::AppendError, *};

#[test]
fn numbers_begin_at_one_and_go_on_after_closing() {
    let mut disk = SimulatedDisk::new(0);
    let (mut spool, found) = open(&mut disk);
    assert_eq!((found.fresh, found.first, found.next), (true, 1, 1));
    fill(&mut spool, 3);
    spool.close().unwrap();
    disk.restart(End::Power);
    let (mut spool, found) = open(&mut disk);
    assert_eq!((found.fresh, found.clean), (false, true));
    assert_eq!((found.first, found.next, found.records), (1, 4, 3));
    assert_eq!((found.gaps, found.epoch), (vec![], EPOCH));
    fill(&mut spool, 1);
    assert_eq!(numbers(&all(&mut spool, 1)), [1, 2, 3, 4]);
}

#[test]
fn numbers_go_on_after_the_process_died_without_any_sync() {
    let mut disk = SimulatedDisk::new(0);
    let (mut spool, _) = open(&mut disk);
    fill(&mut spool, 3);
    drop(spool);
    let (_, found) = open(&mut disk);
    assert_eq!((found.clean, found.next, found.gaps), (false, 4, vec![]));
}

#[test]
fn an_epoch_stays_even_if_nothing_was_ever_appended() {
    let mut disk = SimulatedDisk::new(0);
    drop(open(&mut disk));
    disk.restart(End::Power);
    let (_, found) = Spool::open(&mut disk, small(), [1; 16]).unwrap();
    assert_eq!(found.epoch, EPOCH);
}

#[test]
fn reading_is_bounded_and_gives_something_whenever_there_is_something() {
    let mut disk = SimulatedDisk::new(0);
    let (mut spool, _) = open(&mut disk);
    let payloads: [&[u8]; 4] = [&[1; 100], &[2; 100], &[3; 5000], &[4; 1]];
    for payload in payloads {
        spool.append(9, 7, payload).unwrap();
    }
    let read = |spool: &mut Spool<_>, from, bytes, records| -> Vec<u64> {
        numbers(&Spool::read(spool, from, bytes, records).unwrap())
    };
    assert_eq!(read(&mut spool, 1, 250, 9), [1, 2]);
    assert_eq!(read(&mut spool, 1, 0, 0), [1]);
    assert_eq!(read(&mut spool, 1, 9999, 1), [1]);
    assert_eq!(
        read(&mut spool, 3, 10, 9),
        [3],
        "one that is larger than asked for"
    );
    assert_eq!(read(&mut spool, 1, usize::MAX, usize::MAX), [1, 2, 3, 4]);
    assert_eq!(read(&mut spool, 5, 9999, 9), [0_u64; 0]);
}

#[test]
fn a_large_record_comes_back_whole_from_a_segment_of_its_own() {
    let mut disk = SimulatedDisk::new(0);
    let (mut spool, _) = open(&mut disk);
    let large: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    fill(&mut spool, 1);
    spool.append(3, 4, &large).unwrap();
    fill(&mut spool, 1);
    assert_eq!(spool.usage().segments, 3);
    let Item::Record { payload, .. } = &all(&mut spool, 2)[0] else {
        panic!("a gap");
    };
    assert_eq!(*payload, large);
}

#[test]
fn what_is_too_large_is_refused_for_good_and_what_is_too_much_for_now() {
    let mut disk = SimulatedDisk::new(0);
    let config = SpoolConfig {
        max_bytes: 10_000,
        segment_bytes: 4096,
        max_age: None,
    };
    let (mut spool, _) = Spool::open(&mut disk, config, EPOCH).unwrap();
    assert!(matches!(
        spool.append(0, 0, &[0; 10_000]),
        Err(AppendError::TooLarge { limit: 9932, .. })
    ));
    let batch = spool.append_batch((0..20).map(|_| (0, 0, &[0; 1000][..])));
    assert_eq!(batch.seqs, 1..10);
    assert!(matches!(
        batch.stopped,
        Some(AppendError::Full { limit: 10_000, .. })
    ));
    assert!(spool.usage().disk_bytes < 10_400, "ledger included");
    assert!(spool.append(0, 0, &[0; 1000]).is_err());
    spool.trim(5).unwrap();
    assert_eq!(spool.append(0, 0, &[0; 1000]).unwrap(), 10);
    spool.trim(10).unwrap();
    assert_eq!(
        spool.append(0, 0, &[0; 9000]).unwrap(),
        11,
        "what nobody waits for makes room"
    );
}

#[test]
fn acknowledging_gives_the_disk_back() {
    let mut disk = SimulatedDisk::new(0);
    let (mut spool, _) = Spool::open(&mut disk, SpoolConfig::default(), EPOCH).unwrap();
    let payload = [5; 200];
    for _ in 0..20 {
        let batch = spool.append_batch((0..1000).map(|_| (0, 0, &payload[..])));
        assert!(batch.stopped.is_none());
    }
    let full = spool.usage();
    assert_eq!(full.records, 20_000);
    assert!(full.disk_bytes < 20_000 * 226, "{full:?}");
    spool.trim(10_000).unwrap();
    let half = spool.usage();
    assert_eq!(half.records, 10_000);
    assert!(
        half.disk_bytes < full.disk_bytes / 2 + 1024 * 1024 + 1024,
        "{half:?}"
    );
    assert!(half.bytes < 10_000 * 224 + 16 * 1024 + 224, "{half:?}");
    spool.trim(20_000).unwrap();
    assert_eq!((spool.usage().records, spool.usage().segments), (0, 0));
    assert_eq!(spool.first_seq(), spool.next_seq());
    assert_eq!(spool.append(0, 0, b"next").unwrap(), 20_001);
    drop(spool);
    assert!(disk.size() < 70_000);
}

#[test]
fn acknowledged_records_do_not_come_back_after_closing() {
    let mut disk = SimulatedDisk::new(0);
    let (mut spool, _) = open(&mut disk);
    fill(&mut spool, 10);
    spool.trim(4).unwrap();
    spool.close().unwrap();
    let (mut spool, found) = open(&mut disk);
    assert_eq!((found.first, found.records), (5, 6));
    assert_eq!(
        gaps(&all(&mut spool, 2)),
        [Gap {
            from: 2,
            to: 4,
            why: Cause::Trimmed
        }]
    );
}

#[test]
fn what_was_never_given_out_cannot_be_acknowledged() {
    let mut disk = SimulatedDisk::new(0);
    let (mut spool, _) = open(&mut disk);
    fill(&mut spool, 2);
    assert!(spool.trim(3).is_err());
    assert_eq!(numbers(&all(&mut spool, 1)), [1, 2]);
}

#[test]
fn old_records_are_dropped_only_when_asked_for_and_told_until_acknowledged() {
    let mut disk = SimulatedDisk::new(0);
    let (mut spool, _) = open(&mut disk);
    fill(&mut spool, 300);
    assert_eq!(spool.expire(1, u64::MAX).unwrap(), None);
    let gap = Gap {
        from: 1,
        to: 249,
        why: Cause::Expired,
    };
    assert_eq!(spool.expire(250, u64::MAX).unwrap(), Some(gap));
    assert_eq!(spool.expire(250, u64::MAX).unwrap(), None);
    let usage = spool.usage();
    assert_eq!(usage.records, 51);
    spool.close().unwrap();
    let (mut spool, found) = open(&mut disk);
    assert_eq!((found.first, found.records, found.gaps), (1, 51, vec![]));
    let read = all(&mut spool, 1);
    assert_eq!(gaps(&read), [gap]);
    assert_eq!(numbers(&read), (250..=300).collect::<Vec<_>>());
    spool.trim(260).unwrap();
    assert_eq!(gaps(&all(&mut spool, 261)), []);
}

#[test]
fn a_full_disk_refuses_and_the_next_record_gets_the_same_number() {
    let mut disk = SimulatedDisk::new(0);
    let (mut spool, _) = open(&mut disk);
    fill(&mut spool, 5);
    let size = spool.disk.size();
    spool.disk.set_room(Some(size + 10));
    for _ in 0..3 {
        assert!(matches!(
            spool.append(0, 0, &[1; 50]),
            Err(AppendError::NoSpace(_))
        ));
    }
    assert_eq!(spool.disk.size(), size, "nothing of it is there");
    assert_eq!(numbers(&all(&mut spool, 1)), [1, 2, 3, 4, 5]);
    spool.disk.set_room(None);
    assert_eq!(spool.append(0, 0, &[2; 50]).unwrap(), 6);
    assert_eq!(gaps(&all(&mut spool, 1)), []);
}

#[test]
fn what_was_refused_does_not_come_back_under_a_number_that_was_given_out_since() {
    for seed in 0..3000 {
        let mut disk = SimulatedDisk::new(seed);
        let (mut spool, _) = open(&mut disk);
        fill(&mut spool, 3);
        spool.sync().unwrap();
        // It is written, but an error is told, and it cannot be cut either.
        let now = spool.disk.operations();
        spool.disk.fail_at(now, Fault::Error);
        spool.disk.fail_at(now + 1, Fault::Error);
        assert!(spool.append(0, 0, b"r").is_err());
        assert_eq!(spool.append(0, 0, b"a").unwrap(), 4);
        drop(spool);
        disk.restart(End::Power);
        let (mut spool, _) = open(&mut disk);
        if let Some(Item::Record { payload, .. }) = all(&mut spool, 4).first() {
            assert_eq!(&payload[..], b"a", "seed {seed}");
        }
    }
}

#[test]
fn acknowledging_works_on_a_full_disk() {
    let mut disk = SimulatedDisk::new(0);
    let (mut spool, _) = open(&mut disk);
    fill(&mut spool, 500);
    let full = spool.disk.size();
    spool.disk.set_room(Some(full));
    spool.trim(400).unwrap();
    assert!(spool.disk.size() < full / 2);
    drop(spool);
    let (_, found) = open(&mut disk);
    assert_eq!((found.first, found.gaps), (401, vec![]));
}

#[test]
fn a_sync_that_failed_is_not_believed_the_next_time() {
    let mut disk = SimulatedDisk::new(3);
    let (mut spool, _) = open(&mut disk);
    fill(&mut spool, 5);
    let now = spool.disk.operations();
    spool.disk.fail_at(now, Fault::Error);
    assert!(spool.sync().is_err());
    assert_eq!(spool.synced_up_to(), 0);
    spool.sync().unwrap();
    assert_eq!(spool.synced_up_to(), 5);
    drop(spool);
    disk.restart(End::Power);
    let (mut spool, _) = open(&mut disk);
    assert_eq!(numbers(&all(&mut spool, 1)), [1, 2, 3, 4, 5]);
}

#[test]
fn the_index_of_a_million_records_is_small() {
    let mut disk = SimulatedDisk::new(0);
    let (mut spool, _) = Spool::open(&mut disk, SpoolConfig::default(), EPOCH).unwrap();
    let payload = [5; 200];
    for _ in 0..20 {
        let batch = spool.append_batch((0..1000).map(|_| (0, 0, &payload[..])));
        assert!(batch.stopped.is_none());
    }
    let bytes = spool.index.memory();
    assert!(bytes * 50 < 1024 * 1024, "{bytes} bytes for 20,000");
}
