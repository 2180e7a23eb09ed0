//! Finds processes by an argument, and waits for their end.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Long enough for a busy machine to end a process, and shorter than the sleeps that tests start.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pids of processes that have this argument.
pub fn with(argument: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").expect("list /proc").flatten();
    let pids = pids.filter_map(|process| process.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|b| *b == 0).any(|arg| arg == argument.as_bytes())
    })
    .collect()
}

/// Waits until all these processes have ended; then they hold no file or lock.
#[track_caller]
pub fn until_ended(pids: &[u32]) {
    let began = Instant::now();
    // An ending process loses its arguments before it closes its files, so wait for the pids.
    while let Some(pid) = pids.iter().find(|pid| !has_ended(**pid)) {
        assert!(began.elapsed() < PATIENCE, "process {pid} has not ended");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the process is gone or a zombie: process 1 of a container may not reap orphans.
fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|state| state.is_empty() || state.starts_with(['Z', 'X']))
}
