//! Cuts a stream as it is read.

use std::io::{self, Read};

use super::Cutter;

/// Windows that the buffer holds: what remains of the last window is moved to the front once in `BUFFER_WINDOWS - 1`
/// windows instead of after every chunk.
const BUFFER_WINDOWS: usize = 3;

/// The stretch of input that the cutter looks at. Kept between files, so that small ones cost no allocation.
///
/// Memory: at most `BUFFER_WINDOWS` times the cutter's greatest chunk, and no more than twice the longest input seen.
#[derive(Default)]
pub(crate) struct Window {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Window {
    /// Forgets what was read before.
    pub(crate) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Takes the next chunk; `None` at the end of the input.
    ///
    /// `read` fills a slice from the front and returns how much, 0 at the end, as [`Read::read`] does.
    pub(crate) fn next_chunk(
        &mut self,
        cutter: &Cutter,
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Option<Vec<u8>>> {
        while self.end - self.start < cutter.max() {
            self.make_room(cutter.max());
            match read(self.buffer.get_mut(self.end..).unwrap_or_default()) {
                Ok(0) => break,
                Ok(count) => self.end = (self.end + count).min(self.buffer.len()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let window = self.buffer.get(self.start..self.end).unwrap_or_default();
        let length = cutter.cut(window);
        let chunk = window.get(..length).filter(|chunk| !chunk.is_empty());
        let chunk = chunk.map(<[u8]>::to_vec);
        self.start += length;
        Ok(chunk)
    }

    /// Leaves at least one free byte behind `end`: moves to the front, then grows.
    fn make_room(&mut self, chunk_bytes_max: usize) {
        if self.end < self.buffer.len() {
            return;
        }
        let capacity = chunk_bytes_max * BUFFER_WINDOWS;
        if self.start > 0 && self.buffer.len() >= capacity {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            // Doubling keeps small inputs in small buffers.
            let grown = (self.buffer.len() * 2).clamp(FIRST_BYTES.min(capacity), capacity.max(self.buffer.len() + 1));
            self.buffer.resize(grown, 0);
        }
    }
}

/// Bytes of a fresh buffer.
const FIRST_BYTES: usize = 64 << 10;

/// Yields the chunks of any reader, in order, each with its offset. Ends after the first error.
pub struct ChunkReader<R> {
    input: R,
    cutter: Cutter,
    window: Window,
    offset: u64,
    ended: bool,
}

impl<R: Read> ChunkReader<R> {
    /// Reads `input` to its end.
    pub fn new(input: R, cutter: Cutter) -> Self {
        Self {
            input,
            cutter,
            window: Window::default(),
            offset: 0,
            ended: false,
        }
    }

    /// Bytes handed on so far.
    pub fn bytes(&self) -> u64 {
        self.offset
    }

    /// Gives the reader back.
    pub fn into_inner(self) -> R {
        self.input
    }
}

impl<R: Read> Iterator for ChunkReader<R> {
    type Item = io::Result<crate::source::Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let input = &mut self.input;
        match self.window.next_chunk(&self.cutter, |buffer| input.read(buffer)) {
            Ok(Some(raw)) => {
                let offset = self.offset;
                self.offset += raw.len() as u64;
                Some(Ok(crate::source::Piece { offset, raw }))
            }
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(error) => {
                self.ended = true;
                Some(Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::tests::{lengths, noise, small},
        *,
    };

    /// Hands out the input in pieces of the given sizes, with an interruption before each.
    struct Drip<'a> {
        input: &'a [u8],
        sizes: Vec<usize>,
        turn: usize,
    }

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.turn += 1;
            if self.turn.is_multiple_of(2) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let size = self.sizes[self.turn / 2 % self.sizes.len()];
            let count = size.min(buffer.len()).min(self.input.len());
            buffer[..count].copy_from_slice(&self.input[..count]);
            self.input = &self.input[count..];
            Ok(count)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn chunks_join_to_the_input_however_it_arrives(
            length in 0usize..300_000,
            seed in any::<u64>(),
            sizes in proptest::collection::vec(1usize..40_000, 1..6),
            fixed in any::<bool>(),
        ) {
            let cutter = if fixed { Cutter::fixed(4096).unwrap() } else { small() };
            let input = noise(length, seed);
            let drip = Drip { input: &input, sizes, turn: 0 };
            let mut joined = Vec::new();
            let mut cut = Vec::new();
            for piece in ChunkReader::new(drip, cutter.clone()) {
                let piece = piece.unwrap();
                prop_assert_eq!(piece.offset, joined.len() as u64);
                cut.push(piece.raw.len());
                joined.extend_from_slice(&piece.raw);
            }
            prop_assert_eq!(&joined, &input);
            prop_assert_eq!(cut, lengths(&cutter, &input));
        }
    }

    #[test]
    fn memory_is_bounded_by_windows() {
        let cutter = small();
        let mut window = Window::default();
        let mut input = io::repeat(7).take(3_000_000);
        while window
            .next_chunk(&cutter, |buffer| input.read(buffer))
            .unwrap()
            .is_some()
        {}
        assert!(window.buffer.len() <= BUFFER_WINDOWS * cutter.max());
        let mut window = Window::default();
        let mut input = io::repeat(7).take(10);
        assert_eq!(
            window
                .next_chunk(&Cutter::fixed(4 << 20).unwrap(), |buffer| input.read(buffer))
                .unwrap(),
            Some(vec![7; 10])
        );
        assert!(window.buffer.len() <= FIRST_BYTES);
    }

    #[test]
    fn an_error_ends_the_stream() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let mut reader = ChunkReader::new(io::repeat(1).take(100).chain(Broken), small());
        assert!(reader.next().is_some_and(|piece| piece.is_err()));
        assert!(reader.next().is_none());
    }
}
