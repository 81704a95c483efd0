//! A snapshot that is never finished leaves nothing.

use super::*;

#[test]
fn a_writer_dropped_early_leaves_nothing() {
    let (folder, directory) = open_directory();
    let mut writer = Writer::create(&directory, HEADER).unwrap();
    writer.write_shard(0, &copied(&ana_and_bo())).unwrap();
    assert!(folder.path().join("snapshot-0000000003.snap.tmp").exists());

    drop(writer);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Whatever was refused may be there in part, so nothing may follow it, even if there were room again.
#[test]
fn a_full_disk_ends_a_writer() {
    let (folder, directory) = open_directory();
    let temporary = folder.path().join("snapshot-0000000003.snap.tmp");
    let mut writer = Writer::create(&directory, HEADER).unwrap();
    writer.replace_file(fs::File::options().write(true).open("/dev/full").unwrap());
    let two_pieces = copied(&[(1, 0, (0..300_000).map(|session| lapsed(session, 1)).collect())]);

    let full = writer.write_shard(0, &two_pieces).unwrap_err();
    assert_eq!((full.source.kind(), &full.path), (std::io::ErrorKind::StorageFull, &temporary));
    let again = writer.write_shard(1, &two_pieces).unwrap_err();
    assert_eq!(again.source.kind(), std::io::ErrorKind::Other);
    let at_last = writer.finish(second(1), &[]).unwrap_err();
    assert_eq!(at_last.to_string(), format!("cannot write {}", temporary.display()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
