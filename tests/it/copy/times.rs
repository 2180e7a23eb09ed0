//! Test modification times of copied files and new directories (C-6, C-13).

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::support::TestEnv;

fn set_time(path: &Path, time: SystemTime) {
    File::open(path).and_then(|file| file.set_modified(time)).expect("set a time");
}

#[test]
fn copied_files_keep_times_and_new_directories_get_epoch() {
    // C-6, C-13
    let env = TestEnv::new();
    let context = env.context("-- d/f --\nf\n-- d/e/ --\n-- old --\no\n-- far --\nf\n");
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_750);
    set_time(&context.join("d/f"), at);
    set_time(&context.join("d/e"), at + Duration::from_secs(5));
    set_time(&context.join("old"), SystemTime::UNIX_EPOCH - Duration::from_secs(86_400));
    set_time(&context.join("far"), SystemTime::UNIX_EPOCH + Duration::from_secs(9_000_000_000));
    let (done, name) = super::build(&env, &context, "COPY d old far /made/n/", &[]);
    assert_eq!(done.code, 0, "{done}");
    let tree = env.image(&name).tree();
    let time = |path: &str| tree[path].mtime;
    assert_eq!((time("made"), time("made/n")), (Some(0), Some(0)));
    assert_eq!((time("made/n/f"), time("made/n/e")), (Some(1_000_000), Some(1_000_005)));
    assert_eq!((time("made/n/old"), time("made/n/far")), (Some(-86_400), Some(9_000_000_000)));
}
