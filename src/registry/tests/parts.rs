//! Large blobs in several ranges.

use std::sync::{Arc, Condvar, LazyLock};
use std::time::Instant;

use super::*;

const PART: usize = 8 << 20;
const PATIENCE: Duration = Duration::from_secs(5);

/// Three parts, each different from the others.
static LARGE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = Vec::new();
    for block in 0..=(2 * PART) >> 20 {
        bytes.resize(((block + 1) << 20).min(2 * PART + 12_345), block as u8);
    }
    bytes
});

/// A client that waits longer for these servers, which compute much before they answer.
fn patient() -> Client {
    Client::new(Options { timing: Timing { stall: 2 * PATIENCE, ..short_timing() }, ..Options::default() })
}

/// The ranges asked for of a server's blobs, in order of their start.
fn ranges(server: &Server) -> Vec<(usize, Option<usize>)> {
    let log = server.log();
    let mut ranges: Vec<_> =
        log.iter().filter(|r| r.target.contains("/blobs/")).filter_map(|r| Some((r.from()?, r.to()))).collect();
    ranges.sort_unstable();
    ranges
}

/// A server for an image with a large layer; `change` gets the requests for the layer and the answers to them.
fn large(change: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) -> (Server, Descriptor) {
    let image = hosted("linux/amd64", &LARGE);
    let layer = image.layer.clone();
    let server = Server::start(move |r| {
        let reply = image.answer(r);
        if r.target.contains(&image.layer.digest.to_string()) { change(r, reply) } else { reply }
    });
    (server, layer)
}

#[test]
fn large_blob_is_fetched_in_ranges_once_each() {
    let asked: Arc<(Mutex<usize>, Condvar)> = Arc::default();
    let (server, layer) = large({
        let asked = Arc::clone(&asked);
        move |r, reply| {
            if r.from() > Some(0) {
                // Both are answered when both have been asked for.
                let (count, changed) = &*asked;
                *count.lock().expect("lock") += 1;
                changed.notify_all();
                let waited = changed.wait_timeout_while(count.lock().expect("lock"), PATIENCE, |count| *count < 2);
                assert!(!waited.expect("lock").1.timed_out(), "one after the other");
            }
            reply
        }
    });
    let store = Memory::default();
    patient().pull(&name(&server), &amd64(), &store, 1).expect("pulled");
    assert!(store.0.lock().expect("lock")[&layer.digest] == *LARGE);
    let want: Vec<_> = (0..3).map(|n| (n * PART, (n < 2).then_some((n + 1) * PART))).collect();
    assert_eq!(ranges(&server), want);
}

#[test]
fn parts_go_on_where_their_connections_broke_s61() {
    let (server, layer) = large(|_, reply| {
        let cut = (reply.body.len() > 3 << 20).then_some(3 << 20);
        Reply { cut, ..reply }
    });
    let store = Memory::default();
    patient().pull(&name(&server), &amd64(), &store, 1).expect("pulled");
    assert!(store.0.lock().expect("lock")[&layer.digest] == *LARGE);
    let asked: Vec<usize> = ranges(&server).iter().map(|(from, _)| from % PART).collect();
    assert_eq!(asked, [[0, 3 << 20, 6 << 20].repeat(2), vec![0]].concat());
}

#[test]
fn server_without_ranges_sends_the_whole_once() {
    let (server, layer) = large(|_, _| Reply::new(200, LARGE.clone()));
    let store = Memory::default();
    patient().pull(&name(&server), &amd64(), &store, 1).expect("pulled");
    assert!(store.0.lock().expect("lock")[&layer.digest] == *LARGE);
    assert_eq!(server.count("GET", &layer.digest.to_string()), 1);
}

#[test]
fn server_that_refuses_ranges_is_asked_without() {
    let (server, layer) = large(|r, _| match r.from() {
        Some(_) => Reply::new(416, "no ranges"),
        None => Reply::new(200, LARGE.clone()),
    });
    let store = Memory::default();
    patient().pull(&name(&server), &amd64(), &store, 1).expect("pulled");
    assert_eq!(server.count("GET", &layer.digest.to_string()), 2);
}

#[test]
fn failed_part_fails_the_download_with_its_reason() {
    let (server, layer) = large(|r, reply| match r.from() {
        Some(from) if from >= PART => Reply::new(404, ""),
        _ => reply,
    });
    let store = Memory::default();
    let error = patient().pull(&name(&server), &amd64(), &store, 1).expect_err("a part is missing");
    assert!(matches!(&error, RegistryError::NotFound { .. }), "{error:?}");
    assert!(!store.has(&layer).expect("has"));
}

#[test]
fn wrong_byte_in_any_part_is_found_s50() {
    for wrong in 0..3 {
        let (server, layer) = large(move |r, mut reply| {
            if r.from() == Some(wrong * PART) {
                reply.body[77] ^= 1;
            }
            reply
        });
        let store = Memory::default();
        let error = patient().pull(&name(&server), &amd64(), &store, 1).expect_err("damaged").to_string();
        assert!(error.contains("digest mismatch"), "{error}");
        assert!(!store.has(&layer).expect("has"));
    }
}

#[test]
fn trickle_in_a_part_ends_s61() {
    let (server, _) = large(|r, reply| {
        let drip = r.from().is_some_and(|from| from >= PART).then_some(Duration::from_millis(50));
        Reply { drip, ..reply }
    });
    let started = Instant::now();
    let error = patient().pull(&name(&server), &amd64(), &Memory::default(), 1).expect_err("drips").to_string();
    assert!(error.contains("too slow: "), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}
