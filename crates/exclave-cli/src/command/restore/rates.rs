//! How fast each site gives what a restore would fetch: one of these very shards is fetched and timed.
//!
//! Nothing is written, so read credentials suffice. One shard is a sample: good enough to tell hours from days.

use std::time::{Duration, Instant};

use exclave_engine::restore::{RestorePlan, SitePlan};

use crate::reader::Reader;

/// Bytes per second of each site of a plan, in its order; `None` where nothing would be fetched or nothing came.
pub(super) type Rates = Vec<Option<u64>>;

/// Measures all sites, one after the other, so that they don't share the line.
pub(super) fn measure(plan: &RestorePlan, reader: &Reader) -> Rates {
    let sites = plan.sites.iter().enumerate();
    sites.map(|(at, site)| measure_one(at, site, reader)).collect()
}

fn measure_one(at: usize, plan: &SitePlan, reader: &Reader) -> Option<u64> {
    let sample = plan.sample.as_ref()?;
    let site = &reader.archive.sites.get(at)?.site;
    let start = Instant::now();
    let fetched = reader.edge.block_on(site.get(&sample.name, sample.bytes)).ok()?;
    let took_us = start.elapsed().as_micros().max(1);
    u64::try_from(fetched.len() as u128 * 1_000_000 / took_us).ok()
}

/// How long a restore takes at these rates, all sites giving at the same time; `None` when one that is needed gave no
/// sample.
pub(super) fn duration(plan: &RestorePlan, rates: &Rates) -> Option<Duration> {
    let needed = plan.sites.iter().zip(rates).filter(|(site, _)| site.shards > 0);
    let seconds = needed
        .map(|(site, rate)| rate.map(|rate| site.bytes.div_ceil(rate.max(1))))
        .collect::<Option<Vec<u64>>>()?;
    seconds.into_iter().max().map(Duration::from_secs)
}
