//! Test attacks by URLs and repositories (S-8…S-10): nothing in them becomes a host path, an option or a command.

use std::collections::BTreeSet;
use std::fs;

use super::add::sh;
use crate::support::TestEnv;
use crate::support::web::Web;

#[test]
fn url_file_names_cannot_be_host_paths() {
    // S-9
    let env = TestEnv::new();
    let long = format!("/{}", "n".repeat(300));
    let paths = ["/%2e%2e%2fup", "/..%2f..%2f..%2fhost", "/%2e%2e", "/a%00b", "/%2fetc%2fpasswd", "/sha256-00", &long];
    let web = Web::serve(&paths.map(|path| (path, "", &b"x"[..])));
    let context = env.context("-- x --\n");
    super::build(&env, &context, "COPY x /", &[]);
    let beside =
        || fs::read_dir(env.dir()).expect("list").map(|e| e.expect("entry").file_name()).collect::<BTreeSet<_>>();
    let before = beside();
    for (path, name) in
        paths.iter().zip(["up", "host", "__unnamed__", "__unnamed__", "passwd", "sha256-00", "__unnamed__"])
    {
        let (done, image) = super::build(&env, &context, &format!("ADD {}{path} /in/", web.url), &[]);
        assert_eq!(done.code, 0, "{path}\n{done}");
        assert_eq!(super::list(&env.image(&image)), ["in/ 0755".to_owned(), format!("in/{name} 0600 \"x\"")], "{path}");
    }
    assert_eq!(beside(), before, "beside the store");
    // Downloads are stored under digests.
    for entry in fs::read_dir(env.store().join("fetched")).expect("list") {
        let name = entry.expect("entry").file_name().into_string().expect("UTF-8");
        let hex = name.strip_prefix("sha256-").unwrap_or(&name);
        assert!(hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
    }
}

/// Publishes a repository of one commit as `/NAME.git`; `make` changes what is committed.
fn publish(env: &TestEnv, web: &Web, name: &str, files: &str, make: &str) {
    let work = env.context(files);
    let commit = "git -c user.name=n -c user.email=e commit -qm one";
    sh(
        &work,
        &format!(
            "git init -q -b main; git add -A; {make}{commit}; git clone -q --bare . {0}/{name}.git; git -C {0}/{name}.git update-server-info",
            web.dir().display()
        ),
    );
}

#[test]
fn git_ignores_user_filters_hooks_and_templates() {
    // S-10
    requires!(git);
    let env = TestEnv::new();
    let web = Web::serve_dir(&env.context("-- keep --\n"));
    publish(&env, &web, "r", "-- f --\nf\n-- .gitattributes --\nf filter=run\n", "");
    let ran = env.dir().join("ran");
    // A filter that the repository requests, a hook, and a template with a hook.
    let script = format!("#!/bin/sh\ntouch {}\n", ran.display());
    for hook in ["home/hooks/post-checkout", "home/template/hooks/post-checkout"] {
        let path = env.dir().join(hook);
        fs::create_dir_all(path.parent().expect("a parent")).expect("create");
        fs::write(&path, &script).expect("write");
        sh(env.dir(), &format!("chmod 755 {hook}"));
    }
    let home = env.dir().join("home").display().to_string();
    let config = format!(
        "[filter \"run\"]\nsmudge = touch {0}; cat\n[core]\nhooksPath = {home}/hooks\n[init]\ntemplateDir = {home}/template\n",
        ran.display()
    );
    fs::write(env.dir().join("home/.gitconfig"), &config).expect("write");
    let context = env.context("-- x --\n");
    let file = env.dir().join("Dockerfile");
    fs::write(&file, format!("FROM scratch\nADD {}/r.git /\n", web.url)).expect("write");
    for (name, value) in [("HOME", home.as_str()), ("GIT_CONFIG_GLOBAL", &format!("{home}/.gitconfig"))] {
        let all = ["--no-cache", "-t", "x", "-f", file.to_str().expect("UTF-8")];
        env.build(&all, &context).env(name, value).ok();
        assert!(env.image("x").tree().0.contains_key("f") && !ran.exists(), "{name}: A COMMAND OF THE HOST WAS RUN");
    }
}

#[test]
fn submodule_urls_cannot_run_commands_or_read_host_files() {
    // S-10
    requires!(git);
    let env = TestEnv::new();
    let web = Web::serve_dir(&env.context("-- keep --\n"));
    let ran = env.dir().join("ran");
    let own = env.context("-- secret --\ncanary-51c0\n");
    sh(&own, "git init -q -b main; git add -A; git -c user.name=n -c user.email=e commit -qm one");
    let context = env.context("-- x --\n");
    let own = own.display();
    for (name, url) in [
        ("ext", format!("ext::sh -c touch% {}", ran.display())),
        ("file", format!("file://{own}")),
        ("path", own.to_string()),
        ("option", format!("--upload-pack=touch {}", ran.display())),
    ] {
        // Written by hand, because git refuses to add a submodule with such a URL.
        let link = format!("git update-index --add --cacheinfo 160000,$(git -C {own} rev-parse HEAD),part; ");
        let files = format!("-- top --\nt\n-- .gitmodules --\n[submodule \"part\"]\n\tpath = part\n\turl = {url}\n");
        publish(&env, &web, name, &files, &link);
        let (done, _) = super::build(&env, &context, &format!("ADD {}/{name}.git /", web.url), &[]);
        assert!(!ran.exists(), "{url}: A COMMAND WAS RUN");
        assert_eq!(done.code, 1, "{url}\n{done}");
        let leaks = crate::support::canary::leaks(&env.store(), "canary-51c0");
        assert!(leaks.is_empty(), "{url}: A REPOSITORY OF THE HOST WAS READ: {leaks:?}");
    }
}
