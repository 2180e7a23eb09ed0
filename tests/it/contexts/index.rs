//! Test which context files are re-read after an edit: unchanged ones are not, possibly changed ones are (S-93).

use std::fs::{self, File, FileTimes};
use std::mem::MaybeUninit;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use crate::support::TestEnv;

/// Whether `file` was read while `work` ran.
fn reads(file: &Path, work: impl FnOnce()) -> bool {
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).expect("inotify");
    inotify::add_watch(&watch, file, WatchFlags::ACCESS).expect("watch");
    work();
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let event =
        inotify::Reader::new(&watch, &mut buffer).next().map(|event| event.events().contains(ReadFlags::ACCESS));
    event.unwrap_or(false)
}

/// Writes `text` and sets the modification time to `time`.
fn write(file: &Path, text: &str, time: SystemTime) {
    fs::write(file, text).expect("write");
    let open = File::options().write(true).open(file).expect("open");
    open.set_times(FileTimes::new().set_modified(time)).expect("set times");
}

/// Waits longer than the granularity of file times.
fn let_time_pass() {
    std::thread::sleep(Duration::from_millis(120));
}

#[test]
fn context_files_are_reread_only_if_possibly_changed() {
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY f sub/g /\n-- f --\n-- sub/g --\nother\n");
    let file = context.join("f");
    let build = || drop(env.build(&["-t", "app"], &context).ok());
    let read = || reads(&file, build);
    let holds = |text: &str| assert_eq!(env.image("app").content("f"), text.as_bytes());
    let past = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
    write(&file, "one", past);
    let_time_pass();
    assert!(read(), "it is new");
    holds("one");
    assert!(!read(), "nothing changed");
    // Other content of the same length and modification time in the same file: only the change time differs.
    write(&file, "two", past);
    let_time_pass();
    assert!(read(), "it changed, and its size and time did not");
    holds("two");
    assert!(!read());
    // Another file with the same name, time and length.
    write(&context.join("new"), "six", past);
    fs::rename(context.join("new"), &file).expect("rename");
    let_time_pass();
    assert!(read(), "it is another file");
    holds("six");
    assert!(!read());
    // A time in the future proves nothing: a later write may keep it.
    let future = SystemTime::now() + Duration::from_secs(3600);
    write(&file, "ten", future);
    let_time_pass();
    assert!(read());
    assert!(read(), "a file with a time in the future must be read again");
    holds("ten");
    // A damaged index is ignored.
    write(&file, "one", past);
    let_time_pass();
    build();
    assert!(!read());
    for index in fs::read_dir(env.store().join("context")).expect("list") {
        let path = index.expect("entry").path();
        let mut bytes = fs::read(&path).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).expect("write");
    }
    assert!(read(), "the index is damaged");
    holds("one");
}

#[test]
fn build_fails_if_file_changes_between_key_and_layer() {
    // S-93
    requires!(userns, overlay);
    let env = TestEnv::with_busybox();
    let past = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
    for (number, (after, time)) in
        [("new!", past), ("new!", SystemTime::now() + Duration::from_secs(3600)), ("longer", past), ("", past)]
            .into_iter()
            .enumerate()
    {
        // The key of the COPY is computed before anything runs, its layer after the RUN has ended.
        let run = format!(
            "RUN --mount=type=cache,target=/c touch /c/{number} && while [ -e /c/{number} ]; do sleep 0.05; done"
        );
        let dockerfile = format!(
            "FROM busybox AS slow\n{run}\nFROM busybox AS files\nCOPY f /\nFROM files\nCOPY --from=slow /etc/passwd /p"
        );
        let context = env.context(&format!("-- Dockerfile --\n{dockerfile}\n-- f --\n"));
        let (file, old) = (context.join("f"), format!("old{number}"));
        write(&file, &old, time);
        let_time_pass();
        let child = env.build(&["-t", "app", "--jobs", "1"], &context).spawn();
        let mark = loop {
            let caches = fs::read_dir(env.store().join("mounts")).into_iter().flatten().flatten();
            let mut marks = caches.map(|cache| cache.path().join(format!("0/data/{number}")));
            match marks.find(|mark| mark.exists()) {
                Some(mark) => break mark,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        write(&file, after, time);
        fs::remove_file(mark).expect("remove");
        let done = child.wait_with_output().expect("wait");
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{after:?} of {time:?}\n{said}");
        assert!(said.contains("f changed while it was being read"), "{said}");
        env.assert_swept();
        // The failed build left no result for the old content.
        write(&file, &old, time);
        let_time_pass();
        fs::write(context.join("Dockerfile"), "FROM busybox\nCOPY f /\n").expect("write");
        env.build(&["-t", "app"], &context).ok();
        assert_eq!(env.image("app").content("f"), old.as_bytes());
    }
}
