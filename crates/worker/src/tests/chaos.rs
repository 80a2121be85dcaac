//! Everything is interrupted at random, and in the end everything is there exactly once.

use super::Dice;
use super::service::{Bench, batch, check_whole, wanted};
use std::time::Duration;

/// Sessions at once, batches of each.
const SESSIONS: u64 = 3;
const BATCHES: u64 = 4;

fn work(dice: &mut Dice) -> Vec<Vec<(u64, usize)>> {
    let mut index = 0;
    let mut one = |dice: &mut Dice| {
        index += 1;
        (index, usize::try_from(dice.below(6000)).unwrap())
    };
    (0..BATCHES).map(|_| (0..1 + dice.below(60)).map(|_| one(dice)).collect()).collect()
}

fn storm(seed: u64) {
    eprintln!("seed {seed}");
    let mut dice = Dice::new(seed);
    let mut bench = Bench::new();
    let mut worker = bench.worker();
    let supervisor = bench.supervisor.supervisor.clone();
    supervisor.wait_connected();
    let work: Vec<_> = (0..SESSIONS).map(|_| work(&mut dice)).collect();
    let sessions: Vec<u64> = work
        .iter()
        .map(|batches| supervisor.want(wanted(batches.iter().map(|b| batch(b.iter().copied())).collect())))
        .collect();
    for _ in 0..12 {
        // Not a wait for anything: how far things get before the next blow is what the seed decides.
        std::thread::sleep(Duration::from_millis(dice.below(40)));
        match dice.below(5) {
            0 => {
                worker.kill();
                worker = bench.worker();
            }
            1 => bench.launcher.restart(dice.below(2) == 0),
            2 => {
                let fails: Vec<bool> = (0..dice.below(4)).map(|_| dice.below(2) == 0).collect();
                supervisor.books().failures.extend(fails);
            }
            _ => supervisor.cut(),
        }
    }
    for session in &sessions {
        supervisor.wait_over(*session);
    }
    bench.wait_clean();
    for (session, batches) in sessions.iter().zip(&work) {
        check_whole(&supervisor.wait_over(*session), batches);
    }
    drop(worker);
}

#[test]
fn nothing_is_lost_and_nothing_comes_twice() {
    // A new seed each time; a failure prints it.
    let now = crate::host::now_us();
    for round in 0..4 {
        storm(now.wrapping_add(round));
    }
}
