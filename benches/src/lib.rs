//! Benches only: `cargo bench -p exclave-benches` for the stages, `benches/end_to_end.py` for whole processes.
