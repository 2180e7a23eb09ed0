//! `kiln cache mounts`: cache mounts of RUN, carried from one machine to another.
//!
//! **On disk.** An export is a plain tar. Each cache mount is a directory named by the hash of its id, with the file `id` and
//! the directory `data`. Owners, modes, links and attributes are kept, times in whole seconds.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;

use crate::base::fs::{self, FsError};
use crate::base::lock::Patience;
use crate::base::rooted::Root;
use crate::base::sparse::{Dense, SparseFile, SparseWriter};
use crate::base::time::Timestamp;
use crate::cli::args::{
    Format, MountsArgs, MountsCommand, MountsExportArgs, MountsImportArgs, MountsLsArgs, MountsRmArgs,
};
use crate::cli::failure::{Done, Failure, SUCCESS};
use crate::cli::session::Session;
use crate::cli::table;
use crate::layer::{
    self, Compression, Entry, Form, LayerWriter, Limits, MergedTree, Meta, Output, RelPath, WriteOptions,
};
use crate::store::{MountInstance, MountLock, MountSharing, Store, Target, mount_name};

const DATA: &[u8] = b"data";
const ID: &[u8] = b"id";
/// Longest id, in bytes.
const MAX_ID: u64 = 64 << 10;

pub(super) fn run(args: &MountsArgs, session: &mut Session<'_>) -> Done {
    let store = session.store()?;
    // The files may belong to subordinate ids.
    if !fs::list(&store.mounts_dir())?.is_empty() || matches!(args.command, MountsCommand::Import(_)) {
        if let Some(code) = session.as_root()? {
            return Ok(code);
        }
        session.announce_single_id();
    }
    session.interruptible()?;
    match &args.command {
        MountsCommand::Ls(args) => ls(args, &store, session),
        MountsCommand::Export(args) => export(args, &store, session),
        MountsCommand::Import(args) => import(args, &store, session),
        MountsCommand::Rm(args) => rm(args, &store, session),
    }
}

fn ls(args: &MountsLsArgs, store: &Store, session: &mut Session<'_>) -> Done {
    let instances = store.mount_instances()?;
    if args.format == Format::Json {
        let list: Vec<_> = instances
            .iter()
            .map(|i| json!({ "id": i.id, "instance": i.number, "size": i.bytes, "used": i.used, "busy": i.busy }))
            .collect();
        session.console.data(format_args!("{}", serde_json::Value::from(list)))?;
        return Ok(SUCCESS);
    }
    let heading = ["ID", "INSTANCE", "SIZE", "LAST USED", "IN USE"];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    for i in instances {
        let busy = if i.busy { "yes" } else { "no" };
        let size = table::size(i.bytes);
        lines.push(vec![i.id, i.number.to_string(), size, table::time(Some(i.used)), busy.to_owned()]);
    }
    for line in table::lines(&lines) {
        session.console.data(format_args!("{line}"))?;
    }
    Ok(SUCCESS)
}

/// The instances of the given ids; all instances without an id.
fn chosen(store: &Store, ids: &[String]) -> Result<Vec<MountInstance>, Failure> {
    let instances = store.mount_instances()?;
    if let Some(missing) = ids.iter().find(|id| !instances.iter().any(|i| i.id == **id)) {
        return Err(Failure::build(format!("no cache mount with the id {missing:?}"))
            .hint("list cache mounts with `kiln cache mounts ls`"));
    }
    Ok(instances.into_iter().filter(|i| ids.is_empty() || ids.contains(&i.id)).collect())
}

/// Waits until no build uses the cache mount.
fn lock(store: &Store, id: &str, session: &mut Session<'_>) -> Result<MountLock, Failure> {
    let console = &mut *session.console;
    let mut waiting =
        |who: &str| console.labelled("note", &format!("waiting for {who}, which uses the cache mount {id:?}"));
    Ok(store.lock_mount(id, MountSharing::Locked, &mut Patience::new(&mut waiting))?)
}

/// Writes the first instance of each cache mount to an archive. Ok: the archive is complete and each cache mount is as it
/// was at one moment. A file appears only then.
fn export(args: &MountsExportArgs, store: &Store, session: &mut Session<'_>) -> Done {
    drop(session.lease(store)?);
    let mut instances = chosen(store, &args.ids)?;
    for further in instances.iter().filter(|i| i.number > 0) {
        let text = format!("cache mount {:?} has another private instance, which is not exported", further.id);
        session.console.labelled("note", &text);
    }
    instances.retain(|i| i.number == 0);
    instances.sort_by_key(|i| mount_name(&i.id));
    match args.output.as_deref().filter(|path| *path != Path::new("-")) {
        Some(path) => {
            let target = write_all(&instances, store, Target::open(path)?, path, session)?;
            target.finish(path, 0o644)?;
        }
        None if session.console.out_is_terminal() => {
            return Err(Failure::usage("cannot write an archive to a terminal").hint("name a file with -o FILE"));
        }
        None => {
            write_all(&instances, store, io::stdout(), Path::new("standard output"), session)?;
        }
    }
    Ok(SUCCESS)
}

fn write_all<W: Output>(
    instances: &[MountInstance],
    store: &Store,
    out: W,
    path: &Path,
    session: &mut Session<'_>,
) -> Result<W, Failure> {
    let options = WriteOptions { compression: Compression::Uncompressed, ..WriteOptions::default() };
    let mut writer = LayerWriter::new(out, &options);
    for instance in instances {
        let locked = lock(store, &instance.id, session)?;
        write_one(&mut writer, &instance.id, &locked.data()).map_err(|e| named(&instance.id, &e))?;
    }
    let (mut out, _) = writer.finish().map_err(|e| wrong(path, &e))?;
    out.flush().map_err(|e| FsError::new("write", path, e))?;
    Ok(out)
}

fn write_one<W: Output>(writer: &mut LayerWriter<W>, id: &str, data: &Path) -> Result<(), layer::Error> {
    let refused = |source: io::Error| layer::Error::Read { path: RelPath::root(), source };
    let dir = RelPath::root().join(mount_name(id).as_bytes());
    writer.append_empty(Entry::new(dir.clone(), layer::EntryKind::Dir, Meta { mode: 0o700, ..Meta::default() }))?;
    let root = Root::open(data).map_err(refused)?;
    let below = dir.join(DATA);
    let own = std::fs::symlink_metadata(data).map_err(refused)?;
    let meta = Meta {
        mode: own.mode() & 0o7777,
        uid: own.uid(),
        gid: own.gid(),
        mtime: Timestamp::from_secs(own.mtime()),
        ..Meta::default()
    };
    writer.append_empty(Entry::new(below.clone(), layer::EntryKind::Dir, meta))?;
    let files = layer::tree_changes(&root, &MergedTree::new(), &(), None, None)?;
    for entry in files.entries() {
        let mut moved = entry.clone();
        moved.path = below.join_path(&entry.path);
        if let layer::EntryKind::Hardlink { target } = &mut moved.kind {
            *target = below.join_path(target);
        }
        if let layer::EntryKind::File { size: size @ 1.., .. } = entry.kind {
            let open = root.open_file(entry.path.as_os_str());
            let file = open.map_err(|source| layer::Error::Read { path: entry.path.clone(), source })?;
            writer.append(moved, &mut SparseFile::new(file, size))?;
        } else {
            writer.append_empty(moved)?;
        }
    }
    let size = id.len() as u64;
    let meta = Meta { mode: 0o600, ..Meta::default() };
    writer.append(Entry::new(dir.join(ID), layer::EntryKind::File { size, content: None }, meta), &mut id.as_bytes())
}

/// Replaces cache mounts from an archive. Ok: each of them holds exactly the files of the archive.
fn import(args: &MountsImportArgs, store: &Store, session: &mut Session<'_>) -> Done {
    drop(session.lease(store)?);
    let scratch = store.scratch()?;
    let source = args.source.as_path();
    let made = if source == Path::new("-") {
        unpack(io::stdin(), scratch.path(), Path::new("standard input"))?
    } else {
        unpack(fs::open(source)?, scratch.path(), source)?
    };
    let foreign = |what: &str| {
        Failure::build(format!("{}: {what}: not an export of cache mounts", source.display())).hint(EXPORT)
    };
    let mut found = Vec::new();
    for name in fs::list(&made)? {
        let dir = made.join(&name);
        let id = read_id(&dir).map_err(|why| foreign(&format!("{} {why}", name.display())))?;
        if name != mount_name(&id).as_str() {
            return Err(foreign(&format!("{} does not match the id in it", name.display())));
        }
        found.push((id, dir.join("data")));
    }
    for (number, (id, data)) in found.iter().enumerate() {
        let old = scratch.path().join(format!("old-{number}"));
        lock(store, id, session)?.replace(id, data, &old)?;
        session.console.data(format_args!("imported {}", crate::ui::sanitize::text(id)))?;
    }
    Ok(scratch.remove().map(|()| SUCCESS)?)
}

/// Unpacks an untrusted archive in `scratch`; nothing is written outside it.
fn unpack(from: impl Read + Send, scratch: &Path, source: &Path) -> Result<std::path::PathBuf, Failure> {
    let plain = scratch.join("import.tar");
    let out = SparseWriter::new(fs::create_new(&plain)?);
    let (out, packed) = layer::repack(Dense(from), out, Compression::Uncompressed, &Limits::default())
        .map_err(|e| wrong(source, &e).hint(EXPORT))?;
    out.finish().map_err(|e| FsError::new("write", &plain, e))?;
    let made = scratch.join("made");
    fs::create_dir(&made, 0o700)?;
    let plain = SparseFile::new(fs::open(&plain)?, packed.size);
    layer::unpack(plain, &made, packed.diff_id, Form::Plain).map_err(|e| wrong(source, &e))?;
    Ok(made)
}

/// The id in an unpacked directory; `Err` says what is wrong with it.
fn read_id(dir: &Path) -> Result<String, &'static str> {
    let root = Root::open(dir).map_err(|_| "is not a directory")?;
    let file = root.open_file("id".as_ref()).map_err(|_| "has no id")?;
    let mut id = String::new();
    file.take(MAX_ID).read_to_string(&mut id).map_err(|_| "has an id that is not UTF-8")?;
    let is_dir = std::fs::symlink_metadata(dir.join("data")).is_ok_and(|meta| meta.is_dir());
    if is_dir { Ok(id) } else { Err("has no data") }
}

/// Removes cache mounts with all their instances. One that a build uses stays and is an error.
fn rm(args: &MountsRmArgs, store: &Store, session: &mut Session<'_>) -> Done {
    drop(session.lease(store)?);
    let scratch = store.scratch()?;
    let mut busy = Vec::new();
    for (number, instance) in chosen(store, &args.ids)?.into_iter().enumerate() {
        match store.try_lock_mount(&instance)? {
            Some(locked) => {
                locked.take(&scratch.path().join(number.to_string()))?;
                let id = crate::ui::sanitize::text(&instance.id);
                session.console.data(format_args!("removed {id}"))?;
            }
            None => busy.push(instance.id),
        }
    }
    scratch.remove()?;
    match busy.first() {
        None => Ok(SUCCESS),
        Some(id) => Err(Failure::build(format!("the cache mount {id:?} is in use by a running build"))),
    }
}

/// Where archives for import come from.
const EXPORT: &str = "create the archive with `kiln cache mounts export -o FILE`";

fn named(id: &str, error: &layer::Error) -> Failure {
    let mut failure = Failure::of_error(error);
    failure.message = format!("export cache mount {id:?}: {}", failure.message);
    failure
}

fn wrong(path: &Path, error: &layer::Error) -> Failure {
    Failure::of_archive(&path.display().to_string(), error)
}
