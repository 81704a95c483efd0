//! The power goes, at every call that the engine makes.

use std::time::Duration;

use heartbeat::{Durability, UserId};

use super::common::NOON;
use super::common::folder::SLOTS;
use super::image::{Dice, LUCKS};
use super::life::{Life, Settings, Step};

const USERS: [UserId; 4] = [UserId::new(1), UserId::new(-2), UserId::new(3), UserId::new(i64::MIN)];

fn settings(durability: Durability, dice: &mut Dice) -> Settings {
    Settings {
        durability,
        sync_interval: Duration::from_millis(1 + dice.roll(5) as u64),
        ttl: 1 + dice.roll(8) as u32,
        grace: [0, 0, 3][dice.roll(3)],
    }
}

fn step(dice: &mut Dice) -> Step {
    let user = USERS[dice.roll(USERS.len())];
    match dice.roll(100) {
        0..40 => Step::Heal(user),
        40..54 => Step::Leave(user),
        54..58 => Step::Forget(user),
        58..84 => Step::Pass(dice.roll(6) as u32),
        84..90 => Step::Sweep,
        90..95 => Step::Snapshot,
        95..97 => Step::Restart,
        97..99 => Step::Kill,
        _ => Step::Crowd(1 + dice.roll(120) as i64),
    }
}

/// Lives, and after each loses power in many moments and in many ways. Gives how many were tried.
fn lives(durability: Durability, states: usize, seed: u64) -> usize {
    let mut dice = Dice(seed);
    let mut tried = 0;
    while tried < states {
        let mut life = Life::begin(settings(durability, &mut dice), NOON);
        for second_life in [false, true] {
            let story = dice.clone();
            let steps: Vec<_> = (0..15 + dice.roll(30)).map(|_| step(&mut dice)).collect();
            for &step in &steps {
                life.recorder.take_one_in(if matches!(step, Step::Crowd(_)) { 23 } else { 1 });
                life.take(step);
            }
            let mut moments = life.recorder.moments();
            moments.push(life.recorder.moment("at the end"));
            for moment in &moments {
                for luck in LUCKS {
                    tried += 1;
                    if let Err(found) = life.check(moment, luck, &mut dice) {
                        panic!(
                            "{found}\nafter {steps:?}\nin {:?} (seed {seed}, dice {story:?})",
                            life.settings
                        );
                    }
                }
            }
            if !second_life {
                let moment = &moments[dice.roll(moments.len())];
                let luck = LUCKS[dice.roll(LUCKS.len())];
                life = life.after(moment, luck, &mut dice).unwrap();
            }
        }
    }
    tried
}

#[test]
fn in_always_nothing_acknowledged_is_lost_with_the_power() {
    lives(Durability::Always, 2_000, 1);
}

#[test]
fn in_interval_nothing_is_lost_that_was_synced() {
    lives(Durability::Interval, 2_000, 2);
}

#[test]
fn in_process_nothing_is_lost_that_a_snapshot_a_stop_or_a_start_has_put_on_disk() {
    lives(Durability::Process, 2_000, 3);
}

/// The slot that fills a segment is acknowledged when it is the next one that is in service.
#[test]
fn a_segment_that_has_just_been_filled_is_synced_like_any_other() {
    let mut life = Life::begin(settings(Durability::Always, &mut Dice(1)), NOON);
    life.recorder.take_one_in(u64::MAX);
    for _ in 0..3 {
        life.take(Step::Crowd(i64::from(SLOTS)));
        let moment = life.recorder.moment("with a segment full");
        let mut dice = Dice(4);
        for luck in LUCKS {
            life.check(&moment, luck, &mut dice).unwrap();
        }
    }
}

/// It may have come from the kernel's memory, which outlives a process and no loss of power.
#[test]
fn what_a_start_has_read_is_on_disk_when_it_is_ready() {
    let mut life = Life::begin(settings(Durability::Process, &mut Dice(2)), NOON);
    for step in [Step::Heal(USERS[0]), Step::Heal(USERS[1]), Step::Leave(USERS[1]), Step::Kill] {
        life.take(step);
    }
    let moment = life.recorder.moment("after the start");
    for luck in LUCKS {
        life.check(&moment, luck, &mut Dice(3)).unwrap();
    }
}

#[test]
#[ignore = "long: 100,000 losses of power, several minutes"]
fn nothing_promised_is_lost_in_a_hundred_thousand_losses_of_power() {
    for (durability, seed) in
        [(Durability::Always, 11), (Durability::Interval, 12), (Durability::Process, 13)]
    {
        let tried = lives(durability, 34_000, seed);
        println!("{durability:?}: {tried} losses of power");
    }
}
