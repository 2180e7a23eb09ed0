//! Test layers: complete attributes, the same bytes for every user and snapshotter, and safety against hostile content.

mod bombs;
mod diff;
mod fuzz;
mod histories;
mod hostile;
mod loaded;
mod oracle;
mod owners;
mod repeats;
mod round_trip;
mod same_bytes;
mod segments;
mod snapshotters;
mod sparse;
mod stacks;

/// One raw member of an archive: any type, name and target, with a correct checksum.
fn member(owner: (u32, u32), kind: u8, name: &str, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    let block = header.as_mut_bytes();
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[156] = kind;
    header.set_mode(0o755);
    header.set_uid(owner.0.into());
    header.set_gid(owner.1.into());
    header.set_mtime(7);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

/// The same member with another mode.
fn with_mode(mode: &[u8; 8], mut member: Vec<u8>) -> Vec<u8> {
    member[100..108].copy_from_slice(mode);
    member[148..156].fill(b' ');
    let sum: u32 = member[..512].iter().map(|&b| u32::from(b)).sum();
    member[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    member
}
