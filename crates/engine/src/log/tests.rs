use std::path::Path;

use super::*;
use crate::disk::OsDisk;
use crate::disk::fault::{Fault, FaultDisk};

fn payload(seq: u64) -> Vec<u8> {
    vec![seq as u8; (seq as usize * 7) % 50]
}

fn write(log: &mut Log, groups: &[&[u64]]) {
    for seqs in groups {
        let mut group = log.begin(0).expect("begins");
        seqs.iter().for_each(|seq| group.push(RecordKind::Rows, 3, *seq, &payload(*seq)));
        log.append(&group).expect("appends");
    }
}

fn read(dir: &Path) -> Result<Vec<u64>> {
    let recovered = recover(OsDisk::shared(), dir, 0)?;
    let seqs = recovered.records.iter().map(|record| record.seq).collect();
    for record in &recovered.records {
        assert_eq!((record.kind, record.fields, &*record.payload), (RecordKind::Rows, 3, &*payload(record.seq)));
    }
    Ok(seqs)
}

fn only_file(dir: &Path) -> PathBuf {
    let names = OsDisk.list(dir).expect("lists");
    assert_eq!(names.len(), 1, "{names:?}");
    dir.join(&names[0])
}

#[test]
fn records_come_back_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = Log::new(OsDisk::shared(), dir.path().to_owned());
    write(&mut log, &[&[1, 2], &[3]]);
    log.rotate();
    write(&mut log, &[&[4], &[5, 6, 7]]);
    assert_eq!(read(dir.path()).expect("reads"), [1, 2, 3, 4, 5, 6, 7]);
    log.trim(2);
    assert_eq!(OsDisk.list(dir.path()).expect("lists").len(), 2, "3 is still needed");
    log.trim(3);
    assert_eq!(read(dir.path()).expect("reads"), [4, 5, 6, 7]);
    let recovered = recover(OsDisk::shared(), dir.path(), 5).expect("reads");
    assert_eq!((recovered.records.len(), recovered.last_seq, recovered.torn), (2, 7, None));
}

/// A file cut at any byte loses whole records from its end and nothing else, and says so.
#[test]
fn torn_tail_is_cut() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = Log::new(OsDisk::shared(), dir.path().to_owned());
    write(&mut log, &[&[1, 2], &[3], &[4, 5]]);
    let file = only_file(dir.path());
    let whole = std::fs::read(&file).expect("reads");
    for cut in frame::FILE_HEADER_BYTES..whole.len() {
        for garbage in [0, 13] {
            let mut bytes = whole[..cut].to_vec();
            bytes.resize(cut + garbage, 0xab);
            std::fs::write(&file, &bytes).expect("writes");
            let recovered = recover(OsDisk::shared(), dir.path(), 0).expect("a torn tail is no damage");
            let kept = recovered.records.len() as u64;
            assert!(recovered.records.iter().map(|r| r.seq).eq(1..=kept), "a prefix");
            assert!(kept < 5);
            let end = recovered.torn.map_or(bytes.len() as u64, |torn| torn.offset);
            assert_eq!(recovered.torn.map_or(0, |torn| torn.bytes), bytes.len() as u64 - end);
            assert!(end as usize <= cut);
            // What goes on from here is not disturbed by the tail.
            let mut log = recovered.log;
            write(&mut log, &[&[10]]);
            let again = read(dir.path()).expect("reads");
            assert_eq!(again, (1..=kept).chain([10]).collect::<Vec<_>>());
            log.trim(0);
            std::fs::remove_file(only_or_newest(dir.path(), &file)).expect("removes");
            std::fs::write(&file, &whole).expect("writes");
        }
    }
}

fn only_or_newest(dir: &Path, not: &Path) -> PathBuf {
    let names = OsDisk.list(dir).expect("lists");
    names.iter().map(|name| dir.join(name)).rfind(|path| path != not).expect("a second file")
}

/// A flipped bit is damage, except in the last record, where it looks like a torn tail.
#[test]
fn flipped_bits_are_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = Log::new(OsDisk::shared(), dir.path().to_owned());
    write(&mut log, &[&[1], &[2], &[3, 4]]);
    let file = only_file(dir.path());
    let whole = std::fs::read(&file).expect("reads");
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&file, &bytes).expect("writes");
        match read(dir.path()) {
            Err(Error::Corrupt { .. }) => {}
            // Only the last group may be missing: it cannot be told from one that was never synced.
            Ok(seqs) => assert!(seqs == [1, 2] || seqs == [1, 2, 3], "byte {at}: {seqs:?}"),
            Err(other) => panic!("byte {at}: {other:?}"),
        }
    }
    // In an older file it is always damage.
    std::fs::write(&file, &whole).expect("writes");
    log.rotate();
    write(&mut log, &[&[5]]);
    for at in (0..whole.len()).step_by(3) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&file, &bytes).expect("writes");
        assert!(matches!(read(dir.path()), Err(Error::Corrupt { .. })), "byte {at}");
    }
}

/// Pages of one write reach the disk in any order: a hole in the last group is a torn tail though a valid record
/// follows it; a hole before a later group is damage.
#[test]
fn a_hole_in_the_last_group_is_torn() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = Log::new(OsDisk::shared(), dir.path().to_owned());
    write(&mut log, &[&[1], &[2, 3, 4]]);
    let file = only_file(dir.path());
    let whole = std::fs::read(&file).expect("reads");
    let mut holed = whole.clone();
    let second_group = frame::FILE_HEADER_BYTES + (frame::FRAME_HEADER_BYTES + payload(1).len()).next_multiple_of(8);
    holed[second_group..second_group + 32].fill(0);
    std::fs::write(&file, &holed).expect("writes");
    let recovered = recover(OsDisk::shared(), dir.path(), 0).expect("torn");
    assert_eq!((recovered.records.len(), recovered.torn.expect("torn").offset), (1, second_group as u64));

    std::fs::write(&file, &whole).expect("writes");
    write(&mut log, &[&[5]]);
    let mut holed = std::fs::read(&file).expect("reads");
    holed[second_group..second_group + 32].fill(0);
    std::fs::write(&file, &holed).expect("writes");
    assert!(matches!(read(dir.path()), Err(Error::Corrupt { .. })));
}

/// What a failed write left on the disk stays out for good once the writer went on.
#[test]
fn a_broken_file_is_superseded() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = FaultDisk::new(dir.path());
    let mut log = Log::new(disk.clone(), dir.path().to_owned());
    write(&mut log, &[&[1, 2]]);
    // The bytes arrive, the answer does not.
    disk.fail_matching("sync", ".tmp", Fault::Half);
    let mut group = log.begin(0).expect("begins");
    group.push(RecordKind::Rows, 3, 3, &payload(3));
    assert!(matches!(log.append(&group), Err(Error::WriteFailed(_))));
    assert!(log.needs_repair());
    // Starting the next file fails a few times in different ways.
    for (operation, fault) in
        [("create", Fault::Eio), ("write", Fault::Full), ("link", Fault::Half), ("sync_dir", Fault::Eio)]
    {
        disk.fail_matching(operation, "", fault);
        assert!(log.begin(0).is_err(), "{operation}");
        assert_eq!(read(dir.path()).map(|seqs| seqs[..2].to_vec()).expect("reads"), [1, 2], "{operation}");
    }
    disk.heal();
    write(&mut log, &[&[4]]);
    assert_eq!(read(dir.path()).expect("reads"), [1, 2, 4]);
    log.trim(0);
    only_file(dir.path());
    assert_eq!(read(dir.path()).expect("reads"), [1, 2, 4]);
}
