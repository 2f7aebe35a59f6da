//! Memory stays bounded: many small files and a huge sparse one, out and back, under the process's own peak.
//!
//! Each test of this project runs in a process of its own, so the peak that the kernel reports is this test's.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt},
};

use exclave_engine::{RunOutcome, restore::Outcome};
use exclave_tests::{
    tree,
    world::{Whatever, World, WorldPlan},
};

/// What DESIGN section 10 grants a restore, in-flight stripes aside; the sites of this test hold their objects in the same
/// memory, which makes it stricter.
const PEAK_BYTES_MAX: u64 = 512 << 20;

const FILES: u32 = 100_000;
const SPARSE_BYTES: u64 = 10 << 30;

/// The greatest resident set that this process has had (proc(5), VmHWM).
fn peak_bytes() -> Result<u64, Whatever> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .ok_or("the kernel tells no peak")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}

#[test]
fn a_hundred_thousand_files_and_ten_sparse_gibibytes_fit_half_a_gibibyte() -> Result<(), Whatever> {
    let world = World::found(WorldPlan::new(2, 1))?;
    fs::remove_dir_all(&world.source)?;
    for folder in 0..100 {
        let path = world.source.join(format!("folder-{folder:02}"));
        fs::create_dir_all(&path)?;
        for file in 0..FILES / 100 {
            fs::write(
                path.join(format!("register-{file:04}.txt")),
                format!("record {folder} {file}\n"),
            )?;
        }
    }
    let sparse = File::create(world.source.join("sparse.img"))?;
    sparse.set_len(SPARSE_BYTES)?;
    for island in 0..8u64 {
        sparse.write_all_at(&tree::noise(1 << 20, island as u8), island * (SPARSE_BYTES / 8))?;
    }
    drop(sparse);

    let report = world.replicate()??;
    assert_eq!(report.outcome, RunOutcome::Committed);
    assert_eq!(report.counts.files, u64::from(FILES) + 1);
    let second = world.replicate()??;
    assert_eq!(second.counts, report.counts);

    let target = world.folder().join("restored");
    let restored = world.restore("land", &target, &[1])?;
    assert_eq!(restored.outcome(), Outcome::Complete);
    let stat = fs::metadata(target.join("sparse.img"))?;
    assert_eq!(stat.len(), SPARSE_BYTES);
    assert!(
        stat.blocks() * 512 < 64 << 20,
        "holes stay holes: {} blocks",
        stat.blocks()
    );
    assert_eq!(fs::read(target.join("folder-42/register-0007.txt"))?, b"record 42 7\n");

    let peak = peak_bytes()?;
    println!("peak resident set: {} MiB", peak >> 20);
    assert!(peak < PEAK_BYTES_MAX, "peak resident set {} MiB", peak >> 20);
    Ok(())
}
