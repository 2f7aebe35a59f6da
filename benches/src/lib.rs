//! Benches only: `cargo bench -p exclave-benches` for the stages and the erasure kernels, `benches/end_to_end.py` for whole processes.
