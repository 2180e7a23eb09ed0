//! Layers that several stages and builds need at once are unpacked once.

use std::ffi::OsStr;
use std::fs;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::inotify;

use crate::support::TestEnv;

/// Counts the directories below `scratch` in which layers are unpacked, until `done`.
fn count_unpacked(scratch: &Path, done: &AtomicBool) -> usize {
    let watcher = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).expect("inotify");
    inotify::add_watch(&watcher, scratch, inotify::WatchFlags::CREATE).expect("watch scratch");
    let mut buffer = [MaybeUninit::uninit(); 16 << 10];
    let mut events = inotify::Reader::new(&watcher, &mut buffer);
    let mut unpacked = 0;
    loop {
        match events.next() {
            Ok(event) => {
                let name = OsStr::from_bytes(event.file_name().expect("a name").to_bytes()).to_owned();
                if name.as_bytes().starts_with(b"unpack-") {
                    unpacked += 1;
                } else {
                    // The scratch directory of a process, or something in one: then there is nothing of this name to watch.
                    let _ = inotify::add_watch(&watcher, scratch.join(&name), inotify::WatchFlags::CREATE);
                }
            }
            Err(rustix::io::Errno::AGAIN) if done.load(Ordering::Relaxed) => return unpacked,
            Err(rustix::io::Errno::AGAIN) => std::thread::sleep(Duration::from_millis(1)),
            Err(e) => panic!("inotify: {e}"),
        }
    }
}

#[test]
fn stages_of_two_builds_unpack_their_base_once() {
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let stages = (0..8).map(|n| format!("FROM busybox AS stage{n}\nRUN echo {n} > /made\n")).collect::<String>();
    let copies = (0..8).map(|n| format!("COPY --from=stage{n} /made /{n}\n")).collect::<String>();
    let context = env.context(&format!("-- Dockerfile --\n{stages}FROM scratch\n{copies}"));
    // What making the test's base image unpacked does not count.
    let layers = env.store().join("layers");
    fs::remove_dir_all(&layers).and_then(|()| fs::create_dir(&layers)).expect("empty the unpacked layers");
    let (scratch, done) = (env.store().join("scratch"), AtomicBool::new(false));
    let unpacked = std::thread::scope(|scope| {
        let counter = scope.spawn(|| count_unpacked(&scratch, &done));
        std::thread::sleep(Duration::from_millis(50));
        let builds = ["one", "two"].map(|name| env.build(&["--jobs", "8", "-t", name], &context).spawn());
        for build in builds {
            let out = build.wait_with_output().expect("wait for kiln");
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        }
        done.store(true, Ordering::Relaxed);
        counter.join().expect("the counter")
    });
    assert_eq!(unpacked, env.image("busybox").layers.len());
    assert_eq!(env.image("one").digest, env.image("two").digest);
}
