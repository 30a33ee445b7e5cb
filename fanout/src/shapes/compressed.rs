//! Readers that take gzip beside readers that do not, with the payloads compression is for.
//!
//! Compressed streams are kept and inflated once nobody measures, each in full; a few are inflated
//! and checked as they come, and it is they who say when an event has been delivered.

use std::time::Duration;

use super::steps::{check, flat_out, warm_up};
use crate::Outcome;
use crate::figures::{Figures, Metric};
use crate::fleet::{Arrival, Audience, Fleet};
use crate::load::{Load, Pace, Ran, run};
use crate::options::Options;
use crate::payload::Payload;
use crate::process::Server;
use crate::reader::Reading;
use crate::tally::number_of;
use crate::target::Target;

pub(super) fn measure(options: &Options, target: &Target, figures: &mut Figures) -> Outcome {
    if !target.is_hub() {
        return Ok(()); // the floor and the peers send what they have
    }
    for payload in [Payload::Token, Payload::Progress] {
        let shape = format!("gzip {}", payload.name());
        for coding in [None, Some("gzip")] {
            figures.server = match coding {
                None => target.name().to_owned(),
                Some(coding) => format!("{} {coding}", target.name()),
            };
            one(options, target, figures, &shape, payload, coding)?;
        }
    }
    Ok(())
}

fn one(
    options: &Options,
    target: &Target,
    figures: &mut Figures,
    shape: &str,
    payload: Payload,
    coding: Option<&'static str>,
) -> Outcome {
    let server = Server::start(target, &options.server_args, &[])?;
    let before = server.memory();
    let mut fleet = Fleet::new(&server, Audience::Everyone)?;
    let arrival = |reading| Arrival {
        reading,
        accept_encoding: coding,
        ..Arrival::default()
    };
    fleet.subscribe(CHECKED_AT_ONCE, arrival(Reading::Check))?;
    fleet.subscribe(READERS - CHECKED_AT_ONCE, arrival(Reading::Keep))?;
    let compressed = fleet.readers.iter().filter(|r| r.is_compressed()).count();
    if coding.is_some() && compressed < READERS {
        figures.trouble(format!(
            "{} of {READERS} streams that could be compressed are not",
            READERS - compressed
        ));
    }
    warm_up(&mut fleet, &server)?;

    let shape = |how: &str| format!("{shape}, {how}");
    let paced = Load {
        payload,
        pace: Pace::PerSecond(PACED_RATE),
        publishers: 4,
        lasting: options.scaled(Duration::from_secs(3)),
        at_most: None,
    };
    let lasting = options.scaled(Duration::from_secs(1));
    run(&mut fleet, &server, flat_out(payload, READERS, lasting / 4))?;
    settle(&mut fleet)?;
    for (name, load) in [
        (shape("50 a second"), paced),
        (shape("flat out"), flat_out(payload, READERS, lasting)),
    ] {
        let cpu = server.cpu();
        let mut ran = run(&mut fleet, &server, load)?;
        settle(&mut fleet)?;
        // With what came to the readers that say nothing after those that do.
        ran.cpu = server.cpu().saturating_sub(cpu);
        ran.bytes = fleet.readers.iter().map(|reader| reader.bytes).sum();
        ran.deliveries = ran.events * READERS;
        check(figures, &name, &fleet, &ran);
        check_kept(figures, &name, &fleet);
        report(figures, &name, &ran);
    }
    let memory = server.memory().saturating_sub(before) as f64 / 1024.0 / READERS as f64;
    figures.add(&shape("flat out"), READERS, Metric::LoadedMemory, memory);
    Ok(())
}

fn report(figures: &mut Figures, name: &str, ran: &Ran) {
    figures.add(
        name,
        READERS,
        Metric::CpuPerEvent,
        ran.cpu_micros_per_delivery(),
    );
    let bytes = ran.bytes as f64 / ran.deliveries.max(1) as f64;
    figures.add(name, READERS, Metric::BytesPerEvent, bytes);
    if let Some(p99) = ran.p99_ms {
        figures.add(name, READERS, Metric::P99, p99);
    }
}

/// Waits until the readers whose streams are only kept have what the others have.
fn settle(fleet: &mut Fleet) -> Outcome {
    loop {
        let received = |fleet: &Fleet| fleet.readers.iter().map(|r| r.bytes).sum::<u64>();
        let before = received(fleet);
        fleet.idle_for(Duration::from_millis(100))?;
        if received(fleet) == before {
            return Ok(());
        }
    }
}

/// Inflates every kept stream and compares the load's events with what was published.
fn check_kept(figures: &mut Figures, name: &str, fleet: &Fleet) {
    let published: Vec<&[u8]> = fleet.tally.payloads().collect();
    let first = fleet.tally.next_first() - published.len() as u64;
    let mut unsound = 0;
    let kept = fleet
        .readers
        .iter()
        .filter(|r| r.is_compressed() && !r.is_checked());
    for reader in kept {
        // Several publishers: any order is right, but each event is there once.
        let mut seen = vec![false; published.len()];
        let mut is_right = true;
        let is_sound = reader.inflate_kept(|data| {
            let index = number_of(data).and_then(|number| number.checked_sub(first));
            let Some(index) = index.map(|index| index as usize) else {
                return; // of an earlier load
            };
            is_right &= published.get(index) == Some(&data) && !seen[index];
            if let Some(seen) = seen.get_mut(index) {
                *seen = true;
            }
        });
        if !is_sound || !is_right || seen.contains(&false) {
            unsound += 1;
        }
    }
    if unsound > 0 {
        figures.trouble(format!(
            "{name}: {unsound} compressed streams lack events or are broken"
        ));
    }
}

const READERS: usize = 1_000;
const CHECKED_AT_ONCE: usize = 8;
const PACED_RATE: f64 = 50.0;
