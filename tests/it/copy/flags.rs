//! Test every flag of COPY and ADD on every kind of source: it takes effect or is an error (N-8).

use std::fs;

use super::add::sh;
use super::{check_in, refuse_in};
use crate::support::TestEnv;

#[test]
fn copy_flags_apply_to_every_kind_of_source() {
    let env = TestEnv::new();
    let context = env.context("-- f 0640 --\nf\n-- d/x 0640 --\nx\n-- d/s/y 0600 --\ny\n-- in/e/z 0640 --\nz\n");
    fs::write(context.join("d/s/y"), "y").expect("write");
    sh(&context, "tar --owner=a:11 --group=b:12 --numeric-owner -C in -cf a.tar e");
    check_in(
        &env,
        &context,
        &[
            // --chown
            ("file", "COPY --chown=5:6 f /n/f", &["n/ 0755 5:6", "n/f 0640 5:6 \"f\""]),
            ("heredoc", "COPY --chown=5:6 <<E /n/\nh\nE", &["n/ 0755 5:6", "n/E 0644 5:6 \"h\""]),
            ("archive", "ADD --chown=5:6 a.tar /n", &["n/ 0755 5:6", "n/e/ 0755 5:6", "n/e/z 0640 5:6 \"z\""]),
            (
                "stage",
                "COPY f /f\nFROM scratch\nCOPY --from=0 --chown=5:6 f /n/",
                &["n/ 0755 5:6", "n/f 0640 5:6 \"f\""],
            ),
            // --chmod
            ("file", "COPY --chmod=750 f /n/f", &["n/ 0750", "n/f 0750 \"f\""]),
            ("directory", "COPY --chmod=o=g d/s /n/m", &["n/ 0755", "n/m/ 0755", "n/m/y 0600 \"y\""]),
            ("directory", "COPY --chmod=711 d/s /n/m/", &["n/ 0711", "n/m/ 0711", "n/m/y 0711 \"y\""]),
            ("heredoc", "COPY --chmod=700 <<E /n/\nh\nE", &["n/ 0700", "n/E 0700 \"h\""]),
            ("archive", "ADD --chmod=700 a.tar /n/", &["n/ 0700", "n/e/ 0700 11:12", "n/e/z 0700 11:12 \"z\""]),
            ("archive", "ADD --chmod=+x a.tar /", &["e/ 0755 11:12", "e/z 0751 11:12 \"z\""]),
            ("stage", "COPY f /f\nFROM scratch\nCOPY --from=0 --chmod=700 f /n/", &["n/ 0700", "n/f 0700 \"f\""]),
            ("linked", "COPY --link --chmod=700 --chown=5 f /n/f", &["n/ 0700 5:5", "n/f 0700 5:5 \"f\""]),
            (
                "parents",
                "COPY --parents --chmod=700 d/s/y /n/",
                &["n/ 0700", "n/d/ 0700", "n/d/s/ 0700", "n/d/s/y 0700 \"y\""],
            ),
            // --exclude
            ("file", "COPY --exclude=f f d/x /n/", &["n/ 0755", "n/x 0640 \"x\""]),
            ("directory", "COPY --exclude=s d /n/", &["n/ 0755", "n/x 0640 \"x\""]),
            ("heredoc", "COPY --exclude=E <<E <<F /n/\nh\nE\ni\nF", &["n/ 0755", "n/F 0644 \"i\""]),
            ("archive", "ADD --exclude=e/* a.tar /", &["e/ 0755 11:12"]),
            ("archive", "ADD --exclude=e --exclude=!e/z a.tar /", &["e/ 0755", "e/z 0640 11:12 \"z\""]),
            (
                "stage",
                "COPY d /d\nFROM scratch\nCOPY --from=0 --exclude=*/y d /n/",
                &["n/ 0755", "n/s/ 0755", "n/x 0640 \"x\""],
            ),
        ],
    );
    refuse_in(
        &env,
        &context,
        &[
            ("file", "ADD --keep-git-dir f /", &["--keep-git-dir applies only to git repositories"]),
            ("heredoc", "COPY f /f\nFROM scratch\nCOPY --from=0 <<E /\nh\nE", &["--from applies only to paths"]),
            ("file", "ADD --checksum=sha256:00 f /", &["--checksum applies only to URLs and git repositories"]),
            ("linked", "COPY --link --chown=app f /", &["cannot look up owner \"app\" for a linked layer"]),
        ],
    );
}
