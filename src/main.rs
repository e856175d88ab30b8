//! The program `cupbearer`: reads the command line, runs the command, says how it ended.

use std::process::ExitCode;

/// Less memory and fewer instructions per request than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cupbearer::cli::main()
}
