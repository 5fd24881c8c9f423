//! What keeps the heap small. glibc maps a large buffer by itself and unmaps it when it is freed, but whenever that happens
//! it raises the size from which a buffer is large, up to 32 MiB. Later buffers then lie in the heap, between small
//! ones that stay, and the memory of those that are freed remains in use. A size that is in the environment when
//! the process starts stays as it is; to set it later, unsafe code would be needed.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

const LARGE: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "131072");

/// Memory at the end of the heap that is not given back at once: else a buffer that is used again and again would be
/// taken from the system each time.
const SPARE: (&str, &str) = ("MALLOC_TRIM_THRESHOLD_", "1048576");

/// Executes the program again with these sizes in its environment, unless they are there. The process, its descriptors
/// and its arguments stay the same.
pub(crate) fn fix_sizes() {
    if !cfg!(target_env = "gnu") || env::var_os(LARGE.0).is_some() {
        return;
    }
    let Ok(program) = env::current_exe() else { return };
    let mut args = env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    let error = command.args(args).envs([LARGE, SPARE]).exec();
    // It does not return otherwise. Nothing depends on it.
    log::debug!("the heap may keep memory: {error}");
}
