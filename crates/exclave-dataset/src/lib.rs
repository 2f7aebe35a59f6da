//! The home edge: turns a dataset into chunks, and chunks back into a dataset.
//!
//! Modules in the order data travels:
//!
//! * [`walk`] finds what is there, in the order of the manifest, and says what it could not see;
//! * [`source`] reads files, images, commands and streams;
//! * [`cut`] divides what was read into chunks;
//! * [`pack`] compresses a chunk and back;
//! * [`page`] writes and reads the manifest, page by page;
//! * [`sink`] writes a tree, a tar stream or raw bytes back, and nothing outside.
//!
//! Plain threads, no async. No secret is seen here: the gear table arrives opaque. Nothing here asks for the date; only a
//! command's timeout watches a monotonic clock.

#![forbid(unsafe_code)]

pub mod cut; // divide
pub mod pack; // one chunk's stored form, and back
pub mod page; // the manifest
pub mod sink; // write back
pub mod source; // read
pub mod walk; // find
