//! One manifest list of the store.

use crate::cli::args::ManifestRegistryArgs;
use crate::cli::failure::Failure;
use crate::cli::session::Session;
use crate::oci::descriptor::{Descriptor, INDEX};
use crate::oci::manifest::Index;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::registry::Client;
use crate::store::{Sources, Store};

/// What a name begins with that means the registry, not the store.
pub(super) const TRANSPORT: &str = "docker://";
/// The operating system of an attestation.
const ATTESTATION: &str = "unknown";
/// The annotation of an attestation that names its image.
const SUBJECT: &str = "vnd.docker.reference.digest";
/// The shortest digest, in hexadecimal digits.
const MIN_ID: usize = 4;

/// A manifest list: an index and where its images were found.
pub(super) struct List {
    pub(super) name: Reference,
    pub(super) index: Index,
    pub(super) sources: Sources,
    /// What the name stands for in the store.
    stored: Option<Descriptor>,
}

impl List {
    /// A list without images.
    pub(super) fn new(name: &Reference) -> Self {
        Self { name: name.clone(), index: Index::new(Vec::new()), sources: Sources::default(), stored: None }
    }

    /// The list of that name.
    pub(super) fn open(store: &Store, name: &Reference) -> Result<Self, Failure> {
        let target = store.find(&name.to_string())?.target;
        if !target.is_index() {
            let name = name.familiar();
            return Err(Failure::build(format!("{name} is one image, not a manifest list"))
                .hint("create a list with kiln manifest create under another name"));
        }
        let wrong = |e| Failure::build(format!("{}: {e}", target.digest));
        let index = Index::parse(&store.get(&target)?).map_err(wrong)?;
        Ok(Self { name: name.clone(), index, sources: Sources::of(&target), stored: Some(target) })
    }

    /// What is pushed.
    pub(super) fn target(&self) -> Option<&Descriptor> {
        self.stored.as_ref()
    }

    /// Ok: the name stands for the list as it is now.
    pub(super) fn save(&self, store: &Store) -> Result<(), Failure> {
        let target = self.put(store)?;
        store.tag(std::slice::from_ref(&self.name), &target)?;
        if let Some(old) = self.stored.as_ref().filter(|old| old.digest != target.digest) {
            store.forget_unnamed(old.digest)?;
        }
        Ok(())
    }

    /// Ok: the store has the index, without a name.
    pub(super) fn put(&self, store: &Store) -> Result<Descriptor, Failure> {
        let mut target = store.put(INDEX, &self.index.to_bytes())?;
        self.sources.keep(&mut target);
        Ok(target)
    }

    /// Whether an entry is an attestation, which is for no platform.
    pub(super) fn is_attestation(one: &Descriptor) -> bool {
        one.platform.as_ref().is_some_and(|platform| platform.os == ATTESTATION)
    }

    /// The platforms of the images.
    pub(super) fn platforms(&self) -> Vec<Platform> {
        let images = self.index.manifests.iter().filter(|one| !Self::is_attestation(one));
        images.filter_map(|one| one.platform.clone()).collect()
    }

    /// Removes images that `gone` chooses, with their attestations. Returns the images.
    pub(super) fn remove(&mut self, gone: impl Fn(&Descriptor) -> bool) -> Vec<Descriptor> {
        let all = &mut self.index.manifests;
        let removed: Vec<Descriptor> = all.extract_if(.., |one| gone(one)).collect();
        let digests: Vec<String> = removed.iter().map(|one| one.digest.to_string()).collect();
        all.retain(|one| one.annotations.get(SUBJECT).is_none_or(|subject| !digests.contains(subject)));
        removed.iter().for_each(|one| self.sources.forget(one.digest));
        removed
    }

    /// The position of an image that is given by its name, its digest or the beginning of it.
    pub(super) fn find(&self, store: &Store, text: &str) -> Result<usize, Failure> {
        let missing = || {
            let have = self.index.manifests.iter().map(|one| self.describe(one)).collect::<Vec<_>>().join(", ");
            Failure::build(format!("{} has no image {text}; it has {have}", self.name.familiar()))
        };
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let is_id = hex.len() >= MIN_ID && hex.bytes().all(|b| b.is_ascii_hexdigit());
        let name = text.strip_prefix(TRANSPORT).unwrap_or(text).parse::<Reference>().ok();
        let stored = match &name {
            Some(name) => store.resolve(name)?.map(|target| target.digest),
            None => None,
        };
        let by_name = |one: &Descriptor| {
            let digest = name.as_ref().and_then(|name| name.digest).or(stored);
            let source = self.sources.name_of(one.digest).filter(|_| !Self::is_attestation(one));
            digest == Some(one.digest) || source.is_some() && source == name.as_ref()
        };
        let by_id = |one: &Descriptor| is_id && one.digest.hex().starts_with(hex);
        let at = |is: &dyn Fn(&Descriptor) -> bool| -> Vec<usize> {
            let all = self.index.manifests.iter().enumerate();
            all.filter(|(_, one)| is(one)).map(|(at, _)| at).collect()
        };
        let found = Some(at(&by_name)).filter(|found| !found.is_empty()).unwrap_or_else(|| at(&by_id));
        match found.as_slice() {
            [] => Err(missing()),
            [one] => Ok(*one),
            several => {
                let all = several.iter().map(|at| self.describe(&self.index.manifests[*at]));
                let all = all.collect::<Vec<_>>().join(", ");
                Err(Failure::build(format!("{text} stands for several images: {all}")).hint("name one by its digest"))
            }
        }
    }

    fn describe(&self, one: &Descriptor) -> String {
        match &one.platform {
            Some(platform) => format!("{} ({platform})", one.digest),
            None => one.digest.to_string(),
        }
    }
}

/// The name after `docker://`; `None`: the store is looked at first.
pub(super) fn in_registry(text: &str) -> Option<&str> {
    text.strip_prefix(TRANSPORT)
}

/// A client for the registries of `names`.
pub(super) fn client(
    args: &ManifestRegistryArgs,
    names: impl IntoIterator<Item = String>,
    session: &Session<'_>,
) -> Result<Client, Failure> {
    let names: Vec<String> = if args.insecure { names.into_iter().collect() } else { Vec::new() };
    let names = names.iter().filter_map(|name| in_registry(name).unwrap_or(name).parse::<Reference>().ok());
    let insecure: Vec<String> = names.map(|name| name.registry).collect();
    let authfile = args.authfile.as_deref();
    Ok(Client::new(session.environment.registry_options(&insecure, &[], authfile, &args.connection)?))
}

/// Whether two images of a list are for the same platform. Attestations are for none.
pub(super) fn same_platform(a: &Descriptor, b: &Descriptor) -> bool {
    let normal = |one: &Descriptor| {
        let platform = one.platform.clone().filter(|_| !List::is_attestation(one));
        platform.map(Platform::normalized)
    };
    normal(a).is_some() && normal(a) == normal(b)
}
