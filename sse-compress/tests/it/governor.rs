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
