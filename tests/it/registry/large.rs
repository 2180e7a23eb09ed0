//! Test that a layer of any size is pushed and pulled with little memory.

use std::fs::File;

use crate::support::{Registry, TestEnv};

/// The most memory that a transfer may need, in KiB.
const MOST: u64 = 128 << 10;

/// Runs its arguments; the last line on standard error is the largest resident set in KiB.
const MEASURE: &str = "import os, sys; pid = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:]); \
    _, status, usage = os.wait4(pid, 0); print('peak', usage.ru_maxrss, file=sys.stderr); \
    sys.exit(os.waitstatus_to_exitcode(status))";

/// What it printed.
fn peak(stderr: &str) -> u64 {
    let line = stderr.lines().last().unwrap_or_default();
    line.strip_prefix("peak ").and_then(|number| number.parse().ok()).expect("the peak")
}

#[test]
fn large_layer_is_pushed_and_pulled_with_little_memory() {
    // O-61
    requires!(docker_registry, python3);
    // `scripts/soak large` moves ten times as much.
    let size: u64 = if std::env::var_os("KILN_SOAK").is_some() { 5 << 30 } else { 512 << 20 };
    let (env, registry) = (TestEnv::new(), Registry::start());
    let name = registry.name("app:1");
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY data /data\n");
    File::create(context.join("data")).and_then(|file| file.set_len(size)).expect("a sparse file");
    env.build(&["--compression", "uncompressed", "-t", &name], &context).ok();
    let blobs = std::fs::read_dir(env.store().join("blobs/sha256")).expect("list").flatten();
    let largest = blobs.filter_map(|blob| Some(blob.metadata().ok()?.len())).max();
    assert!(largest > Some(size), "the blob has the size of its content: {largest:?}");
    let pushed = env.wrapped(&["python3", "-c", MEASURE], &["push", &name]).ok();
    let other = TestEnv::new();
    let pulled = other.wrapped(&["python3", "-c", MEASURE], &["pull", &name]).ok();
    for (done, what) in [(&pushed, "push"), (&pulled, "pull")] {
        let peak = peak(&done.stderr);
        eprintln!("{what}: {} MiB in {:?}, at most {} MiB of memory", size >> 20, done.took, peak >> 10);
        assert!(peak < MOST, "{what}: {peak} KiB\n{done}");
    }
}
