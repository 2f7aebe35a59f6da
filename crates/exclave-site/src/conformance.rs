//! Whether a store keeps the contract of [`Site`]: checks that anyone can run against any site, and their findings.
