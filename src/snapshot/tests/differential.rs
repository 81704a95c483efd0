//! wincode writes and reads the same bytes: it is the way out of bincode, which nobody maintains any more.

use bincode::{Decode, Encode};

use super::whole::any_user;
use super::*;

fn by_bincode(record: &impl Encode) -> Vec<u8> {
    bincode::encode_to_vec(record, bincode::config::legacy()).unwrap()
}

/// Both write the same, and each reads what the other has written, to its end.
fn assert_same<R, T>(record: &R, same: &T)
where
    R: Encode + Decode<()>,
    T: wincode::SchemaWrite<wincode::config::DefaultConfig, Src = T>,
    T: for<'de> wincode::SchemaRead<'de, wincode::config::DefaultConfig, Dst = T>,
    T: PartialEq + std::fmt::Debug,
{
    let bytes = by_bincode(record);
    assert_eq!(wincode::serialize(same).unwrap(), bytes);
    assert_eq!(&wincode::deserialize_exact::<T>(&bytes).unwrap(), same);
    let (read, length) = bincode::decode_from_slice::<R, _>(&bytes, codec::<HEADER_BYTES>()).unwrap();
    assert_eq!((by_bincode(&read), length), (bytes.clone(), bytes.len()));
}

fn check_users(users: &[User]) {
    let mut bytes = Vec::new();
    for (user, live, closed) in users {
        let written = by_bincode(&UserRecord { user: *user, live: *live, closed });
        assert_eq!(wincode::serialize(&(*user, *live, closed.clone())).unwrap(), written);
        bytes.extend(written);
    }
    let sessions = users.iter().map(|(_, _, closed)| closed.len() as u64).sum();
    let count = u32::try_from(users.len()).unwrap();
    let section = SectionRecord { bytes: bytes.len() as u64, shard: 0, users: count, sessions };
    let mut read = Vec::new();
    let visit = |user: UserId, live, closed: &[u64]| read.push((user.as_i64(), live, closed.to_vec()));
    read::visit_users(codec::<SECTION_BYTES_MAX>(), &bytes, Part::Section(0), section, visit).unwrap();
    assert_eq!(read, users);
    assert_eq!(read_by_wincode(&bytes), users);
}

/// A section's users, one after another.
fn read_by_wincode(mut bytes: &[u8]) -> Vec<User> {
    let mut users = Vec::new();
    while !bytes.is_empty() {
        users.push(wincode::deserialize_from(&mut bytes).unwrap());
    }
    users
}

proptest! {
    #[test]
    fn users_are_the_same_bytes(users in proptest::collection::vec(any_user(), 1..20)) {
        check_users(&users);
    }

    #[test]
    fn records_are_the_same_bytes(
        (a, b, c, d) in (any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>()),
        (e, f, magic, directory) in (any::<u64>(), any::<u64>(), any::<[u8; 8]>(), any::<[u8; 16]>()),
    ) {
        assert_same(&PreambleRecord { magic, version: a }, &(magic, a));
        let header = HeaderRecord { directory, number: c, first_segment: d, ttl_seconds: a, grace_seconds: b };
        assert_same(&header, &(directory, c, d, a, b));
        let section = SectionRecord { bytes: c, shard: a, users: b, sessions: d };
        assert_same(&section, &(c, a, b, d));
        assert_same(&TableRecord { offset: e, section }, &(e, (c, a, b, d)));
        assert_same(&TotalsRecord { engine_time: a, users: c, sessions: d, outages: e, sections: f }, &(a, c, d, e, f));
        assert_same(&OutageRecord { from: a, to: b }, &(a, b));
        assert_same(&TrailerRecord { footer_at: c, footer_bytes: d }, &(c, d));
    }
}

/// The file that is kept, read by wincode alone: what one of version 1 holds does not depend on bincode.
#[test]
fn the_golden_file_is_read_the_same() {
    let file = Changed::new();
    fs::write(&file.path, GOLDEN).unwrap();
    let snapshot = Snapshot::open(&file.path).unwrap();
    for (section, (_, users)) in snapshot.sections().iter().zip(read(&snapshot)) {
        let from = usize::try_from(section.offset).unwrap() + SECTION_HEADER_BYTES;
        let length = usize::try_from(section.bytes).unwrap();
        assert_eq!(read_by_wincode(&GOLDEN[from..from + length]), users);
    }
    assert_eq!(snapshot.sections().len(), 2);
}
