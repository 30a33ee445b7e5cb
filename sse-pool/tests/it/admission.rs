use std::{
    net::IpAddr,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use sse_pool::{Limits, Pool, PoolConfig, Refusal, Selector, Start};

use crate::support::*;

fn pool(max_connections: usize, max_connections_per_ip: usize) -> Pool<u64> {
    let limits = Limits {
        max_connections,
        max_connections_per_ip,
        ..config(1).limits
    };
    Pool::new(PoolConfig {
        limits,
        ..config(1)
    })
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_full_pool_refuses_and_a_dropped_permit_makes_room() {
    let pool = pool(2, 2);
    let (one, _two) = (
        pool.admit(ip("192.0.2.1")).unwrap(),
        pool.admit(ip("192.0.2.2")).unwrap(),
    );
    assert_eq!(pool.admit(ip("192.0.2.3")).unwrap_err(), Refusal::Full);
    drop(one);
    let _three = pool.admit(ip("192.0.2.3")).unwrap();
    let stats = pool.stats();
    assert_eq!(
        (stats.active, stats.peak, stats.accepted, stats.refused_full),
        (2, 2, 3, 1)
    );
}

#[test]
fn an_address_has_its_share_and_others_theirs() {
    let pool = pool(10, 1);
    let first = pool.admit(ip("192.0.2.1")).unwrap();
    assert_eq!(
        pool.admit(ip("192.0.2.1")).unwrap_err(),
        Refusal::TooManyFromAddress
    );
    let _other = pool.admit(ip("192.0.2.2")).unwrap();
    drop(first);
    let _again = pool.admit(ip("192.0.2.1")).unwrap();
    assert_eq!(pool.stats().refused_address, 1);
}

#[test]
fn an_ipv4_mapped_address_is_the_ipv4_address() {
    let pool = pool(10, 1);
    let _plain = pool.admit(ip("192.0.2.1")).unwrap();
    assert_eq!(
        pool.admit(ip("::ffff:192.0.2.1")).unwrap_err(),
        Refusal::TooManyFromAddress
    );
    assert!(
        pool.admit(ip("::ffff:192.0.2.2")).is_ok(),
        "not one /64 for all of IPv4"
    );
}

#[test]
fn an_ipv6_client_is_its_64() {
    let pool = pool(10, 1);
    let _first = pool.admit(ip("2001:db8:0:1::1")).unwrap();
    let same = pool.admit(ip("2001:db8:0:1:ffff::2"));
    assert_eq!(same.unwrap_err(), Refusal::TooManyFromAddress);
    assert!(pool.admit(ip("2001:db8:0:2::1")).is_ok());
}

#[test]
fn a_connections_place_comes_back_when_it_is_dropped() {
    let pool = pool(1, 1);
    let reader = Client::connect(&pool, "r", Selector::all(), Start::Live);
    assert_eq!(pool.admit(LOCAL).unwrap_err(), Refusal::Full);
    drop(reader);
    assert!(pool.admit(LOCAL).is_ok());
}

#[test]
fn a_limit_of_nothing_admits_nobody() {
    assert_eq!(pool(0, 10).admit(LOCAL).unwrap_err(), Refusal::Full);
    assert_eq!(
        pool(10, 0).admit(LOCAL).unwrap_err(),
        Refusal::TooManyFromAddress
    );
}

#[test]
fn the_limit_is_never_exceeded_however_many_ask_at_once() {
    const LIMIT: usize = 7;
    let pool = pool(LIMIT, LIMIT);
    let (inside, most, barrier) = (AtomicUsize::new(0), AtomicUsize::new(0), Barrier::new(8));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..2_000 {
                    let permits: Vec<_> = (0..2).flat_map(|_| pool.admit(LOCAL)).collect();
                    let now = inside.fetch_add(permits.len(), SeqCst) + permits.len();
                    most.fetch_max(now, SeqCst);
                    inside.fetch_sub(permits.len(), SeqCst);
                    drop(permits);
                }
            });
        }
    });
    assert!(most.load(SeqCst) <= LIMIT);
    let stats = pool.stats();
    assert_eq!(stats.active, 0);
    assert!(stats.peak <= LIMIT);
    assert_eq!(
        stats.accepted + stats.refused_full + stats.refused_address,
        8 * 2_000 * 2
    );
}
