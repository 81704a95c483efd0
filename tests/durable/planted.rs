//! Each promise is broken on purpose, in a process of its own, and the test that stands for it must fail.

use std::process::Command;

/// What is broken, and which test of this file's program notices.
const PLANTED: [(&str, &str); 22] = [
    ("AcknowledgedBeforeSlot", "power::in_always"),
    ("MarkFromTail", "held_up::a_slot_that_is_reserved"),
    ("MarkBeforeSync", "power::in_always"),
    ("UnchangedNotConfirmed", "held_up::in_always_a_heal_that_changes_nothing"),
    ("FailedSyncRetried", "failing::a_sync_that_failed"),
    ("ResumedWithoutSnapshot", "failing::a_sync_that_failed"),
    ("OlderKeptAfterFailedSync", "failing::a_sync_that_failed"),
    ("HungDiskIgnored", "promises::a_disk_that_hangs"),
    ("SealedNotSynced", "power::a_segment_that_has_just_been_filled"),
    ("FolderNotSynced", "power::in_always"),
    ("PublishedBeforeSynced", "power::in_always"),
    ("SnapshotWithoutBarrier", "held_up::a_leave_that_a_snapshot_contains"),
    ("PrunedBeforeDurable", "power::in_always"),
    ("ForgottenKept", "promises::who_was_forgotten"),
    ("ReplayedNotSynced", "power::what_a_start_has_read"),
    ("MarkIgnored", "promises::a_slot_that_was_synced"),
    ("EmptySlotRefused", "power::in_always"),
    ("ChecksumIgnored", "promises::half_a_slot"),
    ("DeadlineLowered", "held_up::the_later_of_two_deadlines"),
    ("RetentionUndone", "promises::what_retention_has_dropped"),
    ("OutageForgotten", "promises::an_outage_is_known"),
    ("AliveNotStamped", "promises::an_outage_is_known"),
];

fn outcome(test: &str, planted: Option<&str>) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--test-threads=1", test]).env_remove("HEARTBEAT_PLANTED").env("RUST_BACKTRACE", "0");
    command.envs(planted.map(|planted| ("HEARTBEAT_PLANTED", planted)));
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!told.contains("running 0 tests"), "{test} is no test");
    (output.status.success(), told)
}

#[test]
fn each_promise_that_is_broken_on_purpose_is_noticed() {
    let unnoticed: Vec<_> = PLANTED.iter().filter(|(planted, test)| outcome(test, Some(planted)).0).collect();
    assert!(unnoticed.is_empty(), "{unnoticed:?}");
}

/// Else the failures above would say nothing.
#[test]
fn a_name_that_plants_nothing_makes_no_test_fail() {
    for test in ["held_up", "promises", "failing::a_sync_that_failed"] {
        let (passed, told) = outcome(test, Some("Nothing"));
        assert!(passed, "{told}");
    }
}
