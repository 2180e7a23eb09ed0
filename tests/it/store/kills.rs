//! Test that builds, prunes and saves killed at any moment lose nothing and leave nothing behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::random::{Random, seeds};
use crate::support::{Image, TestEnv};

/// Long enough that a build of it can be killed while its bytes are written.
const LEN: usize = 3 << 20;

/// Incompressible bytes.
fn noise(random: &mut Random) -> Vec<u8> {
    (0..LEN).map(|_| random.below(256) as u8).collect()
}

/// A build of which each step writes these bytes again.
fn context(env: &TestEnv, seed: u64, random: &mut Random) -> PathBuf {
    let context = env.context(&format!(
        "-- Dockerfile --\nFROM busybox AS first\nCOPY noise /noise\nRUN cp /noise /again && echo {seed}\n\
         RUN sleep 0.05 && rm /noise\nFROM busybox\nCOPY --from=first /again /third\n"
    ));
    fs::write(context.join("noise"), noise(random)).expect("write");
    context
}

/// Builds the context as `app`; equal contexts give equal images.
fn build<'e>(env: &'e TestEnv, context: &Path) -> crate::support::env::Kiln<'e> {
    env.build(&["-q", "-t", "app"], context).env("SOURCE_DATE_EPOCH", "1000000000")
}

/// How many milliseconds a build takes that nobody kills.
fn time_of_build(env: &TestEnv, seed: u64) -> usize {
    let context = context(env, seed, &mut Random::new(seed));
    let started = Instant::now();
    build(env, &context).ok();
    started.elapsed().as_millis() as usize
}

/// Builds something else until nothing of the killed build is left.
fn sweep(env: &TestEnv, seed: u64) {
    let started = Instant::now();
    let other = env.context("-- Dockerfile --\nFROM busybox\nRUN true\n");
    // Files of subordinate ids can be swept only by a build.
    env.build(&["--no-cache"], &other).ok();
    while fs::read_dir(env.store().join("scratch")).expect("scratch").next().is_some() {
        assert!(started.elapsed() < Duration::from_secs(10), "seed {seed}: scratch is not swept");
        env.build(&["--no-cache"], &other).ok();
    }
    env.assert_swept();
    env.kiln(&["fsck"]).ok().says("no damage");
}

/// Kills a prune or a save at some moment. What was to be saved is there as a whole, or not at all.
fn kill_another(env: &TestEnv, random: &mut Random, seed: u64) {
    let saved = env.dir().join(format!("saved-{seed}.tar"));
    let save = ["save", "-o", saved.to_str().expect("UTF-8"), "busybox"];
    let mut child = match seed % 2 {
        0 => env.kiln(&["prune"]).spawn(),
        _ => env.kiln(&save).spawn(),
    };
    std::thread::sleep(Duration::from_millis(random.below(60) as u64));
    child.kill().expect("kill");
    child.wait().expect("wait");
    if saved.exists() {
        env.kiln(&["load", "-i", save[2]]).ok();
        fs::remove_file(saved).expect("remove");
    }
    sweep(env, seed);
}

#[test]
fn killed_builds_leave_whole_images_and_no_scratch() {
    // S-82
    requires!(userns, overlay, skopeo);
    let env = TestEnv::with_busybox();
    let (mut killed, mut all) = (0, 0);
    let usual = (0..3).map(|n| time_of_build(&env, u64::MAX - n)).min().expect("three of them");
    for seed in seeds(16) {
        let mut random = Random::new(seed);
        let context = context(&env, seed, &mut random);
        let mut child = build(&env, &context).spawn();
        std::thread::sleep(Duration::from_millis(random.below(usual) as u64));
        all += 1;
        killed += u32::from(child.try_wait().expect("wait").is_none());
        child.kill().expect("kill");
        child.wait().expect("wait");
        sweep(&env, seed);
        kill_another(&env, &mut random, seed);
        // Every name leads to a whole image: opening it verifies each blob.
        for name in Image::names(&env.store()) {
            env.image(&name).tree();
        }
        // What the killed build has stored is what a build that nobody kills stores.
        let got = build(&env, &context).ok().stdout;
        if seed % 4 == 0 {
            let undisturbed = TestEnv::with_busybox();
            assert_eq!(got, build(&undisturbed, &context).ok().stdout, "seed {seed}");
        }
    }
    assert!(killed * 4 > all, "only {killed} of {all} builds were still running when they were killed");
    env.image("busybox").skopeo_check();
    env.kiln(&["prune"]).ok();
    sweep(&env, 0);
}
