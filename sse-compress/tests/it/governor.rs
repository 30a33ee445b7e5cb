use std::time::{Duration, Instant};

use proptest::prelude::*;
use sse_compress::{Level, LevelGovernor};

/// Observes the same load every five seconds for so many seconds.
fn lasts(governor: &mut LevelGovernor, now: &mut Instant, seconds: u64, cpu: f64) -> Level {
    for _ in 0..seconds / 5 {
        governor.observe(cpu, *now);
        *now += Duration::from_secs(5);
    }
    governor.level()
}

#[test]
fn a_rush_hour_makes_it_fast_and_the_evening_makes_it_best_again() {
    let mut now = Instant::now();
    let mut governor = LevelGovernor::new(Level::Best);
    assert_eq!(lasts(&mut governor, &mut now, 300, 0.3), Level::Best);
    assert_eq!(lasts(&mut governor, &mut now, 15, 0.95), Level::Balanced);
    assert_eq!(lasts(&mut governor, &mut now, 15, 0.95), Level::Fast);
    assert_eq!(lasts(&mut governor, &mut now, 3600, 0.95), Level::Fast);
    assert_eq!(
        lasts(&mut governor, &mut now, 3600, 0.7),
        Level::Fast,
        "between the limits nothing moves"
    );
    assert_eq!(lasts(&mut governor, &mut now, 65, 0.3), Level::Balanced);
    assert_eq!(lasts(&mut governor, &mut now, 65, 0.3), Level::Best);
}

/// The level after these loads at these milliseconds, for a governor that was busy until it had come down to `began`.
fn after(configured: Level, began: Level, loads: &[(f64, u64)]) -> Level {
    let start = Instant::now();
    let mut governor = LevelGovernor::new(configured);
    let mut seconds = 0;
    while governor.level() != began {
        governor.observe(1.0, start + Duration::from_secs(seconds));
        seconds += 10;
    }
    for &(cpu, at) in loads {
        governor.observe(
            cpu,
            start + Duration::from_secs(seconds) + Duration::from_millis(at),
        );
    }
    governor.level()
}

#[test]
fn it_gets_faster_when_the_load_has_been_at_the_limit_for_its_time_and_not_before() {
    let busy = |loads| after(Level::Best, Level::Best, loads);
    assert_eq!(
        busy(&[(0.85, 0), (0.85, 5000), (0.85, 10_000)]),
        Level::Balanced
    );
    assert_eq!(busy(&[(0.85, 0), (0.85, 9999)]), Level::Best);
    assert_eq!(busy(&[(0.849, 0), (0.849, 20_000)]), Level::Best);
    // A look below the limit begins the time anew.
    assert_eq!(
        busy(&[(0.9, 0), (0.849, 5000), (0.9, 6000), (0.9, 15_999)]),
        Level::Best
    );
    // One step for each time.
    assert_eq!(
        busy(&[(0.9, 0), (0.9, 10_000), (0.9, 19_999), (0.9, 29_998)]),
        Level::Balanced
    );
    assert_eq!(
        busy(&[(0.9, 0), (0.9, 10_000), (0.9, 19_999), (0.9, 29_999)]),
        Level::Fast
    );
}

#[test]
fn it_gets_slower_when_the_load_has_been_below_the_limit_for_its_time_and_not_before() {
    let idle = |loads| after(Level::Best, Level::Fast, loads);
    assert_eq!(
        idle(&[(0.499, 0), (0.499, 30_000), (0.499, 60_000)]),
        Level::Balanced
    );
    assert_eq!(idle(&[(0.499, 0), (0.499, 59_999)]), Level::Fast);
    assert_eq!(idle(&[(0.5, 0), (0.5, 200_000)]), Level::Fast);
    // A look at the limit begins the time anew.
    assert_eq!(
        idle(&[(0.4, 0), (0.5, 30_000), (0.4, 31_000), (0.4, 90_999)]),
        Level::Fast
    );
    // From busy to idle, and back.
    assert_eq!(idle(&[(0.9, 0), (0.4, 5000), (0.4, 64_999)]), Level::Fast);
    assert_eq!(
        idle(&[(0.9, 0), (0.4, 5000), (0.4, 65_000)]),
        Level::Balanced
    );
}

#[test]
fn a_moment_of_load_changes_nothing() {
    let mut now = Instant::now();
    let mut governor = LevelGovernor::new(Level::Balanced);
    for _ in 0..100 {
        assert_eq!(lasts(&mut governor, &mut now, 10, 1.0), Level::Balanced);
        assert_eq!(lasts(&mut governor, &mut now, 5, 0.4), Level::Balanced);
    }
}

proptest! {
    #[test]
    fn it_never_tries_harder_than_configured_nor_moves_two_steps_at_once(
        configured in prop::sample::select(&Level::ALL[..]),
        loads in prop::collection::vec((0u64..120, prop_oneof![0.0f64..1.2, Just(f64::NAN)]), 1..200),
    ) {
        let mut now = Instant::now();
        let mut governor = LevelGovernor::new(configured);
        let mut before = configured;
        for (gap, cpu) in loads {
            now += Duration::from_secs(gap);
            let level = governor.observe(cpu, now);
            prop_assert!(level <= configured);
            prop_assert!((level as i8 - before as i8).abs() <= 1);
            if level > before {
                prop_assert!(cpu < LevelGovernor::IDLE);
            }
            if level < before {
                prop_assert!(cpu >= LevelGovernor::BUSY);
            }
            before = level;
        }
    }
}
