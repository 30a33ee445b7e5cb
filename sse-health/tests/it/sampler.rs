use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use sse_health::{Sampler, Source as _, SystemSource, Usage};

fn usage(resident_bytes: u64) -> Usage {
    Usage {
        resident_bytes: Some(resident_bytes),
        ..Usage::default()
    }
}

#[test]
fn a_hundred_questions_a_second_are_one_reading() {
    let readings = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&readings);
    let sampler = Sampler::new(
        move || usage(counter.fetch_add(1, Relaxed) + 1),
        Duration::from_secs(1),
    );
    let start = Instant::now();
    for ms in (0..2000).step_by(10) {
        let reading = sampler.sample(start + Duration::from_millis(ms));
        assert_eq!(reading, usage(ms / 1000 + 1));
    }
    assert_eq!(readings.load(Relaxed), 2);
}

#[test]
fn whoever_asks_during_a_slow_reading_gets_the_one_before() {
    let (reading_begun, reading_may_end) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let sampler = Arc::new(Sampler::new(
        {
            let (begun, may_end) = (Arc::clone(&reading_begun), Arc::clone(&reading_may_end));
            let mut readings = 0;
            move || {
                readings += 1;
                if readings > 1 {
                    begun.wait();
                    may_end.wait();
                }
                usage(readings)
            }
        },
        Duration::from_secs(1),
    ));
    let start = Instant::now();
    assert_eq!(sampler.sample(start), usage(1));

    let later = start + Duration::from_secs(2);
    let slow = {
        let sampler = Arc::clone(&sampler);
        thread::spawn(move || sampler.sample(later))
    };
    reading_begun.wait();
    assert_eq!(sampler.sample(later), usage(1));
    reading_may_end.wait();
    assert_eq!(slow.join().unwrap(), usage(2));
    assert_eq!(sampler.sample(later), usage(2));
}

#[test]
fn this_process_is_measured() {
    let mut source = SystemSource::new();
    let first = source.read();
    assert_eq!(
        (first.process_cpu, first.system_cpu),
        (None, None),
        "nothing to compare with yet"
    );
    let memory = first.memory.unwrap();
    assert!(memory > 0.0 && memory <= 1.0, "{memory}");
    let resident = first.resident_bytes.unwrap();
    assert!(resident > 500_000, "{resident}");

    // Some work, so that there is something to measure.
    let held = vec![1u8; 64 << 20];
    let begin = Instant::now();
    let mut sum = 0u64;
    while begin.elapsed() < Duration::from_millis(300) {
        sum = held
            .iter()
            .step_by(4096)
            .fold(sum, |sum, &byte| sum.wrapping_add(byte.into()));
    }
    assert!(sum > 0);
    let second = source.read();
    let (process, system) = (second.process_cpu.unwrap(), second.system_cpu.unwrap());
    assert!(process > 0.0 && process <= 1.0, "{process}");
    assert!(system > 0.0 && system <= 1.0, "{system}");
    assert!(second.resident_bytes.unwrap() > resident + (32 << 20));
}
