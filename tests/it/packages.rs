//! Test package managers and similar tools in a `RUN`: files of other users, setuid bits, dropped privileges and
//! thousands of small files. The tests build their packages themselves and need no network.
//!
//! `npm ci`, `pip install` from wheels and `apt-get install` from a mirror are in `apps`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::TestEnv;

#[test]
fn apt_get_installs_packages_that_make_system_users() {
    // R-5, S-80: apt-get downloads as the user _apt, and package scripts call adduser and chown.
    requires!(userns, overlay);
    let env = TestEnv::with("debian");
    let context = env.context(
        r#"
-- Dockerfile --
FROM debian AS packages
COPY --chown=0:0 . /src
WORKDIR /repo
RUN for name in greeter-common greeter; do dpkg-deb --build --root-owner-group /src/$name .; done
# What dpkg-scanpackages writes.
RUN for deb in *.deb; do \
        dpkg-deb --field $deb; echo "Filename: ./$deb"; echo "Size: $(stat -c %s $deb)"; \
        echo "SHA256: $(sha256sum $deb | cut -d' ' -f1)"; echo; \
    done > Packages

FROM debian AS file
COPY --from=packages /repo/greeter-common*.deb /tmp/
RUN rm -f /etc/apt/sources.list /etc/apt/sources.list.d/* && apt-get install -y /tmp/greeter-common_1.0_all.deb
RUN dpkg --remove greeter-common && dpkg --purge greeter-common && ! test -e /var/lib/greeter-log

FROM debian
ENV DEBIAN_FRONTEND=noninteractive
RUN rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
COPY --from=packages /repo /repo
RUN echo 'deb [trusted=yes] copy:/repo ./' > /etc/apt/sources.list.d/local.list
RUN apt-get update
RUN apt-get install -y greeter
RUN apt-get clean && rm -rf /var/lib/apt/lists/* && dpkg --audit
RUN su -s /bin/sh -c 'greet' greeter && setpriv --reuid 601 --regid 777 --init-groups greet
USER greeter
RUN greet && ! touch /var/lib/greeter-log/no 2>/dev/null
-- greeter-common/DEBIAN/control --
Package: greeter-common
Version: 1.0
Architecture: all
Maintainer: Nobody <nobody@example.org>
Description: what greeter needs
-- greeter-common/DEBIAN/postinst 0755 --
#!/bin/sh
set -e
getent group greeter-log >/dev/null || groupadd --system --gid 777 greeter-log
install -d -o root -g greeter-log -m 2750 /var/lib/greeter-log
-- greeter-common/DEBIAN/postrm 0755 --
#!/bin/sh
set -e
if [ "$1" = purge ]; then rm -rf /var/lib/greeter-log; groupdel greeter-log; fi
-- greeter-common/etc/greeting --
hello
-- greeter-common/DEBIAN/conffiles --
/etc/greeting
-- greeter/DEBIAN/control --
Package: greeter
Version: 2:1.0-1
Architecture: all
Maintainer: Nobody <nobody@example.org>
Pre-Depends: greeter-common (>= 1.0)
Depends: adduser
Description: says hello
-- greeter/DEBIAN/preinst 0755 --
#!/bin/sh
set -e
adduser --system --uid 601 --ingroup greeter-log --home /var/lib/greeter --quiet greeter
-- greeter/DEBIAN/postinst 0755 --
#!/bin/sh
set -e
install -d -o greeter -g greeter-log -m 0700 /var/lib/greeter/state
su -s /bin/sh -c 'echo 1 > /var/lib/greeter/state/count' greeter
chown greeter:greeter-log /usr/bin/greet-count
chmod 6755 /usr/bin/greet-count
update-alternatives --install /usr/bin/greet greet /usr/bin/greet-count 10
-- greeter/usr/bin/greet-count 0755 --
#!/bin/sh
echo "$(cat /etc/greeting) from $(id -un):$(id -gn), $(cat /var/lib/greeter/state/count)"
"#,
    );
    let done = env.build(&["-t", "app"], &context).ok();
    // Without setgroups, chown and seteuid, apt-get would only warn.
    done.never_says("unsandboxed").never_says("W: ").never_says("dpkg: error");
    assert_eq!(done.stderr.matches("hello from greeter:greeter-log, 1").count(), 3, "{done}");
    let image = env.image("app");
    let passwd = String::from_utf8(image.content("etc/passwd")).unwrap();
    assert!(passwd.contains("\ngreeter:x:601:777:"), "{passwd}");
    let tree = image.tree();
    for (path, mode, uid, gid) in [
        ("var/lib/greeter/state", 0o700, 601, 777),
        ("var/lib/greeter/state/count", 0o644, 601, 777),
        ("usr/bin/greet-count", 0o6755, 601, 777),
        ("var/lib/greeter-log", 0o2750, 0, 777),
        ("var/cache/apt/archives/partial", 0o700, 42, 0),
    ] {
        let node = &tree[path];
        assert_eq!((node.mode, node.uid, node.gid), (mode, uid, gid), "{path}");
    }
    env.build(&["-t", "file", "--target", "file"], &context).ok().never_says("W: ");
    assert!(!env.image("file").tree().has("etc/greeting"));
}

#[test]
fn pip_installs_from_source_globally_and_per_user() {
    requires!(userns, overlay);
    let env = TestEnv::with("python");
    let context = env.context(
        "
-- Dockerfile --
FROM python AS sources
COPY shout /src
WORKDIR /src
RUN python setup.py -q sdist -d /sdist && ls /sdist

FROM python
RUN --mount=type=bind,from=sources,source=/sdist,target=/sdist --mount=type=cache,target=/root/.cache/pip \\
    pip install --no-index --no-build-isolation /sdist/shout-1.0.tar.gz
RUN shout hello && useradd --create-home --uid 1234 app
USER app
RUN --mount=type=bind,from=sources,source=/sdist,target=/sdist \\
    pip install --user --no-cache-dir --ignore-installed --no-index --no-build-isolation --no-warn-script-location \\
        /sdist/shout-1.0.tar.gz && ~/.local/bin/shout again
RUN pip uninstall --yes shout && ! test -e ~/.local/bin/shout
-- shout/setup.py --
from setuptools import setup
setup(name='shout', version='1.0', py_modules=['shout'], entry_points={'console_scripts': ['shout = shout:main']})
-- shout/shout.py --
import sys
def main():
    print(sys.argv[1].upper() + '!')
",
    );
    let done = env.build(&["-t", "app"], &context).ok();
    done.says("HELLO!").says("AGAIN!").says("Successfully uninstalled shout-1.0");
    let tree = env.image("app").tree();
    assert_eq!(tree["home/app/.local"].uid, 1234);
    let installed = tree.names().into_iter().filter(|path| path.ends_with("dist-packages/shout.py")).count();
    assert_eq!(installed, 1, "{tree}");
    assert!(!tree.has("sdist"), "a mount appears in no layer");
}

#[test]
fn archives_keep_the_owners_and_modes_they_name() {
    // R-13, S-37
    requires!(userns, overlay);
    let env = TestEnv::with("debian");
    let context = env.context(
        "
-- Dockerfile --
FROM debian
COPY make unpack /
RUN sh /make
RUN sh /unpack
-- make --
set -e
mkdir -p /in/dir && cd /in && echo one > file && echo two > dir/setid && ln -s file link && ln file hard && mkfifo pipe
chown 12345:54321 file && chown -h 7:8 link && chown 65534:65534 dir pipe && chown 1:2 dir/setid && chmod 6711 dir/setid
chmod 1777 dir
tar -C / --numeric-owner -cf /all.tar in
tar -C / -czf /named.tar.gz --owner=games:5 --group=mail:8 in/file
-- unpack --
set -e
mkdir /gnu /named /mine && tar -xpf /all.tar -C /gnu && tar -xf /named.tar.gz -C /named
tar -xf /all.tar -C /mine --no-same-owner in/file
cp -a /gnu/in /copied
stat -c '%n %a %u:%g %h' /gnu/in/* /gnu/in/dir/*
",
    );
    env.build(&["-t", "app"], &context)
        .ok()
        .says("/gnu/in/file 644 12345:54321 2")
        .says("/gnu/in/dir/setid 6711 1:2 1");
    let tree = env.image("app").tree();
    for (path, mode, uid, gid) in [
        ("in/file", 0o644, 12345, 54321),
        ("in/dir", 0o1777, 65534, 65534),
        ("in/dir/setid", 0o6711, 1, 2),
        ("in/pipe", 0o644, 65534, 65534),
    ] {
        for top in ["", "gnu/"] {
            let node = &tree[&format!("{top}{path}")];
            assert_eq!((node.mode, node.uid, node.gid), (mode, uid, gid), "{top}{path}");
        }
    }
    assert_eq!((tree["gnu/in/link"].uid, tree["gnu/in/link"].gid), (7, 8));
    assert_eq!((tree["named/in/file"].uid, tree["named/in/file"].gid), (5, 8), "games:mail");
    assert_eq!((tree["mine/in/file"].uid, tree["mine/in/file"].gid), (0, 0));
    assert_eq!((tree["copied/dir/setid"].mode, tree["copied/dir/setid"].uid), (0o6711, 1));
}

#[test]
fn su_runuser_and_setpriv_drop_privileges() {
    // R-5, S-7, S-80: also a setuid program.
    requires!(userns, overlay);
    let env = TestEnv::with("debian");
    let context = env.context(
        r#"
-- Dockerfile --
FROM debian
RUN groupadd -g 2000 crew && useradd -m -u 1500 -G crew,mail app && echo app:secret | chpasswd
RUN echo "1: $(su -c 'id -u; id -Gn; pwd; echo $HOME' - app | tr '\n' ' ')"
RUN echo "2: $(runuser -u app -- id -G)"
RUN echo "3: $(setpriv --reuid 1500 --regid 1500 --init-groups --inh-caps=-all sh -c 'id -G; touch /x || echo denied' 2>&1 | tr '\n' ' ')"
RUN echo "4: $(setpriv --reuid 4321 --regid 1234 --clear-groups id | tr -s ' ')"
RUN echo "5: $(setpriv --reuid 1500 --regid 1500 --clear-groups --bounding-set=-all grep CapBnd /proc/self/status | cut -f2)"
RUN install -o 1500 -m 4755 /usr/bin/id /usr/local/bin/myid
USER nobody
RUN echo "6: $(/usr/local/bin/myid -un)"
USER app
RUN echo "7: $(echo secret | su -c 'id -un' app 2>&1 | tr '\n' ' ')"
RUN echo "8: $(echo wrong | su -c true app 2>&1 | tr '\n' ' ')"
"#,
    );
    let done = env.build(&[], &context).ok();
    done.says("1: 1500 app mail crew /home/app /home/app")
        .says("2: 1500 8 2000")
        .says("3: 1500 8 2000 touch: cannot touch '/x': Permission denied denied")
        .says("4: uid=4321 gid=1234 groups=1234")
        .says("5: 0000000000000000")
        .says("6: app")
        .says("7: Password: app")
        .says("8: Password: su: Authentication failure");
}

/// Copies the C compiler of the host, and the files that it needs for one program, to `at`, under their usual paths.
fn toolchain(at: &Path, program: &str) {
    fs::write(at.join("program.c"), program).expect("write");
    let script = r#"
set -e
cd "$1"
{
    for tool in gcc as ld ar; do command -v $tool; done
    for part in cc1 collect2 ld as; do gcc -print-prog-name=$part | grep / || true; done
    for part in liblto_plugin.so libc.so libgcc.a libgcc_s.so; do gcc -print-file-name=$part | grep / || true; done
    gcc -M -O2 program.c | tr ' \\' '\n\n' | grep ^/
    gcc -Wl,--trace -o program program.c | grep '^/usr\|^/lib'
} > list
# What the programs themselves load.
for file in $(cat list); do ldd "$file" 2>/dev/null | grep -o '/[^ ]*' || true; done > loaded
mkdir -p tree/usr/lib tree/usr/lib64
ln -s usr/lib usr/lib64 tree/
for file in $(cat list loaded); do
    file=$(realpath -s "$file")
    mkdir -p "tree${file%/*}"
    cp -Ln "$file" "tree$file"
done
"#;
    let out = Command::new("sh").args(["-c", script, "sh"]).arg(at).output().expect("run sh");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn mounted_compiler_builds_a_program() {
    // M-3, M-4, M-11: compiler from another context, sources from the main one, objects on a tmpfs.
    requires!(userns, overlay, gcc);
    let env = TestEnv::with("debian");
    let context = env.context(
        r#"
-- Dockerfile --
FROM debian AS build
RUN --mount=type=bind,from=toolchain,source=tree,target=/opt/toolchain --mount=type=bind,target=/src \
    --mount=type=tmpfs,target=/obj <<SH
    set -e
    export PATH=/opt/toolchain/usr/bin:$PATH LD_LIBRARY_PATH=$(echo /opt/toolchain/usr/lib/*-linux-gnu)
    gcc --version | head -n1
    for name in main answer; do gcc --sysroot=/opt/toolchain -O2 -Wall -c /src/$name.c -o /obj/$name.o; done
    ar rc /obj/libanswer.a /obj/answer.o
    gcc --sysroot=/opt/toolchain -o /usr/local/bin/answer /obj/main.o /obj/libanswer.a
SH
RUN answer

FROM debian
COPY --from=build /usr/local/bin/answer /usr/local/bin/
RUN answer && ! command -v gcc && ! test -e /opt/toolchain
-- main.c --
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int answer(void);
int main(void) { char *text = strdup("the answer is"); printf("%s %d\n", text, answer()); free(text); return 0; }
-- answer.c --
int answer(void) { return 42; }
"#,
    );
    let compiler = env.dir().join("toolchain");
    fs::create_dir(&compiler).expect("create");
    let main = fs::read_to_string(context.join("main.c")).expect("read");
    toolchain(&compiler, &format!("{main}\nint answer(void) {{ return 0; }}\n"));
    let named = format!("toolchain={}", compiler.display());
    let done = env.build(&["-t", "app", "--build-context", &named], &context).ok();
    assert_eq!(done.stderr.matches("the answer is 42").count(), 2, "{done}");
    let tree = env.image("app").tree();
    assert!(!tree.has("opt/toolchain") && !tree.has("obj") && !tree.has("src"), "{tree}");
}
