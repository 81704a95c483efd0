#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| heartbeat::fuzzing::section(input, &heartbeat_fuzz::within));
