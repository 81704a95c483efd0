#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| heartbeat::fuzzing::footer(input, &heartbeat_fuzz::within));
