//! Test every kind of context: directories, archives, standard input, repositories, URLs; also as named contexts.

use std::fs;

use super::sh;
use crate::support::TestEnv;
use crate::support::web::Web;

const CONTEXT: &str = "
-- Dockerfile --
FROM scratch
COPY . /c
-- other.Dockerfile --
FROM scratch
COPY f /o
-- f 0640 --
f
-- d/ 0750 --
-- d/g 0755 --
g
-- d/l -> ../f --
-- .dockerignore --
d/g
";

#[test]
fn context_gives_same_image_in_every_form() {
    // O-1; G-2, A14: ignore rules apply to directories only.
    requires!(git, xz, zstd, bzip2);
    let env = TestEnv::new();
    let context = env.context(CONTEXT);
    sh(
        &context,
        "touch -d @1000000000 . d d/g f Dockerfile other.Dockerfile .dockerignore; touch -h -d @1000000000 d/l",
    );
    let dir = env.dir();
    let name = context.file_name().expect("a name").to_str().expect("UTF-8").to_owned();
    sh(
        dir,
        &format!(
            "tar --owner=5 --group=6 --numeric-owner -C {name} -cf c.tar .; gzip -k c.tar; xz -k c.tar; zstd -q c.tar; bzip2 -k c.tar"
        ),
    );
    let id = |args: &[&str], stdin: Option<&[u8]>| {
        let all = [&["build", "-t", "x"], args].concat();
        let kiln = env.kiln(&all);
        match stdin {
            Some(bytes) => drop(kiln.stdin(bytes).ok()),
            None => drop(kiln.ok()),
        }
        env.image("x")
    };
    let at = |file: &str| dir.join(file).to_str().expect("UTF-8").to_owned();
    let whole = id(&[&at("c.tar")], None);
    let tree = whole.tree();
    assert_eq!((tree["c/f"].mode, tree["c/f"].uid, tree["c/d"].mode, tree["c/d/g"].mode), (0o640, 0, 0o750, 0o755));
    assert_eq!(tree["c/d/l"].link, "../f");
    assert_eq!(tree["c/f"].mtime, Some(1_000_000_000));
    for archive in ["c.tar.gz", "c.tar.xz", "c.tar.zst", "c.tar.bz2"] {
        assert_eq!(id(&[&at(archive)], None).digest, whole.digest, "{archive}");
        let bytes = fs::read(at(archive)).expect("read");
        assert_eq!(id(&["-"], Some(&bytes)).digest, whole.digest, "{archive} on standard input");
    }
    let web = Web::serve(&[("/c.tgz", "ETag: \"x\"", &fs::read(at("c.tar.gz")).expect("read"))]);
    assert_eq!(id(&[&format!("{}/c.tgz", web.url)], None).digest, whole.digest, "HTTP");
    // Ignore rules apply to directories only; without them the image is the same.
    let hidden = id(&[context.to_str().expect("UTF-8")], None);
    assert!(!hidden.tree().0.contains_key("c/d/g"));
    fs::rename(context.join(".dockerignore"), dir.join("aside")).expect("move");
    let bare = id(&[context.to_str().expect("UTF-8")], None);
    let names = |image: &crate::support::Image| image.tree().0.into_keys().collect::<Vec<_>>();
    assert_eq!(names(&bare), names(&whole).into_iter().filter(|n| n != "c/.dockerignore").collect::<Vec<_>>());
    // Another Dockerfile in the context, and a Dockerfile from standard input.
    let bytes = fs::read(at("c.tar")).expect("read");
    let other = id(&["-f", "other.Dockerfile", "-"], Some(&bytes));
    assert_eq!(other.tree().0.into_keys().collect::<Vec<_>>(), ["o"]);
    let piped = id(&["-f", "-", context.to_str().expect("UTF-8")], Some(b"FROM scratch\nCOPY f /p\n"));
    assert_eq!(piped.tree().0.into_keys().collect::<Vec<_>>(), ["p"]);
    let alone = id(&["-"], Some(b"FROM scratch\nCOPY <<E /e\nx\nE\nCOPY . /all\n"));
    assert_eq!(alone.tree().0.into_keys().collect::<Vec<_>>(), ["all", "e"], "no files besides the Dockerfile");
}

#[test]
fn git_repositories_can_be_contexts() {
    // O-1, S-8
    requires!(git);
    let env = TestEnv::new();
    let web = Web::serve_dir(&env.context("-- keep --\n"));
    let repo = env.context("-- Dockerfile --\nFROM scratch\nCOPY . /\n-- sub/Dockerfile --\nFROM scratch\nCOPY . /s\n-- .dockerignore --\nDockerfile\n");
    sh(
        &repo,
        "git init -q -b main; git add -A; git -c user.name=n -c user.email=e commit -qm one; git tag v1; echo new >added; git add -A; git -c user.name=n -c user.email=e commit -qm two",
    );
    sh(&repo, &format!("git clone -q --bare . {0}/r.git; git -C {0}/r.git update-server-info", web.dir().display()));
    let (local, remote) = (repo.to_str().expect("UTF-8"), format!("{}/r.git", web.url));
    let files = |context: &str| {
        env.kiln(&["build", "-t", "x", context]).ok();
        env.image("x").tree().0.into_keys().collect::<Vec<_>>().join(" ")
    };
    for from in [local, &format!("file://{local}"), &remote] {
        let hash = |rest: &str| format!("{from}#{rest}");
        assert_eq!(files(&hash("main")), ".dockerignore Dockerfile added sub sub/Dockerfile", "{from}");
        assert_eq!(files(&hash("v1")), ".dockerignore Dockerfile sub sub/Dockerfile", "{from}");
        assert_eq!(files(&hash("v1:sub")), "s s/Dockerfile", "{from}");
        assert_eq!(files(&hash(":sub")), "s s/Dockerfile", "{from}");
        env.kiln(&["build", &hash("gone")]).fails(1).says("gone");
        env.kiln(&["build", &hash("main:../..")]).fails(1).says("not a directory of the repository");
    }
    // Without #REF, the working tree is a plain directory.
    assert!(files(local).contains("added"));
    env.kiln(&["build", "ext::sh -c true"]).fails(1);
}

#[test]
fn unchanged_repository_is_not_fetched_again() {
    // O-1, O-5, C-25
    requires!(git);
    let env = TestEnv::new();
    let web = Web::serve_dir(&env.context("-- keep --\n"));
    let git = "git -c user.name=n -c user.email=e";
    let dir = web.dir().display().to_string();
    let part = env.context("-- p --\npart\n");
    sh(&part, &format!("git init -q -b main; git add -A; {git} commit -qm part"));
    sh(&part, &format!("git clone -q --bare . {dir}/part.git; git -C {dir}/part.git update-server-info"));
    let whole = env.context("-- Dockerfile --\nFROM scratch\nCOPY . /\n-- f --\none\n");
    sh(
        &whole,
        &format!(
            "git init -q -b main; git -c protocol.file.allow=always submodule --quiet add {dir}/part.git part; git config -f .gitmodules submodule.part.url ../part.git; git add -A; {git} commit -qm one; git clone -q --bare . {dir}/whole.git; git -C {dir}/whole.git update-server-info"
        ),
    );
    let (url, local) =
        (format!("{}/whole.git", web.url), env.context("-- Dockerfile --\nFROM scratch\nCOPY --from=r . /\n"));
    let build = |args: &[&str]| {
        let from = web.asked().len();
        env.kiln(&[&["build", "-t", "x"], args].concat()).ok();
        let asked = web.asked();
        let fetched = asked[from..].iter().filter(|line| line.contains("/objects/")).count();
        (fetched, env.image("x").tree().0.into_keys().collect::<Vec<_>>().join(" "))
    };
    // The `.git` file of a submodule stays, as in BuildKit (N-33).
    let all = ".gitmodules Dockerfile f part part/.git part/p";
    let (fetched, files) = build(&[&url]);
    assert!(fetched > 0);
    assert_eq!(files, all);
    assert_eq!(build(&[&url]), (0, all.to_owned()));
    // As a named context, by subdirectory, and with ADD.
    let named = format!("r={url}#main:part");
    assert_eq!(build(&["--build-context", &named, local.to_str().expect("UTF-8")]), (0, ".git p".to_owned()));
    let add = env.context(&format!("-- Dockerfile --\nFROM scratch\nADD {url} /\n"));
    assert_eq!(build(&[add.to_str().expect("UTF-8")]), (0, all.to_owned()));
    // Damaged objects are fetched again.
    let kept = fs::read_dir(env.store().join("fetched")).expect("list").flatten();
    let kept = kept.map(|e| e.path()).find(|path| path.is_dir()).expect("it is kept");
    sh(&kept, "find . -path '*/objects/*' -type f -exec sh -c 'chmod 600 {}; echo damaged > {}' ';'");
    let (fetched, files) = build(&[&url]);
    assert!(fetched > 0);
    assert_eq!(files, all);
    assert_eq!(build(&[&url]).0, 0);
    // The branch moves.
    sh(
        &whole,
        &format!(
            "echo >g; git add -A; {git} commit -qm two; git push -q {dir}/whole.git main; git -C {dir}/whole.git update-server-info"
        ),
    );
    let (fetched, files) = build(&[&url]);
    assert!(fetched > 0);
    assert_eq!(files, ".gitmodules Dockerfile f g part part/.git part/p");
    env.assert_swept();
}

#[test]
fn named_contexts_accept_every_form() {
    // O-5, F-11
    requires!(git);
    let env = TestEnv::new();
    let context = env.context("-- Dockerfile --\nFROM scratch\nCOPY --from=src f /\n");
    let src = env.context("-- f --\nf\n");
    sh(
        &src,
        "tar -cf ../src.tar f; git init -q -b main; git add -A; git -c user.name=n -c user.email=e commit -qm one",
    );
    let tar = env.dir().join("src.tar");
    let web = Web::serve(&[("/src.tar", "", &fs::read(&tar).expect("read")), ("/text", "", b"FROM scratch")]);
    // An image in the store and an OCI layout with the same file.
    env.add(&src, "-- Dockerfile --\nFROM scratch\nCOPY f /\n");
    let layout = env.dir().join("layout");
    let dest = format!("type=oci-layout,dest={}", layout.display());
    env.build(&["-t", "src:1", "-o", &dest], &src).ok();
    let forms = [
        src.display().to_string(),
        tar.display().to_string(),
        format!("{}/src.tar", web.url),
        format!("{}#main", src.display()),
        format!("file://{}", src.display()),
        "docker-image://src:1".to_owned(),
        format!("oci-layout://{}:1", layout.display()),
    ];
    for form in &forms {
        env.build(&["-t", "x", "--build-context", &format!("src={form}")], &context).ok();
        assert_eq!(env.image("x").content("f"), b"f\n", "{form}");
    }
    let text = format!("src={}/text", web.url);
    env.build(&["--build-context", &text], &context).fails(1).says("is not an archive");
    env.build(&["--build-context", "src=-"], &context).fails(2).says("standard input");
    env.build(&["--build-context", "src=/nonexistent"], &context).fails(1).says("does not exist");
}

#[test]
fn build_argument_keeps_git_dir_of_context() {
    // N-8
    requires!(git);
    let env = TestEnv::new();
    let src = env.context("-- Dockerfile --\nFROM scratch\nCOPY . /\n");
    sh(&src, "git init -q -b main; git add -A; git -c user.name=n -c user.email=e commit -qm one");
    let url = format!("file://{}#main", src.display());
    let keeps = |args: &[&str], url: &str| {
        env.kiln(&[&["build", "-t", "x"], args, &[url]].concat()).ok();
        env.image("x").tree().has(".git/HEAD")
    };
    let argument = |value: &str| format!("BUILDKIT_CONTEXT_KEEP_GIT_DIR={value}");
    assert!(!keeps(&[], &url));
    for on in ["1", "true", "T"] {
        assert!(keeps(&["--build-arg", &argument(on)], &url), "{on}");
    }
    for off in ["0", "false", ""] {
        assert!(!keeps(&["--build-arg", &argument(off)], &url), "{off}");
    }
    env.kiln(&["build", "--build-arg", &argument("maybe"), &url]).fails(1).says("BUILDKIT_CONTEXT_KEEP_GIT_DIR=maybe");
    env.build(&["--build-arg", &argument("1")], &src).ok().says("no effect: the context is not a git repository");
}

#[test]
fn source_date_epoch_can_be_time_of_context() {
    // N-37
    requires!(git);
    let env = TestEnv::new();
    let lines =
        "-- Dockerfile --\nARG SOURCE_DATE_EPOCH\nFROM scratch\nARG SOURCE_DATE_EPOCH\nLABEL e=$SOURCE_DATE_EPOCH\n";
    let src = env.context(lines);
    sh(
        &src,
        "git init -q -b main; git add -A; GIT_COMMITTER_DATE='@1500000000 +0000' git -c user.name=n -c user.email=e commit -qm one; touch -d @1400000000 Dockerfile; tar -cf ../src.tar Dockerfile",
    );
    let tar = env.dir().join("src.tar");
    let web =
        Web::serve(&[("/src.tar", "Last-Modified: Tue, 15 Nov 1994 12:45:26 GMT", &fs::read(&tar).expect("read"))]);
    let repository = format!("file://{}#main", src.display());
    let epoch = |args: &[&str]| {
        env.kiln(&[&["build", "-t", "x"], args].concat()).ok();
        let config = env.image("x").config;
        (config["created"].as_str().expect("a time").to_owned(), config["config"]["Labels"]["e"].clone())
    };
    let asked = ["--build-arg", "SOURCE_DATE_EPOCH=context"];
    let of = |context: &str| epoch(&[&asked[..], &[context]].concat());
    assert_eq!(of(&repository), ("2017-07-14T02:40:00Z".to_owned(), "1500000000".into()));
    assert_eq!(of(tar.to_str().expect("UTF-8")), ("2014-05-13T16:53:20Z".to_owned(), "1400000000".into()));
    assert_eq!(of(&format!("{}/src.tar", web.url)), ("1994-11-15T12:45:26Z".to_owned(), "784903526".into()));
    let named = format!("r={repository}");
    let by_name = ["--build-arg", "SOURCE_DATE_EPOCH=r", "--build-context", &named, src.to_str().expect("UTF-8")];
    assert_eq!(epoch(&by_name).1, "1500000000");
    // A directory has no time; a warning says so.
    env.build(&asked, &src).ok().says("SOURCE_DATE_EPOCH=context has no effect");
    env.build(&["--build-arg", "SOURCE_DATE_EPOCH=contxt"], &src).fails(1).says("invalid SOURCE_DATE_EPOCH");
}

#[test]
fn source_date_epoch_can_be_time_of_added_source() {
    // N-37
    requires!(git);
    let env = TestEnv::new();
    let src = env.context("-- f --\nf\n");
    sh(
        &src,
        "git init -q -b main; git add -A; GIT_COMMITTER_DATE='@1500000000 +0000' git -c user.name=n -c user.email=e commit -qm one; git update-server-info; touch -d @1400000000 f; tar -cf ../f.tar f",
    );
    let tar = fs::read(env.dir().join("f.tar")).expect("read");
    let dated = "Last-Modified: Tue, 15 Nov 1994 12:45:26 GMT";
    let files = Web::serve(&[("/dated", dated, b"x"), ("/undated", "", b"x"), ("/f.tar", "", &tar)]);
    let repositories = Web::serve_dir(&src);
    let build = |add: &str, args: &[&str]| {
        let context = env.context(&format!(
            "-- Dockerfile --\nARG SITE={}\nARG SOURCE_DATE_EPOCH=When\nFROM scratch AS when\n{}\n\
             FROM scratch\nARG SOURCE_DATE_EPOCH\nLABEL e=$SOURCE_DATE_EPOCH\n",
            files.url,
            add.replace("GIT", &format!("{}/.git", repositories.url)),
        ));
        env.build(&[&["-t", "x"], args].concat(), &context)
    };
    let epoch = |add: &str| {
        build(add, &[]).ok();
        env.image("x").config["config"]["Labels"]["e"].clone()
    };
    let sum = crate::support::image::sha256(b"x");
    let sum = format!("sha256:{}", sum.trim_start_matches("sha256:"));
    for (add, want) in [
        ("ADD $SITE/dated /", "784903526"),
        ("ARG FILE=dated\nADD ${SITE}/${FILE} /", "784903526"),
        ("ADD $SITE/f.tar /", "1400000000"),
        ("ADD GIT#main /", "1500000000"),
        (&format!("ADD --checksum={sum} $SITE/dated /"), "784903526"),
    ] {
        assert_eq!(epoch(add), want, "{add}");
    }
    build("ADD $SITE/undated /", &[]).ok().says("SOURCE_DATE_EPOCH=When has no effect");
    build("ADD $SITE/missing /", &[]).fails(1).says("SOURCE_DATE_EPOCH=When: ").says("404");
    let other = sum.replace(&sum[70..], "0");
    build(&format!("ADD --checksum={other} $SITE/dated /"), &[]).fails(1).says("checksum mismatch");
    // A build argument overrides the value, and nothing is fetched for it.
    build("ADD $SITE/missing /", &["--build-arg", "SOURCE_DATE_EPOCH=7"]).ok();
    // `check` makes no requests.
    let context = env.context(&format!(
        "-- Dockerfile --\nARG SOURCE_DATE_EPOCH=when\nFROM scratch AS when\nADD {}/missing /\nFROM scratch\nCOPY f /\n-- f --\n",
        files.url
    ));
    env.kiln(&["check", context.to_str().expect("UTF-8")]).ok().never_says("no effect");
}
