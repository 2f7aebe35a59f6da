//! Buffers of whole shards and stripes that are used again and again.
//!
//! Fresh pages cost more than all arithmetic together (about 0.6 s/GB on the machine of DESIGN's figures), so a buffer goes
//! back to its pool when the last slice of it is dropped, wherever that happens. A buffer that leaves its pool for good is
//! wiped: it may have held plaintext.
//!
//! It is no noun. It stands here because the house's edges share it and may not use each other.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use zeroize::Zeroize;

/// A stock of buffers. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct BufferPool {
    free: Arc<Mutex<Stock>>,
    kept_max: usize,
}

#[derive(Debug, Default)]
struct Stock(Vec<Vec<u8>>);

impl Drop for Stock {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(Zeroize::zeroize);
    }
}

impl BufferPool {
    /// A pool that keeps at most `kept_max` unused buffers.
    pub fn new(kept_max: usize) -> Self {
        Self {
            free: Arc::default(),
            kept_max,
        }
    }

    /// A buffer of exactly `bytes` bytes; what is in it is arbitrary.
    pub fn take(&self, bytes: usize) -> PooledBuffer {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = free.0.iter().position(|buffer| buffer.capacity() >= bytes);
        let mut buffer = fitting.map_or_else(|| Vec::with_capacity(bytes), |at| free.0.swap_remove(at));
        drop(free);
        // Only what a shorter use left out has to be filled.
        buffer.resize(bytes, 0);
        PooledBuffer {
            buffer,
            pool: self.clone(),
        }
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.0.len() < self.kept_max {
            free.0.push(buffer);
        } else {
            drop(free);
            buffer.zeroize();
        }
    }
}

/// A buffer that returns to its pool.
pub struct PooledBuffer {
    buffer: Vec<u8>,
    pool: BufferPool,
}

impl PooledBuffer {
    /// Cuts it to at most `bytes` bytes.
    pub fn truncate(&mut self, bytes: usize) {
        self.buffer.truncate(bytes);
    }

    /// Shares the buffer; it goes back when the last slice is dropped.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl AsMut<[u8]> for PooledBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.buffer));
    }
}

impl std::fmt::Debug for PooledBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PooledBuffer({} B)", self.buffer.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_when_the_last_slice_goes() {
        let pool = BufferPool::new(1);
        let bytes = pool.take(100).into_bytes();
        let address = bytes.as_ptr();
        let slice = bytes.slice(10..20);
        drop(bytes);
        assert!(pool.free.lock().unwrap().0.is_empty());
        drop(slice);
        assert_eq!(pool.take(50).as_ref().as_ptr(), address);
    }
}
