//! Benches only. `cargo bench -p exclave-benches` measures stages and erasure kernels, each on one core;
//! `benches/end_to_end.py` measures whole processes, beside others' and beside the bound that `stage-costs` finds.
