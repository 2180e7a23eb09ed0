//! The examples at the foot of every command's help. A test parses each of them.

/// `kiln`.
pub(super) const KILN: &str = "\
Examples:
  kiln build -t app:1.0 .
  kiln run -it app:1.0 sh";

/// `kiln --help`.
pub(super) const KILN_LONG: &str = "\
Examples:
  kiln build -t app:1.0 .
  kiln run -it app:1.0 sh
  kiln save -o app.tar app:1.0

Exit codes:
  0    success
  1    the build failed: Dockerfile, context, image or command
  2    the command line is wrong
  3    the host lacks something, which the message names
  101  a bug in kiln
  130  interrupted

kiln run exits with the status of its command; 125, 126 and 127 mean that the command did not start.
Run kiln COMMAND --help for the options of a command.";

/// `kiln build`.
pub(super) const BUILD: &str = "\
Examples:
  kiln build -t app:1.0 .
  kiln build --target test --build-arg VERSION=1.0 .
  kiln build -o type=oci,dest=app.tar https://example.com/app.git#main";

/// `kiln check`.
pub(super) const CHECK: &str = "\
Examples:
  kiln check
  kiln check --outline --target test .
  kiln check --format json -f app.Dockerfile .";

/// `kiln run`.
pub(super) const RUN: &str = "\
Examples:
  kiln run -it app:1.0 sh
  kiln run -e PORT=8080 -p 8080:8080 app:1.0
  kiln run -v ./data:/data:ro app:1.0 ls /data";

/// `kiln diff`.
pub(super) const DIFF: &str = "\
Examples:
  kiln diff app:1.0 app:1.1
  kiln diff --ignore mtime --exit-code app:1.0 app:1.1
  kiln diff app:1.0 ./rootfs";

/// `kiln images`.
pub(super) const IMAGES: &str = "\
Examples:
  kiln images
  kiln images --filter dangling=true --quiet
  kiln images --format '{{.Repository}}:{{.Tag}}' app";

/// `kiln inspect`.
pub(super) const INSPECT: &str = "\
Examples:
  kiln inspect app:1.0
  kiln inspect --format '{{json .Config.Env}}' app:1.0";

/// `kiln history`.
pub(super) const HISTORY: &str = "\
Examples:
  kiln history app:1.0
  kiln history --no-trunc --format json app:1.0";

/// `kiln tag`.
pub(super) const TAG: &str = "\
Examples:
  kiln tag app:1.0 app:latest
  kiln tag app:1.0 registry.example.com/team/app:1.0";

/// `kiln rmi`.
pub(super) const RMI: &str = "\
Examples:
  kiln rmi app:1.0
  kiln rmi --force 3f9a1c2b";

/// `kiln import`.
pub(super) const IMPORT: &str = "\
Examples:
  kiln import rootfs.tar base
  kiln import --change 'CMD [\"/bin/sh\"]' ./rootfs base:1.0
  tar -c -C rootfs . | kiln import - base";

/// `kiln pull`.
pub(super) const PULL: &str = "\
Examples:
  kiln pull alpine:3.20
  kiln pull --platform linux/arm64 ghcr.io/team/app:1.0
  kiln pull --all-platforms ghcr.io/team/app:1.0";

/// `kiln push`.
pub(super) const PUSH: &str = "\
Examples:
  kiln push registry.example.com/team/app:1.0
  kiln push --all-tags localhost:5000/app
  kiln push --digestfile app.digest registry.example.com/team/app:1.0";

/// `kiln manifest`.
pub(super) const MANIFEST: &str = "\
Examples:
  kiln manifest create registry.example.com/app:1.0 registry.example.com/app:1.0-amd64 registry.example.com/app:1.0-arm64
  kiln manifest push registry.example.com/app:1.0";

/// `kiln manifest create`.
pub(super) const MANIFEST_CREATE: &str = "\
Examples:
  kiln manifest create registry.example.com/app:1.0 registry.example.com/app:1.0-amd64
  kiln manifest create --amend registry.example.com/app:1.0 docker://registry.example.com/app:1.0-arm64";

/// `kiln manifest annotate`.
pub(super) const MANIFEST_ANNOTATE: &str = "\
Examples:
  kiln manifest annotate --arch arm --variant v7 app:1.0 app:1.0-arm
  kiln manifest annotate --annotation org.opencontainers.image.version=1.0 app:1.0 3f9a1c2b";

/// `kiln manifest inspect`.
pub(super) const MANIFEST_INSPECT: &str = "\
Examples:
  kiln manifest inspect app:1.0
  kiln manifest inspect --verbose docker://registry.example.com/app:1.0";

/// `kiln manifest push`.
pub(super) const MANIFEST_PUSH: &str = "\
Examples:
  kiln manifest push registry.example.com/app:1.0
  kiln manifest push --purge app:1.0 docker://registry.example.com/app:1.0";

/// `kiln manifest remove`.
pub(super) const MANIFEST_REMOVE: &str = "\
Examples:
  kiln manifest remove app:1.0 app:1.0-arm64
  kiln manifest remove app:1.0 3f9a1c2b";

/// `kiln manifest rm`.
pub(super) const MANIFEST_RM: &str = "\
Examples:
  kiln manifest rm app:1.0
  kiln manifest rm app:1.0 app:1.1";

/// `kiln imagetools`.
pub(super) const IMAGETOOLS: &str = "\
Examples:
  kiln imagetools create -t registry.example.com/app:1.0 registry.example.com/app:1.0-amd64 registry.example.com/app:1.0-arm64
  kiln imagetools inspect registry.example.com/app:1.0";

/// `kiln imagetools create`.
pub(super) const IMAGETOOLS_CREATE: &str = "\
Examples:
  kiln imagetools create -t registry.example.com/app:1.0 registry.example.com/app:1.0-amd64
  kiln imagetools create --append -t registry.example.com/app:1.0 registry.example.com/app:1.0-arm64
  kiln imagetools create -t registry.example.com/app:latest registry.example.com/app:1.0";

/// `kiln imagetools inspect`.
pub(super) const IMAGETOOLS_INSPECT: &str = "\
Examples:
  kiln imagetools inspect registry.example.com/app:1.0
  kiln imagetools inspect --format '{{.Manifest.Digest}}' registry.example.com/app:1.0";

/// `kiln login`.
pub(super) const LOGIN: &str = "\
Examples:
  kiln login registry.example.com
  kiln login --username ci --password-stdin registry.example.com < token";

/// `kiln logout`.
pub(super) const LOGOUT: &str = "\
Examples:
  kiln logout registry.example.com
  kiln logout --authfile ./auth.json registry.example.com";

/// `kiln load`.
pub(super) const LOAD: &str = "\
Examples:
  kiln load -i app.tar
  docker save app:1.0 | kiln load";

/// `kiln save`.
pub(super) const SAVE: &str = "\
Examples:
  kiln save -o app.tar app:1.0
  kiln save --format docker app:1.0 | docker load";

/// `kiln export`.
pub(super) const EXPORT: &str = "\
Examples:
  kiln export -o rootfs.tar app:1.0
  kiln export app:1.0 | tar -t";

/// `kiln cache`.
pub(super) const CACHE: &str = "\
Examples:
  kiln cache ls
  kiln cache prune --keep-storage 10g
  kiln cache mounts export -o mounts.tar";

/// `kiln cache explain`.
pub(super) const CACHE_EXPLAIN: &str = "\
Examples:
  kiln cache explain .
  kiln cache explain --target test --build-arg VERSION=2 .
  kiln cache explain --cache-from registry.example.com/app/cache .";

/// `kiln cache ls`.
pub(super) const CACHE_LS: &str = "\
Examples:
  kiln cache ls
  kiln cache ls --format json";

/// `kiln cache prune`.
pub(super) const CACHE_PRUNE: &str = "\
Examples:
  kiln cache prune
  kiln cache prune --keep-storage 10g
  kiln cache prune --all --dry-run";

/// `kiln cache mounts`.
pub(super) const MOUNTS: &str = "\
Examples:
  kiln cache mounts ls
  kiln cache mounts export -o mounts.tar
  kiln cache mounts import mounts.tar";

/// `kiln cache mounts ls`.
pub(super) const MOUNTS_LS: &str = "\
Examples:
  kiln cache mounts ls
  kiln cache mounts ls --format json";

/// `kiln cache mounts export`.
pub(super) const MOUNTS_EXPORT: &str = "\
Examples:
  kiln cache mounts export -o mounts.tar
  kiln cache mounts export /root/.cache > mounts.tar";

/// `kiln cache mounts import`.
pub(super) const MOUNTS_IMPORT: &str = "\
Examples:
  kiln cache mounts import mounts.tar
  kiln cache mounts import - < mounts.tar";

/// `kiln cache mounts rm`.
pub(super) const MOUNTS_RM: &str = "\
Examples:
  kiln cache mounts rm /root/.cache
  kiln cache mounts rm --all";

/// `kiln prune`.
pub(super) const PRUNE: &str = "\
Examples:
  kiln prune
  kiln prune --all --keep-storage 10g --filter until=24h
  kiln prune --dry-run --format json";

/// `kiln du`.
pub(super) const DU: &str = "\
Examples:
  kiln du
  kiln du --format json";

/// `kiln fsck`.
pub(super) const FSCK: &str = "\
Examples:
  kiln fsck
  kiln fsck --repair
  kiln fsck --format json";

/// `kiln doctor`.
pub(super) const DOCTOR: &str = "\
Examples:
  kiln doctor
  kiln doctor --format json";

/// `kiln info`.
pub(super) const INFO: &str = "\
Examples:
  kiln info
  kiln info --format json";

/// `kiln version`.
pub(super) const VERSION: &str = "\
Examples:
  kiln version
  kiln version --format json";

/// `kiln completions`.
pub(super) const COMPLETIONS: &str = "\
Examples:
  kiln completions bash > /etc/bash_completion.d/kiln
  kiln completions zsh > ~/.zfunc/_kiln";
